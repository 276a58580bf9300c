//! Lines on standard error, without control characters.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

/// Escapes control characters, which could control the terminal or fake another line.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for next in text.trim_end().chars() {
        match next {
            '\n' => line.push(' '),
            control if control.is_control() => drop(write!(line, "{}", control.escape_default())),
            other => line.push(other),
        }
    }
    line
}

/// Writes a line to standard error. An error is ignored: the command goes on without a reader.
pub fn log_line(label: &str, message: &str) {
    let _ = writeln!(io::stderr(), "{label}: {}", one_line(message));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(one_line("a\nb\u{1b}[31m\n"), "a b\\u{1b}[31m");
    }
}

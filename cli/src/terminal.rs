//! Lines that a terminal shows, and standard error.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

/// A text without control characters, which could steer the terminal or feign another line.
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

/// Says something on standard error, in one line. That nobody may be reading there is no reason to fail.
pub fn say(label: &str, message: &str) {
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

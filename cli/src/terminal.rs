//! Lines on standard error, without control characters.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
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

/// How far a command is, on standard error: on a terminal a line that is rewritten in place, otherwise a
/// line for each change.
pub struct Progress {
    is_terminal: bool,
    shown: String,
}

impl Progress {
    pub fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), shown: String::new() }
    }

    pub fn show(&mut self, text: &str) {
        let text = one_line(text);
        if text == self.shown {
            return;
        }
        if self.is_terminal {
            // An error is ignored, as of other lines.
            let _ = write!(io::stderr(), "{ERASE_LINE}{text}");
        } else {
            log_line("intcred", &text);
        }
        self.shown = text;
    }

    /// Erases the line of a terminal, for those that follow.
    pub fn end(&mut self) {
        if self.is_terminal && !self.shown.is_empty() {
            let _ = write!(io::stderr(), "{ERASE_LINE}");
        }
        self.shown.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// To the first column, and erase.
const ERASE_LINE: &str = "\r\u{1b}[2K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(one_line("a\nb\u{1b}[31m\n"), "a b\\u{1b}[31m");
    }
}

//! Results on standard output, as JSON or as text.

use crate::{cli_error::CliError, terminal::one_line};
use anstream::{AutoStream, ColorChoice};
use clap::{ValueEnum, builder::styling::Style};
use serde::Serialize;
use std::io::{self, Write};
use unicode_width::UnicodeWidthStr;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// The form of the results.
#[derive(Clone, Copy)]
pub struct Output {
    pub json: bool,
    color: ColorChoice,
}

impl Output {
    pub fn new(json: bool, color: Color) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self { json, color }
    }

    /// Prints a result as JSON, or as the text that `human` makes of it.
    pub fn print<T: Serialize + ?Sized>(
        self,
        result: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        if self.json {
            return self.line(result);
        }
        self.write(&human(result))
    }

    /// Prints one line of JSON.
    pub fn line(self, result: &(impl Serialize + ?Sized)) -> Result<(), CliError> {
        let json = serde_json::to_string(result).map_err(|error| CliError::Output(error.into()))?;
        self.write(&json)
    }

    fn write(self, text: &str) -> Result<(), CliError> {
        let mut stdout = AutoStream::new(io::stdout().lock(), self.color);
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CliError::Output)
    }
}

/// A table with aligned columns; without rows, only the heading.
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| one_line(&cell))).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].width());
        cells.chain([heading[column].width()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width - cell.width() + 2));
        }
        line.truncate(line.trim_end().len());
        line
    };
    let bold = Style::new().bold();
    let mut table = format!("{bold}{}{bold:#}", line(heading));
    for row in &rows {
        table.push('\n');
        table.push_str(&line(row.each_ref().map(String::as_str)));
    }
    table
}

pub fn yes_or_no(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let table = table(["A", "B"], [["日本".into(), "1".into()], ["x".into(), String::new()]]);
        assert_eq!(anstream::adapter::strip_str(&table).to_string(), "A     B\n日本  1\nx");
    }
}

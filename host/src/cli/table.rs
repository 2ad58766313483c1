//! Columns that line up: a head, rows, two spaces between.

use super::{
    exit::Failure,
    output::{Output, Style, one_line},
};

#[derive(Debug)]
pub struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

/// One cell: its text, and what its colour says.
#[derive(Debug)]
pub struct Cell(String, Style);

impl Cell {
    pub fn plain(text: &(impl ToString + ?Sized)) -> Self {
        Self(one_line(&text.to_string()), Style::Plain)
    }

    /// A status or an outcome in its colour.
    pub fn word(word: &str) -> Self {
        Self(one_line(word), Style::of_word(word))
    }
}

impl Table {
    pub fn new(head: &'static [&'static str]) -> Self {
        Self { head, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn lines(&self, output: Output) -> Vec<String> {
        let mut widths: Vec<usize> = self.head.iter().map(|title| title.len()).collect();
        for row in &self.rows {
            for (width, Cell(text, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = (&str, Style)>| {
            let mut line = String::new();
            let mut owed = 0;
            for ((text, style), width) in cells.zip(&widths) {
                line.push_str(&" ".repeat(owed));
                line.push_str(&output.paint(style, text));
                owed = width - text.chars().count() + 2;
            }
            line
        };
        let head = line(&mut self.head.iter().map(|title| (*title, Style::Head)));
        let rows = self.rows.iter().map(|row| line(&mut row.iter().map(|c| (c.0.as_str(), c.1))));
        std::iter::once(head).chain(rows).map(|line| line.trim_end().to_owned()).collect()
    }

    pub fn print(&self, output: Output) -> Result<(), Failure> {
        self.lines(output).into_iter().try_for_each(|line| output.line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Colour, Format};

    #[test]
    fn columns_line_up_also_in_colour() {
        let mut table = Table::new(&["NAME", "STATE", "N"]);
        table.row([Cell::plain(&"lead-router"), Cell::word("running"), Cell::plain(&3)]);
        table.row([Cell::plain(&"ö"), Cell::word("paused"), Cell::plain(&12)]);
        let off = Output { format: Format::Text, colour: Colour::Off };
        assert_eq!(
            table.lines(off),
            ["NAME         STATE    N", "lead-router  running  3", "ö            paused   12"]
        );
        let on = table.lines(Output { colour: Colour::On, ..off });
        assert_eq!(on[2], "ö            \x1b[33mpaused\x1b[0m   12");
    }
}

//! Standard output for data, standard error for everything else; colour only where a person looks.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

use super::exit::Failure;

/// What a command prints with.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub format: Format,
    pub colour: Colour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    On,
    Off,
}

/// What a colour says. Never the only thing that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Head,
    Good,
    Warn,
    Bad,
    Faint,
}

impl Output {
    pub fn new(format: Format) -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour = if wanted && io::stdout().is_terminal() { Colour::On } else { Colour::Off };
        Self { format, colour }
    }

    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// One line of data.
    #[expect(clippy::unused_self, reason = "whoever prints holds the output")]
    pub fn line(self, text: impl Display) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// Bytes as they are: a reply's body, a state value.
    #[expect(clippy::unused_self, reason = "whoever prints holds the output")]
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// One JSON document on one line.
    pub fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(serde_json::to_string(value).expect("our own types are JSON"))
    }

    /// For the person, not for the pipe.
    #[expect(clippy::unused_self, reason = "whoever prints holds the output")]
    pub fn note(self, text: impl Display) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if self.colour == Colour::Off => return text.to_owned(),
            Style::Plain => return text.to_owned(),
            Style::Head => "1",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
            Style::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Style {
    /// The colour of a status, an outcome or a log level.
    pub fn of_word(word: &str) -> Self {
        match word {
            "done" | "delivered" | "running" => Self::Good,
            "retry" | "scheduled" | "pending" | "paused" | "warn" | "waiting" => Self::Warn,
            "dead" | "unknown" | "rejected" | "failed" | "trapped" | "timed-out"
            | "out-of-memory" | "unavailable" | "error" => Self::Bad,
            "debug" => Self::Faint,
            _ => Self::Plain,
        }
    }
}

/// Text from outside for one line of a terminal: what would move the cursor or break the line is escaped.
pub fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

/// The first `most` characters, with a mark where something was cut.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_drive_the_terminal() {
        assert_eq!(one_line("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("äöü", 3), "äöü");
    }

    #[test]
    fn colour_is_only_there_where_it_is_on() {
        let off = Output { format: Format::Text, colour: Colour::Off };
        assert_eq!(off.paint(Style::Bad, "dead"), "dead");
        let on = Output { colour: Colour::On, ..off };
        assert_eq!(on.paint(Style::Bad, "dead"), "\x1b[31mdead\x1b[0m");
        assert_eq!(on.paint(Style::Plain, "x"), "x");
    }
}

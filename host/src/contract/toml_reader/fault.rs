//! What is wrong in a text and where, shown with the line and a mark under it.

use std::{fmt, ops::Range};

use super::units::UnitError;

/// Everything that is wrong with a text, in the order of the text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: Option<String>,
    faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// Characters, counted from 1.
    pub column: usize,
    /// Dotted path of the key, such as `source[1].cron`; empty where the syntax is wrong.
    pub key: String,
    pub problem: Problem,
    source: String,
    /// Characters that are marked.
    width: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// No TOML.
    Syntax(String),
    UnknownKey {
        key: String,
        /// Empty for the top of the file.
        table: String,
        nearest: Option<&'static str>,
        valid: Vec<&'static str>,
    },
    /// A key that has its place elsewhere.
    Misplaced {
        key: &'static str,
        because: String,
    },
    Missing {
        key: &'static str,
        example: String,
    },
    WrongType {
        found: &'static str,
        expected: &'static str,
        example: String,
    },
    Unit {
        error: UnitError,
        example: String,
    },
    OutOfRange {
        key: &'static str,
        least: String,
        most: String,
    },
    NotOneOf {
        found: String,
        valid: Vec<&'static str>,
    },
    Duplicate {
        name: String,
        first_line: usize,
    },
    /// A name, target, cron line …: the text of its own error.
    Invalid(String),
}

/// A fault before it is known on which line.
#[derive(Debug)]
pub(super) struct Place {
    pub span: Range<usize>,
    pub key: String,
    pub problem: Problem,
}

impl Faults {
    pub(super) fn of(text: &str, mut places: Vec<Place>) -> Self {
        places.sort_by_key(|place| place.span.start);
        let faults = places.into_iter().map(|place| Fault::of(text, place)).collect();
        Self { file: None, faults }
    }

    /// Names the file in what is shown.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    pub fn list(&self) -> &[Fault] {
        &self.faults
    }
}

impl Fault {
    fn of(text: &str, place: Place) -> Self {
        let (line, column) = line_and_column(text, place.span.start);
        let source = text.lines().nth(line - 1).unwrap_or_default();
        let marked = text.get(place.span).and_then(|marked| marked.lines().next());
        let width = marked.map_or(1, |marked| marked.chars().count().max(1));
        Self {
            line,
            column,
            key: place.key,
            problem: place.problem,
            source: source.to_owned(),
            width,
        }
    }
}

/// Both counted from 1, columns in characters.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            if let Some(file) = &self.file {
                write!(f, "{file}:")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}: {}", self.line, self.column, self.problem)?;
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs stay tabs, so that the mark stands under its text whatever their width.
        let indent: String = self
            .source
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.source)?;
        write!(f, "{gutter} | {indent}{}", "^".repeat(self.width))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => write!(f, "this is no TOML: {message}"),
            Self::UnknownKey { key, table, nearest, valid } => {
                write!(f, "`{key}` is no key ")?;
                match table.as_str() {
                    "" => f.write_str("of this file")?,
                    table => write!(f, "of [{table}]")?,
                }
                if let Some(nearest) = nearest {
                    write!(f, ", did you mean `{nearest}`?")?;
                }
                write!(f, "; its keys are {}", valid.join(", "))
            }
            Self::Misplaced { key, because } => write!(f, "`{key}` has no place here: {because}"),
            Self::Missing { key, example } => {
                write!(f, "`{key}` is missing, for example `{example}`")
            }
            Self::WrongType { found, expected, example } => {
                write!(f, "expected {expected} such as `{example}`, found {found}")
            }
            Self::Unit { error, example } => write!(f, "{error}, for example `{example}`"),
            Self::OutOfRange { key, least, most } => {
                write!(f, "`{key}` must be at least {least} and at most {most}")
            }
            Self::NotOneOf { found, valid } => {
                let valid: Vec<_> = valid.iter().map(|word| format!("`{word}`")).collect();
                write!(f, "`{found}` is none of {}", valid.join(", "))
            }
            Self::Duplicate { name, first_line } => {
                write!(f, "`{name}` is already on line {first_line}")
            }
            Self::Invalid(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let problem = Problem::Invalid("no".to_owned());
        Faults::of(text, vec![Place { span, key: String::new(), problem }]).to_string()
    }

    #[test]
    fn a_fault_is_shown_under_its_line() {
        let text = "a = 1\n\tbäh = \"ü\" # x\n";
        let at = text.find("\"ü").unwrap();
        assert_eq!(shown(text, at..at + 4), "2:8: no\n  |\n2 | \tbäh = \"ü\" # x\n  | \t      ^^^");
        assert_eq!(shown("", 0..0), "1:1: no\n  |\n1 | \n  | ^");
        assert_eq!(shown("a", 1..1), "1:2: no\n  |\n1 | a\n  |  ^");
        // Past the end, over a line's end, inside a character.
        assert_eq!(shown("a", 7..9), "1:2: no\n  |\n1 | a\n  |  ^");
        assert_eq!(shown("ab\ncd", 1..5), "1:2: no\n  |\n1 | ab\n  |  ^");
        assert_eq!(shown("ü", 1..2), "1:1: no\n  |\n1 | ü\n  | ^");
    }

    #[test]
    fn several_faults_come_in_the_order_of_the_text() {
        let place = |at: usize| Place {
            span: at..at + 1,
            key: String::new(),
            problem: Problem::Invalid("no".to_owned()),
        };
        let faults = Faults::of("ab", vec![place(1), place(0)]).in_file("x.toml");
        assert_eq!(
            faults.to_string(),
            "x.toml:1:1: no\n  |\n1 | ab\n  | ^\n\nx.toml:1:2: no\n  |\n1 | ab\n  |  ^"
        );
    }
}

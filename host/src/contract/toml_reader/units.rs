//! Sizes and durations as people write them: `64KiB`, `500ms`.

use std::time::Duration;

/// Units of sizes, in bytes.
pub const SIZES: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Units of durations, in milliseconds.
pub const DURATIONS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no size or duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{text}` has no unit; use {}", words(units))]
    Missing { text: String, units: &'static [(&'static str, u64)] },
    #[error("`{unit}` is no unit; use {}", words(units))]
    Unknown { unit: String, units: &'static [(&'static str, u64)] },
    #[error("`{text}` is no whole number with a unit; use {}", words(units))]
    Number { text: String, units: &'static [(&'static str, u64)] },
}

fn words(units: &[(&str, u64)]) -> String {
    let names: Vec<_> = units.iter().rev().map(|(name, _)| *name).collect();
    match names.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Bytes: `512B`, `64KiB`, `1MiB`, `2GiB`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, SIZES)
}

/// `500ms`, `10s`, `5m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    parse(text, DURATIONS).map(Duration::from_millis)
}

fn parse(text: &str, units: &'static [(&'static str, u64)]) -> Result<u64, UnitError> {
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let no_number = || UnitError::Number { text: text.to_owned(), units };
    let number: u64 = number.parse().map_err(|_| no_number())?;
    let unit = unit.trim_start();
    match units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => number.checked_mul(*factor).ok_or_else(no_number),
        None if unit.is_empty() => Err(UnitError::Missing { text: text.to_owned(), units }),
        None if unit.bytes().all(|b| b.is_ascii_alphabetic()) => {
            Err(UnitError::Unknown { unit: unit.to_owned(), units })
        }
        None => Err(no_number()),
    }
}

/// In the largest unit that leaves it whole.
pub fn show_size(bytes: u64) -> String {
    show(bytes, SIZES)
}

/// In the largest unit that leaves it whole; below a millisecond is cut off.
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATIONS)
}

fn show(number: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor))
        .map_or_else(
            || format!("{number}{}", units.last().map_or("", |(name, _)| name)),
            |(name, factor)| format!("{}{name}", number / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_and_written_back() {
        for (text, bytes) in
            [("0B", 0), ("7B", 7), ("64KiB", 65_536), ("1MiB", 1 << 20), ("3GiB", 3 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(show_size(bytes), text);
        }
        assert_eq!(parse_size(" 64 KiB "), Ok(65_536));
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(show_size(1025), "1025B");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn other_writings_are_refused_with_the_units() {
        for (text, says) in [
            ("64", "`64` has no unit; use B, KiB, MiB or GiB"),
            ("64KB", "`KB` is no unit; use B, KiB, MiB or GiB"),
            ("64kib", "`kib` is no unit"),
            ("", "`` is no whole number with a unit"),
            ("KiB", "`KiB` is no whole number"),
            ("1.5MiB", "`1.5MiB` is no whole number"),
            ("-1KiB", "`-1KiB` is no whole number"),
            ("99999999999GiB", "is no whole number"),
        ] {
            let error = parse_size(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        for (text, says) in [
            ("10", "`10` has no unit; use ms, s, m, h or d"),
            ("10sec", "`sec` is no unit; use ms, s, m, h or d"),
            ("1m30s", "`1m30s` is no whole number with a unit"),
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

//! Times, spans and sizes as people write and read them.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

use crate::contract::toml_reader::units::parse_duration;

/// `2026-11-23 05:14:43.123Z`: always UTC, so that two nodes and their logs agree.
pub fn moment(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(DateTime::<Utc>::from_timestamp_millis)
        .map_or_else(|| format!("{unix_ms} ms"), |at| at.format("%F %T%.3fZ").to_string())
}

/// `842 µs`, `3.1 ms`, `4.2 s`, `12 min 5 s`.
pub fn span_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        1_000_000..60_000_000 => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
        _ => span_s(us / 1_000_000),
    }
}

/// `12 s`, `3 min 4 s`, `2 h 5 min`, `3 d 4 h`.
pub fn span_s(s: u64) -> String {
    let two = |big: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{big} {unit}"),
        rest => format!("{big} {unit} {rest} {small}"),
    };
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => two(s / 60, "min", s % 60, "s"),
        3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// `214 B`, `3.4 KiB`, `12.0 MiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units.into_iter().find(|(bits, _)| bytes >> bits > 0);
    fits.map_or_else(
        || format!("{bytes} B"),
        |(bits, unit)| {
            let tenths = (bytes >> (bits - 10)) * 10 / 1024;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
}

/// Reads `500ms`, `10s`, `2m` or plain seconds; for clap.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let wrong = || "write a whole number and ms, s or m, as in 500ms, 10s, 2m".to_owned();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" | "min" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(wrong()),
    }
}

/// A moment as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In Unix ms.
    At(u64),
    Ago(Duration),
}

impl When {
    /// In Unix ms.
    pub fn unix_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(unix_ms) => unix_ms,
            Self::Ago(span) => {
                now_ms.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
}

/// Reads `2h` (ago), `2026-11-23`, `2026-11-23T05:14:43+01:00` or what [`moment`] prints; for clap.
pub fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(span) = parse_duration(text) {
        return Ok(When::Ago(span));
    }
    let day = NaiveDate::parse_from_str(text, "%F").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    let at = match day {
        Some(day) => Some(day.and_utc()),
        None => DateTime::parse_from_rfc3339(text).ok().map(Into::into),
    };
    let unix_ms = at.and_then(|at| u64::try_from(at.timestamp_millis()).ok());
    unix_ms.map(When::At).ok_or_else(|| {
        "write how long ago (30m, 2h, 3d) or when, in UTC unless it says otherwise (2026-11-23, 2026-11-23T05:14:43Z)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!(moment(1_700_000_000_123), "2023-11-14 22:13:20.123Z");
        assert_eq!(moment(u64::MAX), "18446744073709551615 ms");
        for (us, text) in
            [(7, "7 µs"), (3_140, "3.1 ms"), (4_250_000, "4.2 s"), (725_000_000, "12 min 5 s")]
        {
            assert_eq!(span_us(us), text);
        }
        assert_eq!((span_s(7_500), span_s(86_400)), ("2 h 5 min".into(), "1 d".into()));
        for (bytes, text) in
            [(214, "214 B"), (3_500, "3.4 KiB"), (12 << 20, "12.0 MiB"), (3 << 29, "1.5 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_are_read_strictly() {
        assert_eq!(parse_span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_span("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_span("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse_span("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "1h", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_said_in_several_ways() {
        let at = 1_700_000_000_123;
        assert_eq!(parse_when("2h").unwrap().unix_ms(at), at - 7_200_000);
        for text in ["2023-11-14 22:13:20.123Z", "2023-11-14T23:13:20.123+01:00"] {
            assert_eq!(parse_when(text), Ok(When::At(at)), "{text}");
        }
        assert_eq!(parse_when("1970-01-02"), Ok(When::At(86_400_000)));
        for text in ["", "yesterday", "2023-13-01", "1969-01-01"] {
            assert!(parse_when(text).unwrap_err().contains("how long ago"), "{text}");
        }
    }
}

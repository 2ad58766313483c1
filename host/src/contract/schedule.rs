//! When a schedule ticks: cron with seconds, in a time zone.
//!
//! Where daylight saving begins or ends, a line that names one time of day (`30 2 * * *`) fires once on that day:
//! at the first second after a gap that swallows its time, and at the first of two equal wall clock times.
//! A line with a wildcard, list or step in second, minute or hour goes by the wall clock: its times in the gap do not
//! exist and are left out, and each of the repeated ones counts.

use std::collections::VecDeque;

use chrono::DateTime;
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use crate::model::clock::UnixMs;

/// A cron line that was read and found right, with its time zone. [`Schedule::parse`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Six fields (second first) or five (at second 0), as written.
    pub cron: String,
    /// IANA name, `UTC` unless said otherwise.
    pub timezone: Tz,
    pub missed: Missed,
    parsed: Box<Cron>,
}

/// `missed`: what becomes of ticks that were due while nobody could take them in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// One tick, for the latest of them.
    #[default]
    Once,
    /// Each of them, oldest first.
    All,
}

/// Why there is no such schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error(
        "a cron line has five fields (minute hour day month weekday) or six (second first), this has {found}"
    )]
    Fields { found: usize },
    #[error("`{text}` is no {field}; use {allowed}")]
    Field { field: &'static str, text: String, allowed: &'static str },
    #[error("`{cron}` is no cron line: {reason}")]
    Cron { cron: String, reason: String },
    #[error("`{cron}` names a day that never comes")]
    NeverTicks { cron: String },
    #[error("`{name}` is no time zone{}; use an IANA name such as `Europe/Berlin`",
        nearest.map_or_else(String::new, |it| format!(", did you mean `{it}`?")))]
    Timezone { name: String, nearest: Option<&'static str> },
}

const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// What each field is and what may stand in it.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59, with `*`, `,`, `-` and `/`"),
    ("minute", "0 to 59, with `*`, `,`, `-` and `/`"),
    ("hour", "0 to 23, with `*`, `,`, `-` and `/`"),
    ("day of the month", "1 to 31, with `*`, `,`, `-`, `/`, `L` (last) and `W` (nearest weekday)"),
    ("month", "1 to 12 or JAN to DEC, with `*`, `,`, `-` and `/`"),
    ("weekday", "0 to 7 (both are Sunday) or SUN to SAT, with `*`, `,`, `-`, `/`, `#` and `L`"),
];

impl Schedule {
    /// Reads a cron line of five or six fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    pub fn parse(cron: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let schedule = Self {
            cron: cron.to_owned(),
            timezone: parse_timezone(timezone)?,
            missed: Missed::default(),
            parsed: Box::new(parse_cron(cron)?),
        };
        // Without a year in the pattern, what comes after 1970 comes for ever.
        if schedule.next_after(0).is_none() {
            return Err(ScheduleError::NeverTicks { cron: cron.to_owned() });
        }
        Ok(schedule)
    }

    #[must_use]
    pub fn missed(self, missed: Missed) -> Self {
        Self { missed, ..self }
    }

    /// The first tick later than `after`; none only where the calendar ends.
    pub fn next_after(&self, after: UnixMs) -> Option<UnixMs> {
        let seconds = i64::try_from(after / 1000).ok()?;
        let from = DateTime::from_timestamp(seconds, 0)?.with_timezone(&self.timezone);
        let next = self.parsed.find_next_occurrence(&from, false).ok()?;
        u64::try_from(next.timestamp_millis()).ok().filter(|next| *next > after)
    }

    /// The latest ticks, `most` at most, that are later than `after` and not later than `until`, oldest first; and
    /// whether there were more.
    pub fn latest(&self, after: UnixMs, until: UnixMs, most: usize) -> (VecDeque<UnixMs>, bool) {
        // Ticks are only found forward. So that a second's schedule is not gone through from years ago, the search
        // begins near the end, and farther away as long as too little is found.
        let mut span_ms: u64 = 60_000;
        loop {
            let from = until.saturating_sub(span_ms).max(after);
            let mut ticks = VecDeque::new();
            let mut has_more = false;
            let mut at = from;
            while let Some(tick) = self.next_after(at).filter(|tick| *tick <= until) {
                if ticks.len() == most {
                    ticks.pop_front();
                    has_more = true;
                }
                ticks.push_back(tick);
                at = tick;
            }
            if has_more || from <= after {
                return (ticks, has_more);
            }
            span_ms = span_ms.saturating_mul(4);
        }
    }
}

fn parse_timezone(name: &str) -> Result<Tz, ScheduleError> {
    name.parse().map_err(|_| ScheduleError::Timezone {
        name: name.to_owned(),
        nearest: nearest_timezone(name),
    })
}

/// Also finds `Europe/Berlin` for `Berlin`.
fn nearest_timezone(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    let likeness = |known: &str| {
        let known = known.to_ascii_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        strsim::jaro_winkler(&wanted, &known).max(strsim::jaro_winkler(&wanted, city))
    };
    TZ_VARIANTS
        .iter()
        .map(|zone| (likeness(zone.name()), zone.name()))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

fn parse_cron(cron: &str) -> Result<Cron, ScheduleError> {
    let fields: Vec<&str> = cron.split_whitespace().collect();
    let is_nickname = NICKNAMES.iter().any(|it| it.eq_ignore_ascii_case(cron.trim()));
    if !matches!(fields.len(), 5 | 6) && !is_nickname {
        return Err(ScheduleError::Fields { found: fields.len() });
    }
    // Nothing between commas would be taken for a field that never comes.
    let is_gappy = |field: &&str| field.split(',').any(str::is_empty);
    if let Some(at) = fields.iter().position(is_gappy) {
        let (field, allowed) = FIELDS[at + FIELDS.len() - fields.len()];
        return Err(ScheduleError::Field { field, text: fields[at].to_owned(), allowed });
    }
    parser().parse(cron).map_err(|error| {
        wrong_field(&fields).unwrap_or_else(|| ScheduleError::Cron {
            cron: cron.to_owned(),
            reason: error.to_string(),
        })
    })
}

/// The field that is wrong even when all the others are `*`.
fn wrong_field(fields: &[&str]) -> Option<ScheduleError> {
    let names = FIELDS.iter().skip(FIELDS.len().saturating_sub(fields.len()));
    fields.iter().zip(names).enumerate().find_map(|(at, (text, (field, allowed)))| {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = text;
        parser().parse(&alone.join(" ")).is_err().then(|| ScheduleError::Field {
            field,
            text: (*text).to_owned(),
            allowed,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(rfc3339: &str) -> UnixMs {
        let time = DateTime::parse_from_rfc3339(rfc3339).unwrap();
        u64::try_from(time.timestamp_millis()).unwrap()
    }

    /// The ticks that follow `after`, as wall clock time with the offset of that moment.
    fn ticks(cron: &str, timezone: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(cron, timezone).unwrap_or_else(|error| panic!("{error}"));
        let mut now = ms(after);
        (0..count)
            .map(|_| {
                now = schedule.next_after(now).expect("the calendar goes on");
                let time = DateTime::from_timestamp_millis(i64::try_from(now).unwrap()).unwrap();
                time.with_timezone(&schedule.timezone).format("%m-%d %H:%M:%S%:z").to_string()
            })
            .collect()
    }

    #[test]
    fn ticks_come_strictly_after() {
        let every_minute = Schedule::parse("* * * * *", "UTC").unwrap();
        let tick = ms("2026-01-01T00:01:00Z");
        assert_eq!(every_minute.next_after(tick - 60_000), Some(tick));
        assert_eq!(every_minute.next_after(tick - 1), Some(tick));
        assert_eq!(every_minute.next_after(tick), Some(tick + 60_000));
        assert_eq!(every_minute.next_after(tick + 999), Some(tick + 60_000));
        assert_eq!(every_minute.next_after(u64::MAX), None);
    }

    /// A fuzzer found a line that was searched for until the year 5000, second by second.
    #[test]
    fn nothing_between_commas_is_no_field() {
        for (cron, name) in
            [(", * * * *", "minute"), ("* 1,,2 * * *", "hour"), (", * * * * *", "second")]
        {
            match Schedule::parse(cron, "UTC") {
                Err(ScheduleError::Field { field, .. }) => assert_eq!(field, name),
                other => panic!("{cron}: {other:?}"),
            }
        }
    }

    #[test]
    fn five_fields_six_fields_and_nicknames() {
        for (cron, expected) in [
            ("*/15 * * * *", ["01-01 00:15:00+00:00", "01-01 00:30:00+00:00"]),
            ("*/20 * * * * *", ["01-01 00:00:20+00:00", "01-01 00:00:40+00:00"]),
            ("0 9 * * MON-FRI", ["01-01 09:00:00+00:00", "01-02 09:00:00+00:00"]),
            ("0 0 L * *", ["01-31 00:00:00+00:00", "02-28 00:00:00+00:00"]),
            ("0 9 * * mon#1", ["01-05 09:00:00+00:00", "02-02 09:00:00+00:00"]),
            ("0 12 29 2 *", ["02-29 12:00:00+00:00", "02-29 12:00:00+00:00"]),
            ("@daily", ["01-02 00:00:00+00:00", "01-03 00:00:00+00:00"]),
        ] {
            assert_eq!(ticks(cron, "UTC", "2026-01-01T00:00:00Z", 2), expected, "{cron}");
        }
    }

    #[test]
    fn a_time_in_the_gap_fires_once_right_after_it() {
        // Berlin goes from 02:00 to 03:00 on 29 March 2026.
        assert_eq!(
            ticks("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 4),
            [
                "03-28 02:30:00+01:00",
                "03-29 03:00:00+02:00",
                "03-30 02:30:00+02:00",
                "03-31 02:30:00+02:00"
            ]
        );
        // New York goes from 02:00 to 03:00 on 8 March 2026.
        assert_eq!(
            ticks("30 2 * * *", "America/New_York", "2026-03-07T00:00:00Z", 3),
            ["03-07 02:30:00-05:00", "03-08 03:00:00-04:00", "03-09 02:30:00-04:00"]
        );
    }

    #[test]
    fn a_time_that_comes_twice_fires_once_at_its_first() {
        // Berlin goes back from 03:00 to 02:00 on 25 October 2026.
        assert_eq!(
            ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["10-25 02:30:00+02:00", "10-26 02:30:00+01:00"]
        );
        // New York goes back from 02:00 to 01:00 on 1 November 2026.
        assert_eq!(
            ticks("15 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2),
            ["11-01 01:15:00-04:00", "11-02 01:15:00-05:00"]
        );
    }

    #[test]
    fn a_wildcard_leaves_the_gap_out_and_counts_both_of_the_overlap() {
        assert_eq!(
            ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:29:00Z", 3),
            ["03-29 01:30:00+01:00", "03-29 03:00:00+02:00", "03-29 03:30:00+02:00"]
        );
        assert_eq!(
            ticks("0 * * * *", "Europe/Berlin", "2026-10-24T23:59:00Z", 3),
            ["10-25 02:00:00+02:00", "10-25 02:00:00+01:00", "10-25 03:00:00+01:00"]
        );
        assert_eq!(
            ticks("0 * * * *", "America/New_York", "2026-11-01T04:59:00Z", 3),
            ["11-01 01:00:00-04:00", "11-01 01:00:00-05:00", "11-01 02:00:00-05:00"]
        );
    }

    #[test]
    fn what_is_no_schedule_says_which_part() {
        for (cron, timezone, says) in [
            ("", "UTC", "this has 0"),
            (
                "* * * *",
                "UTC",
                "a cron line has five fields (minute hour day month weekday) or six (second first), this has 4",
            ),
            ("* * * * * * 2026", "UTC", "this has 7"),
            ("@often", "UTC", "this has 1"),
            ("0 25 * * *", "UTC", "`25` is no hour; use 0 to 23"),
            ("60 * * * *", "UTC", "`60` is no minute"),
            ("60 0 * * * *", "UTC", "`60` is no second"),
            ("0 0 32 * *", "UTC", "`32` is no day of the month"),
            ("0 0 1 FOO *", "UTC", "`FOO` is no month"),
            ("0 0 * * 8", "UTC", "`8` is no weekday"),
            ("0 0 31 2 *", "UTC", "`0 0 31 2 *` names a day that never comes"),
            ("* * * * *", "Europe/Belrin", "did you mean `Europe/Berlin`?"),
            ("* * * * *", "europe/berlin", "did you mean `Europe/Berlin`?"),
            ("* * * * *", "Berlin", "did you mean `Europe/Berlin`?"),
            ("* * * * *", "America/New York", "did you mean `America/New_York`?"),
            ("* * * * *", "", "`` is no time zone; use an IANA name"),
            ("* * * * *", "xyzzy", "`xyzzy` is no time zone; use an IANA name"),
        ] {
            let error = Schedule::parse(cron, timezone).expect_err(cron).to_string();
            assert!(error.contains(says), "{cron} {timezone}: {error}");
        }
    }
}

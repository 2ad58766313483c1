//! When a schedule ticks: cron with seconds, in a time zone.

/// A cron line that was read and found right, with its time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Six fields (second first) or five (at second 0), as written.
    pub cron: String,
    /// IANA name, `UTC` unless said otherwise.
    pub timezone: chrono_tz::Tz,
}

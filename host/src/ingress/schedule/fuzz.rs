//! What a fuzzer runs on schedules.

use super::plan::Plan;
use crate::{
    contract::schedule::Schedule,
    model::{clock::UnixMs, fuzz::Input},
    store::Catalogue,
};

/// The year 2012. Before it some places left a whole day out, where a schedule finds no next tick; no node runs then.
const START_MS: UnixMs = 1_325_376_000_000;
/// The year 2400: no node asks beyond it.
const END_MS: UnixMs = 13_569_465_600_000;
/// A thousand years; a leap day on a given weekday may be 40 years away.
const CALENDAR_MS: UnixMs = 31_556_952_000 * 1000;
/// Of a plan's clock, and ticks that are taken in each.
const STEPS: usize = 24;
const TICKS: usize = 20;
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Pacific/Apia",
];

/// A schedule that is taken ticks for ever, and none of its ticks is passed over.
pub fn cron(mut input: Input<'_>) {
    let zone = ZONES[usize::from(input.byte()) % ZONES.len()];
    let after = START_MS + input.long() % (END_MS - START_MS);
    let later = u64::from(input.short());
    let Ok(cron) = std::str::from_utf8(input.rest()) else { return };
    let Ok(schedule) = Schedule::parse(cron, zone) else { return };
    assert_eq!(Schedule::parse(cron, zone).as_ref(), Ok(&schedule));
    let mut at = after;
    for _ in 0..3 {
        let next = schedule.next_after(at);
        let next = next.unwrap_or_else(|| panic!("`{cron}` in {zone} does not tick after {at}"));
        assert!(next > at && next - at < CALENDAR_MS);
        // Wherever between the two one looks from, it is the next one.
        let between = at + later * 1000 % (next - at);
        assert_eq!(schedule.next_after(between), Some(next), "`{cron}` in {zone} after {between}");
        assert_eq!(schedule.next_after(next - 1), Some(next), "`{cron}` in {zone} before {next}");
        at = next;
    }
    let (latest, _) = schedule.latest(after, at, 3);
    assert_eq!(latest.back(), Some(&at));
    assert!(latest.len() == 3 && latest.iter().is_sorted(), "{latest:?}");
}

/// A plan gives each tick once, also when the clock jumps.
pub fn plan(mut input: Input<'_>) {
    let missed = ["skip", "once", "all"][usize::from(input.byte()) % 3];
    let cron =
        ["* * * * * *", "*/7 * * * *", "30 2 * * *", "0 0 29 2 *"][usize::from(input.byte()) % 4];
    let zone = ZONES[usize::from(input.byte()) % ZONES.len()];
    let manifest = format!(
        "name = \"a\"\nversion = \"1\"\n[[source]]\nname = \"tick\"\nkind = \"schedule\"\n\
         cron = \"{cron}\"\ntimezone = \"{zone}\"\nmissed = \"{missed}\""
    );
    let catalogue = Catalogue::of_one(&manifest, None);
    let (mut plan, mut now) = (Plan::default(), 1_700_000_000_000_u64);
    let mut fired = now;
    plan.follow(&catalogue, |_| Some(fired), now);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 4 {
            0 => now = now.saturating_sub(u64::from(input.short()) * 1000),
            1 => {
                plan = Plan::default();
                plan.follow(&catalogue, |_| Some(fired), now);
            }
            _ => now += u64::from(input.short()) * 1000,
        }
        for _ in 0..TICKS {
            let Some(due) = plan.take_due(now).pop() else { break };
            assert!(due.nominal_ms > fired, "it was fired before");
            assert!(due.nominal_ms <= now, "it is not due yet");
            if input.byte().is_multiple_of(8) {
                plan.refused(&due, now);
                break;
            }
            fired = due.nominal_ms;
            plan.fired(due);
        }
    }
}

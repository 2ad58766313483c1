//! Which schedule ticks when, and what becomes of ticks that were missed. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    contract::{
        manifest::SourceKind,
        schedule::{Missed, Schedule},
    },
    model::{clock::UnixMs, name::Name},
    store::Catalogue,
};

/// The longest sleep, so that a clock that was set is noticed; also the rest after a refusal.
pub(super) const NAP: Duration = Duration::from_secs(1);
const NAP_MS: UnixMs = 1000;
/// With `missed = "skip"`, how late a tick may be.
const LATE_MS: UnixMs = 60_000;
/// With `missed = "all"`, how many are made up for: the latest.
pub(super) const MADE_UP_MAX: usize = 1000;

/// Solution and source.
pub(super) type Key = (Name, Name);

/// When each schedule ticks next.
#[derive(Debug, Default)]
pub(super) struct Plan {
    entries: BTreeMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    is_paused: bool,
    /// The last tick that was taken in, or where the schedule began: as in its row.
    fired_ms: UnixMs,
    /// Ticks up to here are fired, wait below, or are left out; at least `fired_ms`.
    looked_ms: UnixMs,
    /// The first tick after `looked_ms`.
    next_ms: Option<UnixMs>,
    /// Due, oldest first; at most [`MADE_UP_MAX`].
    waiting: VecDeque<UnixMs>,
    /// A tick was refused: until when nothing is tried.
    rest_until_ms: Option<UnixMs>,
}

/// A tick that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DueTick {
    pub solution: Name,
    pub source: Name,
    pub nominal_ms: UnixMs,
    /// Older ones than it were left out, because there were more than [`MADE_UP_MAX`].
    pub is_cut: bool,
}

/// What becomes of a tick that was refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    LeftOut,
    TriedAgain,
    /// As it was said before.
    TriedAgainStill,
}

impl Plan {
    /// Takes over what is deployed now. `fired_ms` tells a schedule's row.
    pub fn follow(
        &mut self,
        catalogue: &Catalogue,
        fired_ms: impl Fn(&Key) -> Option<UnixMs>,
        now_ms: UnixMs,
    ) {
        let mut before = std::mem::take(&mut self.entries);
        for (key, schedule, is_paused) in schedules(catalogue) {
            let fired_ms = fired_ms(&key);
            let goes_on = before.remove(&key).filter(|entry| entry.schedule == *schedule);
            let mut entry =
                goes_on.unwrap_or_else(|| Entry::new(schedule.clone(), fired_ms, now_ms));
            entry.is_paused = is_paused;
            entry.begin_after(fired_ms.unwrap_or(0));
            self.entries.insert(key, entry);
        }
    }

    /// Ticks that are due, at most one of each schedule.
    pub fn take_due(&mut self, now_ms: UnixMs) -> Vec<DueTick> {
        let due = self.entries.iter_mut().filter_map(|((solution, source), entry)| {
            let (nominal_ms, is_cut) = entry.take_due(now_ms)?;
            Some(DueTick { solution: solution.clone(), source: source.clone(), nominal_ms, is_cut })
        });
        due.collect()
    }

    /// The tick is kept, now or before.
    pub fn fired(&mut self, tick: DueTick) {
        let DueTick { solution, source, nominal_ms, .. } = tick;
        if let Some(entry) = self.entries.get_mut(&(solution, source)) {
            entry.begin_after(nominal_ms);
            entry.rest_until_ms = None;
        }
    }

    /// There was no room for the tick.
    pub fn refused(&mut self, tick: &DueTick, now_ms: UnixMs) -> Refused {
        let key = (tick.solution.clone(), tick.source.clone());
        let Some(entry) = self.entries.get_mut(&key) else { return Refused::LeftOut };
        if entry.schedule.missed == Missed::Skip {
            return Refused::LeftOut;
        }
        // Counts as missed: which ticks are made up for is found anew when there may be room.
        entry.waiting.clear();
        entry.look(entry.fired_ms);
        match entry.rest_until_ms.replace(now_ms + NAP_MS) {
            None => Refused::TriedAgain,
            Some(_) => Refused::TriedAgainStill,
        }
    }

    pub fn sleep(&self, now_ms: UnixMs) -> Duration {
        let wait_ms = self.entries.values().filter_map(|entry| entry.wait_ms(now_ms)).min();
        wait_ms.map_or(NAP, |wait_ms| Duration::from_millis(wait_ms).min(NAP))
    }
}

impl Entry {
    fn new(schedule: Schedule, fired_ms: Option<UnixMs>, now_ms: UnixMs) -> Self {
        let looked_ms = match (schedule.missed, fired_ms) {
            (Missed::Skip, fired_ms) => fired_ms.unwrap_or(0).max(now_ms),
            (_, fired_ms) => fired_ms.unwrap_or(now_ms),
        };
        Self {
            next_ms: schedule.next_after(looked_ms),
            schedule,
            is_paused: false,
            fired_ms: fired_ms.unwrap_or(0),
            looked_ms,
            waiting: VecDeque::new(),
            rest_until_ms: None,
        }
    }

    /// No tick up to `fired_ms` comes (again).
    fn begin_after(&mut self, fired_ms: UnixMs) {
        self.fired_ms = self.fired_ms.max(fired_ms);
        self.waiting.retain(|tick| *tick > fired_ms);
        if self.looked_ms < self.fired_ms {
            self.look(self.fired_ms);
        }
    }

    fn look(&mut self, until_ms: UnixMs) {
        self.looked_ms = until_ms;
        self.next_ms = self.schedule.next_after(until_ms);
    }

    fn take_due(&mut self, now_ms: UnixMs) -> Option<(UnixMs, bool)> {
        if self.looked_ms > now_ms.max(self.fired_ms) {
            // The clock went back. What was fired stays so; what was only passed comes (again).
            self.waiting.clear();
            self.look(now_ms.max(self.fired_ms));
        }
        if self.is_resting(now_ms) {
            return None;
        }
        let mut is_cut = false;
        if self.waiting.is_empty() && self.next_ms.is_some_and(|next_ms| next_ms <= now_ms) {
            let most = if self.schedule.missed == Missed::All { MADE_UP_MAX } else { 1 };
            let (due, has_more) = self.schedule.latest(self.looked_ms, now_ms, most);
            is_cut = has_more && self.schedule.missed == Missed::All;
            self.waiting = due;
            if self.schedule.missed == Missed::Skip {
                self.waiting.retain(|tick| now_ms - tick <= LATE_MS);
            }
            self.look(now_ms);
        }
        if self.is_paused {
            self.waiting.clear();
        }
        self.waiting.pop_front().map(|tick| (tick, is_cut))
    }

    /// A rest that is longer than a rest can be is from before the clock was set back.
    fn is_resting(&self, now_ms: UnixMs) -> bool {
        self.rest_until_ms.is_some_and(|until_ms| now_ms < until_ms && until_ms - now_ms <= NAP_MS)
    }

    fn wait_ms(&self, now_ms: UnixMs) -> Option<u64> {
        if self.is_resting(now_ms) {
            return self.rest_until_ms.map(|until_ms| until_ms - now_ms);
        }
        if !self.waiting.is_empty() {
            return Some(0);
        }
        self.next_ms.map(|next_ms| next_ms.saturating_sub(now_ms))
    }
}

/// All schedules that are deployed, and whether their source is paused.
pub(super) fn schedules(catalogue: &Catalogue) -> impl Iterator<Item = (Key, &Schedule, bool)> {
    catalogue.solutions.values().flat_map(|solution| {
        let sources = solution.manifest.iter().flat_map(|manifest| &manifest.sources);
        sources.filter_map(|source| match &source.kind {
            SourceKind::Schedule(schedule) => {
                let is_paused = solution.paused_sources.contains_key(&source.name);
                Some(((solution.name.clone(), source.name.clone()), schedule, is_paused))
            }
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Clock;

    const MINUTE: UnixMs = 60_000;
    const DAY: UnixMs = 24 * 60 * MINUTE;
    /// A full minute.
    const START: UnixMs = 20_000 * DAY;

    /// One schedule with its row, as the store keeps it.
    struct Node {
        start_ms: UnixMs,
        plan: Plan,
        schedule: Schedule,
        row_ms: Option<UnixMs>,
        clock: Clock,
        is_paused: bool,
    }

    impl Node {
        /// Deployed at [`START`].
        fn new(cron: &str, missed: Missed) -> Self {
            Self::of(Schedule::parse(cron, "UTC").unwrap().missed(missed), START)
        }

        fn of(schedule: Schedule, start_ms: UnixMs) -> Self {
            let mut node = Self {
                start_ms,
                plan: Plan::default(),
                schedule,
                row_ms: Some(start_ms),
                clock: Clock::manual(start_ms),
                is_paused: false,
            };
            node.restart();
            node
        }

        fn restart(&mut self) {
            self.plan = Plan::default();
            self.follow();
        }

        fn follow(&mut self) {
            let manifest = format!(
                "name = \"a\"\nversion = \"1\"\n[[source]]\nname = \"tick\"\nkind = \"schedule\"\ncron = \"{}\"\ntimezone = \"{}\"\nmissed = \"{}\"",
                self.schedule.cron,
                self.schedule.timezone,
                format!("{:?}", self.schedule.missed).to_lowercase(),
            );
            let paused = self.is_paused.then_some("tick");
            let catalogue = Catalogue::of_one(&manifest, paused);
            let row_ms = self.row_ms;
            self.plan.follow(&catalogue, |_| row_ms, self.clock.now_ms());
        }

        fn due(&mut self) -> Option<DueTick> {
            let mut due = self.plan.take_due(self.clock.now_ms());
            assert!(due.len() <= 1, "{due:?}");
            due.pop()
        }

        /// Fires all that is due; minutes after its deployment.
        fn fire(&mut self) -> Vec<u64> {
            let mut fired = Vec::new();
            while let Some(tick) = self.due() {
                assert!(self.row_ms.is_none_or(|row_ms| row_ms < tick.nominal_ms), "fired twice");
                self.row_ms = Some(tick.nominal_ms);
                fired.push((tick.nominal_ms - self.start_ms) / MINUTE);
                self.plan.fired(tick);
            }
            fired
        }

        /// What is fired at so many minutes after its deployment.
        fn fire_at(&mut self, minutes: u64) -> Vec<u64> {
            self.clock.set(self.start_ms + minutes * MINUTE);
            self.fire()
        }

        fn restart_at(&mut self, minutes: u64) -> Vec<u64> {
            self.clock.set(self.start_ms + minutes * MINUTE);
            self.restart();
            self.fire()
        }
    }

    const ALL: [Missed; 3] = [Missed::Skip, Missed::Once, Missed::All];

    #[test]
    fn each_tick_in_its_time() {
        for missed in ALL {
            let mut node = Node::new("* * * * *", missed);
            assert_eq!(node.fire(), [0; 0], "what is deployed now begins after now");
            for minute in 1..5 {
                node.clock.set(START + minute * MINUTE - 1);
                assert_eq!(node.plan.sleep(node.clock.now_ms()), Duration::from_millis(1));
                assert_eq!(node.fire(), [0; 0]);
                assert_eq!(node.fire_at(minute), [minute]);
                node.restart();
                assert_eq!(node.fire(), [0; 0], "{missed:?}: not again after a restart");
            }
        }
    }

    #[test]
    fn what_was_missed_is_left_out_or_made_up_for() {
        for (missed, expected) in
            [(Missed::Skip, &[][..]), (Missed::Once, &[5]), (Missed::All, &[2, 3, 4, 5])]
        {
            let mut node = Node::new("* * * * *", missed);
            assert_eq!(node.fire_at(1), [1]);
            assert_eq!(node.restart_at(5), expected, "{missed:?}");
            assert_eq!(node.fire_at(6), [6], "{missed:?}");
        }
    }

    #[test]
    fn a_first_tick_can_be_missed_too() {
        for (missed, expected) in
            [(Missed::Skip, &[][..]), (Missed::Once, &[1]), (Missed::All, &[1])]
        {
            let mut node = Node::new("* * * * *", missed);
            assert_eq!(node.restart_at(1), expected, "{missed:?}");
            // A store of an earlier version knows nothing of when it was deployed.
            let mut node = Node::new("* * * * *", missed);
            node.row_ms = None;
            assert_eq!(node.restart_at(1), [0; 0], "{missed:?}");
            assert_eq!(node.fire_at(2), [2], "{missed:?}");
        }
    }

    #[test]
    fn the_latest_thousand_are_made_up_for_and_the_cut_is_told_once() {
        let mut node = Node::new("* * * * *", Missed::All);
        node.clock.set(START + 5000 * MINUTE);
        node.restart();
        let first = node.due().unwrap();
        assert_eq!((first.nominal_ms, first.is_cut), (START + 4001 * MINUTE, true));
        node.row_ms = Some(first.nominal_ms);
        node.plan.fired(first);
        let second = node.due().unwrap();
        assert_eq!((second.nominal_ms, second.is_cut), (START + 4002 * MINUTE, false));
        node.plan.fired(second);
        assert_eq!(node.fire().len(), 998);
        assert_eq!(node.fire_at(5001), [5001]);
        // Exactly so many is not too many.
        node.clock.set(START + 6001 * MINUTE);
        node.restart();
        assert!(!node.due().unwrap().is_cut);
    }

    #[test]
    fn a_second_s_schedule_is_not_gone_through_from_years_ago() {
        for (missed, count) in [(Missed::Once, 1), (Missed::All, 1000)] {
            let mut node = Node::new("* * * * * *", missed);
            assert_eq!(node.restart_at(30 * 365 * 24 * 60).len(), count);
        }
    }

    #[test]
    fn a_node_that_slept_ticks_late_only_where_that_is_wanted() {
        for (missed, expected) in
            [(Missed::Skip, &[][..]), (Missed::Once, &[60]), (Missed::All, &[60])]
        {
            let mut node = Node::new("0 * * * *", missed);
            // It runs on, but its computer slept.
            assert_eq!(node.fire_at(62), expected, "{missed:?}");
            assert_eq!(node.fire_at(120), [120], "{missed:?}");
            assert_eq!(node.fire_at(181), [180], "{missed:?}: up to a minute late is in time");
        }
    }

    #[test]
    fn a_tick_without_room_counts_as_missed() {
        for (missed, expected) in
            [(Missed::Skip, &[][..]), (Missed::Once, &[3]), (Missed::All, &[1, 2, 3])]
        {
            let mut node = Node::new("* * * * *", missed);
            node.clock.set(START + MINUTE);
            let tick = node.due().unwrap();
            let first = node.plan.refused(&tick, node.clock.now_ms());
            if missed == Missed::Skip {
                assert_eq!(first, Refused::LeftOut);
                assert_eq!(node.due(), None);
                continue;
            }
            assert_eq!(first, Refused::TriedAgain);
            assert_eq!(node.due(), None, "it rests first");
            assert_eq!(node.plan.sleep(node.clock.now_ms()), NAP);
            node.clock.advance(NAP);
            let tick = node.due().unwrap();
            let again = node.plan.refused(&tick, node.clock.now_ms());
            assert_eq!((tick.nominal_ms, again), (START + MINUTE, Refused::TriedAgainStill));
            assert_eq!(node.fire_at(3), expected, "{missed:?}");
            assert_eq!(node.fire_at(4), [4], "{missed:?}");
        }
    }

    #[test]
    fn what_a_paused_source_would_have_sent_never_comes() {
        for missed in ALL {
            let mut node = Node::new("* * * * *", missed);
            node.is_paused = true;
            node.follow();
            assert_eq!(node.fire_at(2), [0; 0]);
            assert_eq!(node.restart_at(4), [0; 0]);
            node.is_paused = false;
            // As the store writes it when a source is resumed.
            node.row_ms = Some(node.clock.now_ms());
            node.follow();
            assert_eq!(node.fire(), [0; 0], "{missed:?}");
            assert_eq!(node.fire_at(5), [5], "{missed:?}");
        }
    }

    #[test]
    fn another_line_begins_anew_and_the_same_goes_on() {
        let mut node = Node::new("* * * * *", Missed::All);
        node.clock.set(START + 3 * MINUTE);
        node.follow();
        assert_eq!(node.fire(), [1, 2, 3], "another solution was deployed: nothing is lost");
        node.clock.set(START + 7 * MINUTE);
        node.schedule = Schedule::parse("*/2 * * * *", "UTC").unwrap().missed(Missed::All);
        // As the store writes it when it is deployed.
        node.row_ms = Some(node.clock.now_ms());
        node.follow();
        assert_eq!(node.fire(), [0; 0]);
        assert_eq!(node.fire_at(8), [8]);
    }

    #[test]
    fn a_clock_that_jumps_a_day_ahead_and_back() {
        let day = DAY / MINUTE;
        let waits: &[u64] = &[];
        for (missed, ahead) in [(Missed::Skip, day), (Missed::Once, day), (Missed::All, day)] {
            let mut node = Node::new("* * * * *", missed);
            assert_eq!(node.fire_at(1), [1]);
            let fired = node.fire_at(1 + ahead);
            assert_eq!(fired.last(), Some(&(1 + ahead)), "{missed:?}");
            // Back: what was fired up to tomorrow is not fired again, so it waits, also after a restart.
            for minute in [2, 3, day] {
                assert_eq!(node.fire_at(minute), waits, "{missed:?}");
                assert_eq!(node.restart_at(minute), waits, "{missed:?}");
            }
            assert_eq!(node.fire_at(1 + day), waits, "{missed:?}");
            assert_eq!(node.fire_at(2 + day), [2 + day], "{missed:?}");
        }
    }

    #[test]
    fn a_jump_over_nothing_that_fires_stalls_nothing() {
        // Ahead to noon of the next day and back: a tick that was only passed, not fired, comes in its time.
        let mut node = Node::new("0 8 * * *", Missed::Skip);
        let day = DAY / MINUTE;
        assert_eq!(node.fire_at(day + 720), [0; 0], "four hours late is too late");
        assert_eq!(node.fire_at(10), [0; 0]);
        assert_eq!(node.fire_at(480), [480]);
        // A rest does not last for a day because the clock was ahead when it began.
        let mut node = Node::new("* * * * *", Missed::Once);
        node.clock.set(START + day * MINUTE);
        let tick = node.due().unwrap();
        node.plan.refused(&tick, node.clock.now_ms());
        assert_eq!(node.fire_at(1), [1]);
    }

    /// The nights in which Berlin's clocks change, from midnight there, in hours of which each is 60 minutes long.
    const NIGHTS: [(UnixMs, &str); 2] = [
        (1_774_738_800_000, "29 March 2026: 02:00 is 03:00, one hour in"),
        (1_792_879_200_000, "25 October 2026: 03:00 is 02:00, three hours in"),
    ];

    #[test]
    fn nights_in_which_the_clock_changes() {
        let quarters = (1..=24).map(|n| n * 15).collect::<Vec<u64>>();
        // By minutes since midnight, of which a spring night has an hour less and an autumn night one more.
        let cases: [(&str, [&[u64]; 2]); 4] = [
            // Right after the gap; at the first of the two.
            ("30 2 * * *", [&[120], &[150]]),
            ("0 2 * * *", [&[120], &[120]]),
            ("*/15 * * * *", [&quarters, &quarters]),
            // The hour that is not there is left out; the one that is there twice counts twice.
            ("0 */2 * * *", [&[180, 300], &[120, 180, 300]]),
        ];
        for (cron, expected) in cases {
            for ((start_ms, night), expected) in NIGHTS.into_iter().zip(expected) {
                for missed in ALL {
                    let schedule = Schedule::parse(cron, "Europe/Berlin").unwrap().missed(missed);
                    let mut awake = Node::of(schedule.clone(), start_ms);
                    let both = |m| [awake.fire_at(m), awake.restart_at(m)].concat();
                    let fired: Vec<_> = (0..=360).flat_map(both).collect();
                    assert_eq!(fired, expected, "{cron} {missed:?} {night}");
                    asleep_for_a_part(&schedule, start_ms, expected);
                }
            }
        }
    }

    /// It comes to the same ticks, or the last of them.
    fn asleep_for_a_part(schedule: &Schedule, start_ms: UnixMs, expected: &[u64]) {
        for asleep_from in (0..360).step_by(7) {
            let mut node = Node::of(schedule.clone(), start_ms);
            let before: Vec<_> = (0..=asleep_from).flat_map(|m| node.fire_at(m)).collect();
            let (until_then, rest) = expected.split_at(before.len());
            assert_eq!(before, until_then);
            let made_up = node.restart_at(360);
            match schedule.missed {
                Missed::Skip => assert_eq!(made_up, [0; 0]),
                Missed::Once => {
                    assert_eq!(made_up.as_slice(), &rest[rest.len().saturating_sub(1)..]);
                }
                Missed::All => assert_eq!(made_up, rest, "{}", schedule.cron),
            }
        }
    }

    #[test]
    fn the_next_tick_does_not_depend_on_where_one_looks_from() {
        for cron in [
            "30 2 * * *",
            "0 3 * * *",
            "*/7 * * * *",
            "15,45 2 * * *",
            "0 1-4 * * *",
            "59 59 1 * * *",
        ] {
            let schedule = Schedule::parse(cron, "Europe/Berlin").unwrap();
            for (start_ms, night) in NIGHTS {
                let first = schedule.next_after(start_ms - 1);
                let ticks: Vec<_> = std::iter::successors(first, |tick| schedule.next_after(*tick))
                    .take_while(|tick| *tick < start_ms + 2 * DAY)
                    .collect();
                assert!(ticks.is_sorted_by(|a, b| a < b));
                for minute in 0..24 * 60 {
                    let after = start_ms + minute * MINUTE;
                    let next = ticks.iter().find(|tick| **tick > after).copied();
                    assert_eq!(schedule.next_after(after), next, "{cron} {minute} min, {night}");
                }
            }
        }
    }
}

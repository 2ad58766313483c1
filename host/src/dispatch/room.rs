//! Room in the queues that attempts publish to.
//!
//! What an attempt publishes has to fit into its receivers' queues before the attempt counts. A solution that finds no
//! room waits, unless the receiver itself waits for it: then it would wait for ever.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    contract::handler::Publication,
    model::name::Name,
    store::{Catalogue, catalogue::Solution, change::accept::check_source, row::SolutionNo},
};

/// Messages for each receiver.
pub(super) type Wanted = BTreeMap<SolutionNo, u64>;

/// What `publications` of `sender` add to each queue. The message that publishes leaves its own.
pub(super) fn wanted(
    sender: SolutionNo,
    publications: &[Publication],
    catalogue: &Catalogue,
) -> Wanted {
    let mut wanted = Wanted::new();
    for Publication { solution, content, .. } in publications {
        let receiver = catalogue.solution(solution.as_str());
        // What nobody can take becomes a dead letter, and is in no queue.
        let receiver = receiver.filter(|s| check_source(s, &content.source, "message").is_ok());
        if let Some(receiver) = receiver {
            *wanted.entry(receiver.no).or_default() += 1;
        }
    }
    if let Some(own) = wanted.get_mut(&sender) {
        *own -= 1;
    }
    wanted
}

#[derive(Debug, Default)]
pub(super) struct Room {
    /// Held for look-ups.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Publications that are sequenced, but not on disk yet.
    reserved: Wanted,
    /// Who waits for room in whose queue. Bounded by the number of solutions.
    waiting: BTreeMap<SolutionNo, SolutionNo>,
}

/// A queue that has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Full {
    pub receiver: SolutionNo,
    name: Name,
    bound: u64,
}

/// Why it makes no sense to wait for room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hopeless {
    /// So much at once never fits.
    TooMany(u64),
    /// The receiver waits for the sender, or is the sender.
    Circle,
}

impl Room {
    /// Takes the room that is wanted, all or nothing. It is to be [released](Self::release) when the messages are in
    /// their queues. `queued` tells how many messages a solution has on disk.
    pub fn take(
        &self,
        wanted: &Wanted,
        catalogue: &Catalogue,
        queued: impl Fn(SolutionNo) -> u64,
    ) -> Result<(), Full> {
        let mut state = self.lock();
        if let Some(full) = state.full(wanted, catalogue, queued) {
            return Err(full);
        }
        for (receiver, count) in wanted {
            *state.reserved.entry(*receiver).or_default() += count;
        }
        Ok(())
    }

    /// Whether [`Self::take`] would say that something is full.
    pub fn is_full(
        &self,
        wanted: &Wanted,
        catalogue: &Catalogue,
        queued: impl Fn(SolutionNo) -> u64,
    ) -> bool {
        self.lock().full(wanted, catalogue, queued).is_some()
    }

    pub fn release(&self, wanted: &Wanted) {
        let mut state = self.lock();
        for (receiver, count) in wanted {
            if let Some(reserved) = state.reserved.get_mut(receiver) {
                *reserved -= count;
                if *reserved == 0 {
                    state.reserved.remove(receiver);
                }
            }
        }
    }

    /// Notes that `sender` waits for room, if that is not in vain.
    pub fn wait(&self, sender: SolutionNo, wanted: &Wanted, full: &Full) -> Result<(), Hopeless> {
        let count = wanted.get(&full.receiver).copied().unwrap_or(0);
        if count > full.bound {
            return Err(Hopeless::TooMany(count));
        }
        let mut state = self.lock();
        // Whoever closes the circle finds it: nobody in it has moved since it began to wait.
        let mut next = Some(full.receiver);
        while let Some(receiver) = next {
            if receiver == sender {
                return Err(Hopeless::Circle);
            }
            next = state.waiting.get(&receiver).copied();
        }
        state.waiting.insert(sender, full.receiver);
        Ok(())
    }

    /// `sender` does not wait any more.
    pub fn go_on(&self, sender: SolutionNo) {
        self.lock().waiting.remove(&sender);
    }

    /// Who waits for room in the queue of `receiver`.
    pub fn waiting_for(&self, receiver: SolutionNo) -> Vec<SolutionNo> {
        let state = self.lock();
        state.waiting.iter().filter(|(_, of)| **of == receiver).map(|(no, _)| *no).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn full(
        &self,
        wanted: &Wanted,
        catalogue: &Catalogue,
        queued: impl Fn(SolutionNo) -> u64,
    ) -> Option<Full> {
        wanted.iter().find_map(|(&receiver, &count)| {
            // Removed meanwhile: that is found when the attempt is made again.
            let solution = catalogue.by_no(receiver)?;
            let bound = bound(solution);
            let reserved = self.reserved.get(&receiver).copied().unwrap_or(0);
            let there = queued(receiver).saturating_add(reserved);
            let is_full = count > 0 && there.saturating_add(count) > bound;
            is_full.then(|| Full { receiver, name: solution.name.clone(), bound })
        })
    }
}

fn bound(solution: &Solution) -> u64 {
    solution.manifest.as_ref().map_or(u64::MAX, |manifest| manifest.limits.queue)
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bound, .. } = self;
        write!(
            f,
            "what it publishes has no room in the queue of solution `{name}`, which takes {bound} messages ([limits] queue)"
        )
    }
}

impl fmt::Display for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => write!(f, "it publishes {count} at once"),
            Self::Circle => f.write_str("which in turn waits for this message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::message::Content;

    const MANIFEST: &str = "name = \"a\"\nversion = \"1\"\n[[source]]\nname = \"again\"\nkind = \"message\"\n[limits]\nqueue = 3";

    fn full(receiver: SolutionNo) -> Full {
        Full { receiver, name: "a".parse().unwrap(), bound: 3 }
    }

    #[test]
    fn room_is_taken_once_and_the_own_message_leaves() {
        let catalogue = Catalogue::of_one(MANIFEST, None);
        let publication = |solution: &str, source: &str| Publication {
            solution: solution.parse().unwrap(),
            content: Content {
                source: source.parse().unwrap(),
                headers: Vec::new(),
                content_type: None,
                key: None,
                body: Bytes::new(),
            },
            after: None,
        };
        let publications = [
            publication("a", "again"),
            publication("a", "again"),
            publication("a", "x"),
            publication("b", "again"),
        ];
        assert_eq!(wanted(7, &publications, &catalogue), Wanted::from([(1, 2)]));
        let own = wanted(1, &publications, &catalogue);
        assert_eq!(own, Wanted::from([(1, 1)]));

        let room = Room::default();
        room.take(&own, &catalogue, |_| 1).unwrap();
        room.take(&own, &catalogue, |_| 1).unwrap();
        assert_eq!(room.take(&own, &catalogue, |_| 1), Err(full(1)));
        room.release(&own);
        assert!(!room.is_full(&own, &catalogue, |_| 1));
        // One for one always fits.
        let same = wanted(1, &publications[..1], &catalogue);
        room.take(&same, &catalogue, |_| 3).unwrap();
    }

    #[test]
    fn waiting_in_a_circle_is_found_by_who_closes_it() {
        let room = Room::default();
        let one = |receiver| Wanted::from([(receiver, 1)]);
        assert_eq!(room.wait(1, &one(1), &full(1)), Err(Hopeless::Circle));
        assert_eq!(room.wait(1, &one(2), &full(2)), Ok(()));
        assert_eq!(room.wait(2, &one(3), &full(3)), Ok(()));
        assert_eq!(room.wait(4, &one(2), &full(2)), Ok(()));
        assert_eq!(room.waiting_for(2), [1, 4]);
        assert_eq!(room.wait(3, &one(1), &full(1)), Err(Hopeless::Circle));
        room.go_on(2);
        assert_eq!(room.wait(3, &one(1), &full(1)), Ok(()));
        assert_eq!(room.wait(3, &Wanted::from([(5, 4)]), &full(5)), Err(Hopeless::TooMany(4)));
    }
}

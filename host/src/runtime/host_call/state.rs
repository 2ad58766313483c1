//! `tandem:solution/state`: reads see what the attempt itself wrote, else what the message before it left.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;

use crate::{
    contract::handler::{View, ViewError},
    model::limits::{EFFECT_BYTES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX},
    runtime::{
        attempt::Attempt,
        bindings::tandem::solution::state::{Entry, Error, Host},
        borrowed_view,
        pending::{Pending, TooMuch},
    },
};

/// The most entries that one `list` gives.
const LIST_MAX: u32 = 1000;
/// Entries taken from the view at once, so that a list that is too long is noticed early.
const LIST_STEP: usize = 64;

impl Host for Attempt {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        if let Err(error) = accept_key(&key) {
            return Ok(Err(error));
        }
        let value = match self.pending.written(&key) {
            Some(own) => own.clone(),
            None => borrowed_view::with(|view| view.state_get(&key))?,
        };
        Ok(Ok(value.map(Vec::from)))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        if value.len() > STATE_VALUE_BYTES_MAX {
            return Ok(Err(Error::ValueTooLarge(value.len() as u64)));
        }
        Ok(self.write(key, Some(Bytes::from(value))))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.write(key, None))
    }

    fn list(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<Entry>, Error>> {
        let wanted = Wanted {
            prefix: &prefix,
            after: after.as_deref(),
            limit: limit.clamp(1, LIST_MAX) as usize,
        };
        let listed = borrowed_view::with(|view| merged(&self.pending, view, &wanted));
        match listed {
            Ok(entries) => Ok(Ok(entries)),
            Err(ListFault::TooLong) => Ok(Err(Error::TooMuch(format!(
                "the listed entries are more than {EFFECT_BYTES_MAX} bytes; ask for fewer at once"
            )))),
            Err(ListFault::View(error)) => Err(error.into()),
        }
    }
}

impl Attempt {
    fn write(&mut self, key: String, value: Option<Bytes>) -> Result<(), Error> {
        accept_key(&key)?;
        self.pending.write(key, value).map_err(|error: TooMuch| Error::TooMuch(error.to_string()))
    }
}

fn accept_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::InvalidKey("the key is empty".to_owned())),
        1..=STATE_KEY_BYTES_MAX => Ok(()),
        size => Err(Error::InvalidKey(format!(
            "the key is {size} bytes; the most is {STATE_KEY_BYTES_MAX}"
        ))),
    }
}

struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

enum ListFault {
    TooLong,
    View(ViewError),
}

/// The first entries that `wanted` names of the view with the attempt's own writes laid over it.
fn merged(
    pending: &Pending,
    view: &dyn View,
    wanted: &Wanted<'_>,
) -> Result<Vec<Entry>, ListFault> {
    let from = match wanted.after {
        Some(after) if after >= wanted.prefix => Bound::Excluded(after),
        _ => Bound::Included(wanted.prefix),
    };
    let mut own: BTreeMap<&str, Option<&Bytes>> =
        pending.written_from(from).take_while(|(key, _)| key.starts_with(wanted.prefix)).collect();
    let mut kept = InOrder {
        view,
        prefix: wanted.prefix,
        after: wanted.after.map(str::to_owned),
        ready: VecDeque::new(),
        ended: false,
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut size = 0;
    while entries.len() < wanted.limit {
        let next_own = own.first_key_value().map(|(key, _)| *key);
        let (key, value) = match (kept.peek().map_err(ListFault::View)?, next_own) {
            (None, None) => break,
            (Some(there), own_key) if own_key.is_none_or(|own_key| there < own_key) => {
                let (key, value) = kept.ready.pop_front().expect("it was just looked at");
                (key, Some(value))
            }
            (there, _) => {
                let hides = there.is_some() && there == next_own;
                if hides {
                    kept.ready.pop_front();
                }
                let (key, value) = own.pop_first().expect("one of the two is there");
                (key.to_owned(), value.cloned())
            }
        };
        let Some(value) = value else { continue };
        size += key.len() + value.len();
        if size > EFFECT_BYTES_MAX {
            return Err(ListFault::TooLong);
        }
        entries.push(Entry { key, value: value.into() });
    }
    Ok(entries)
}

/// The view's entries, fetched a few at a time.
struct InOrder<'a> {
    view: &'a dyn View,
    prefix: &'a str,
    after: Option<String>,
    ready: VecDeque<(String, Bytes)>,
    ended: bool,
}

impl InOrder<'_> {
    fn peek(&mut self) -> Result<Option<&str>, ViewError> {
        if self.ready.is_empty() && !self.ended {
            let more = self.view.state_list(self.prefix, self.after.as_deref(), LIST_STEP)?;
            self.ended = more.len() < LIST_STEP;
            if let Some((last, _)) = more.last() {
                self.after = Some(last.clone());
            }
            self.ready.extend(more);
        }
        Ok(self.ready.front().map(|(key, _)| key.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::fixture::TableView;

    fn list(
        kept: &[&str],
        own: &[(&str, bool)],
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<String> {
        let view = TableView::with_keys(kept);
        let mut pending = Pending::default();
        for (key, is_set) in own {
            let value = is_set.then(|| Bytes::from_static(b"own"));
            pending.write((*key).to_owned(), value).unwrap();
        }
        let Ok(entries) = merged(&pending, &view, &Wanted { prefix, after, limit }) else {
            panic!("refused")
        };
        entries.into_iter().map(|entry| entry.key).collect()
    }

    #[test]
    fn own_writes_and_deletions_are_seen_in_order() {
        let kept = ["a/1", "a/2", "a/3", "b/1"];
        let own = [("a/0", true), ("a/2", false), ("a/4", true), ("a/9", false)];
        assert_eq!(list(&kept, &own, "a/", None, 9), ["a/0", "a/1", "a/3", "a/4"]);
        assert_eq!(list(&kept, &own, "a/", None, 2), ["a/0", "a/1"]);
        assert_eq!(list(&kept, &own, "a/", Some("a/1"), 9), ["a/3", "a/4"]);
        assert_eq!(list(&kept, &own, "a/", Some("0"), 1), ["a/0"]);
        assert!(list(&kept, &own, "a/", Some("z"), 9).is_empty());
        assert_eq!(list(&kept, &own, "", None, 9), ["a/0", "a/1", "a/3", "a/4", "b/1"]);
    }

    #[test]
    fn a_list_that_is_too_long_is_refused() {
        let mut view = TableView::default();
        for n in 0..17 {
            view.state.insert(format!("{n:02}"), Bytes::from(vec![0; STATE_VALUE_BYTES_MAX]));
        }
        let wanted = |limit| Wanted { prefix: "", after: None, limit };
        assert!(matches!(merged(&Pending::default(), &view, &wanted(17)), Err(ListFault::TooLong)));
        assert!(merged(&Pending::default(), &view, &wanted(15)).is_ok());
    }

    proptest! {
        #[test]
        fn merging_is_the_same_as_writing_first_and_listing_then(
            kept in proptest::collection::btree_set("[ab]{1,4}", 0..200),
            own in proptest::collection::btree_map("[ab]{1,4}", any::<bool>(), 0..20),
            prefix in "[ab]{0,1}",
            after in proptest::option::of("[ab]{0,4}"),
            limit in 1_usize..40,
        ) {
            let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
            let own: Vec<(&str, bool)> = own.iter().map(|(key, set)| (key.as_str(), *set)).collect();
            let mut expected: std::collections::BTreeSet<&str> = kept.iter().copied().collect();
            for (key, set) in &own {
                if *set { expected.insert(key); } else { expected.remove(key); }
            }
            let expected: Vec<&str> = expected
                .into_iter()
                .filter(|key| key.starts_with(&prefix) && after.as_deref().is_none_or(|after| *key > after))
                .take(limit)
                .collect();
            prop_assert_eq!(list(&kept, &own, &prefix, after.as_deref(), limit), expected);
        }
    }
}

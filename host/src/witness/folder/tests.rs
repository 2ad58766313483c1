//! What dying processes, late ones and broken disks leave in the folder.

use tempfile::TempDir;

use super::*;
use crate::model::pair::{InSync, StoreId};

const A: StoreId = StoreId([1; 16]);

fn shelf(dir: &TempDir) -> Shelf {
    Shelf { dir: dir.path().to_owned(), pair: PairId([0xa1; 16]) }
}

fn ask(shelf: &Shelf, ask: Ask) -> Option<Record> {
    shelf.ask(&ask, Instant::now() + Duration::from_mins(1)).unwrap()
}

/// Makes the pair and then changes its record until it is at this revision.
fn at_revision(shelf: &Shelf, revision: u64) -> Record {
    let mut record = ask(shelf, Ask::Begin { owner: A, epoch: 1 }).unwrap();
    while record.epoch < revision {
        record = acquire(shelf, record.epoch);
    }
    record
}

fn acquire(shelf: &Shelf, seen_epoch: u64) -> Record {
    ask(shelf, Ask::Acquire { candidate: A, seen_epoch, alone: true }).unwrap()
}

fn files(shelf: &Shelf) -> Vec<u64> {
    shelf.names().unwrap().iter().map(|name| name.revision).collect()
}

#[test]
fn a_process_may_die_at_any_line() {
    for whole in [false, true] {
        for linked in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let shelf = shelf(&dir);
            let before = at_revision(&shelf, 3);
            // What `put` leaves if it does not come further.
            let next = Record { epoch: 4, ..before };
            assert!(shelf.put(4, &next).unwrap());
            let bytes = fs::read(shelf.path(4)).unwrap();
            fs::remove_file(shelf.path(4)).unwrap();
            let draft = dir.path().join(shelf.name(&Name { revision: 4, draft: Some("x".into()) }));
            fs::write(&draft, if whole { &bytes } else { &bytes[..bytes.len() / 2] }).unwrap();
            if linked && whole {
                fs::hard_link(&draft, shelf.path(4)).unwrap();
            }
            let expected = if linked && whole { next } else { before };
            assert_eq!(ask(&shelf, Ask::Read), Some(expected), "{whole} {linked}");
            assert_eq!(acquire(&shelf, expected.epoch).epoch, expected.epoch + 1);
            assert!(draft.exists());
            at_revision(&shelf, 20);
            assert!(!draft.exists(), "swept in the end");
        }
    }
}

#[test]
fn old_revisions_go_but_for_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    let other = Shelf { pair: PairId([0xa2; 16]), ..self::shelf(&dir) };
    at_revision(&other, 2);
    fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
    at_revision(&shelf, 20);
    assert_eq!(files(&shelf), (13..=20).collect::<Vec<_>>());
    assert_eq!(files(&other), [1, 2]);
    assert_eq!(ask(&other, Ask::Read).unwrap().epoch, 2);
    assert!(dir.path().join("notes.txt").exists());
}

#[test]
fn who_comes_so_late_that_a_name_is_free_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    let now = at_revision(&shelf, 20);
    let late = Record { epoch: 4, owner: StoreId([2; 16]), ..now };
    assert!(shelf.put(4, &late).unwrap(), "the name is free");
    assert_eq!(ask(&shelf, Ask::Read), Some(now));
    assert_eq!(acquire(&shelf, 20).epoch, 21);
    assert_eq!(files(&shelf), (14..=21).collect::<Vec<_>>());
    assert!(!shelf.put(20, &late).unwrap(), "a name that is not free");
}

#[test]
fn a_torn_file_is_passed_over_and_its_name_not_taken_again() {
    for damage in [
        |bytes: &mut Vec<u8>| bytes.truncate(20),
        |bytes: &mut Vec<u8>| bytes.clear(),
        |bytes: &mut Vec<u8>| bytes[5] ^= 1,
        |bytes: &mut Vec<u8>| bytes.push(0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let shelf = shelf(&dir);
        at_revision(&shelf, 3);
        let mut bytes = fs::read(shelf.path(3)).unwrap();
        damage(&mut bytes);
        fs::write(shelf.path(3), &bytes).unwrap();
        assert_eq!(ask(&shelf, Ask::Read).unwrap().epoch, 2);
        assert_eq!(acquire(&shelf, 2).epoch, 3);
        assert_eq!(files(&shelf), [1, 2, 3, 4]);
        assert_eq!(fs::read(shelf.path(3)).unwrap(), bytes);
    }
}

#[test]
fn a_file_under_another_name_is_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    at_revision(&shelf, 3);
    fs::copy(shelf.path(1), shelf.path(9)).unwrap();
    let other = Shelf { pair: PairId([0xa2; 16]), ..self::shelf(&dir) };
    fs::copy(shelf.path(3), other.path(3)).unwrap();
    assert_eq!(ask(&shelf, Ask::Read).unwrap().epoch, 3);
    assert_eq!(ask(&other, Ask::Read), None);
}

#[test]
fn what_a_newer_version_wrote_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    at_revision(&shelf, 3);
    let newer = [9, 9, 9];
    fs::write(shelf.path(4), [&newer[..], &shelf.checksum(4, &newer)].concat()).unwrap();
    let until = Instant::now() + Duration::from_mins(1);
    let error = shelf.ask(&Ask::Read, until).unwrap_err();
    assert!(matches!(&error, WitnessError::Newer { file } if *file == shelf.path(4)), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf { dir: dir.path().join("unmounted"), ..shelf(&dir) };
    let begin = Ask::Begin { owner: A, epoch: 1 };
    let error = shelf.ask(&begin, Instant::now() + Duration::from_mins(1)).unwrap_err();
    assert!(error.to_string().contains("unmounted"), "{error}");
    assert!(!shelf.dir.exists());
}

#[test]
fn an_old_copy_of_the_folder_is_an_older_record() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    at_revision(&shelf, 3);
    let old = fs::read(shelf.path(3)).unwrap();
    at_revision(&shelf, 30);
    for name in shelf.names().unwrap() {
        fs::remove_file(shelf.path(name.revision)).unwrap();
    }
    assert_eq!(ask(&shelf, Ask::Read), None, "wiped");
    fs::write(shelf.path(3), old).unwrap();
    let record = ask(&shelf, Ask::Read).unwrap();
    assert_eq!((record.epoch, record.in_sync), (3, InSync::Only(A)));
}

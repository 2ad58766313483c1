//! A node starts on what it can trust, and else says which file, why, and what to do.

use std::{fs, path::Path};

use redb::{Database, TableDefinition};
use serde_json::json;
use tandem::store::row::head::{FORMAT, FORMAT_KEY};
use tandem_tests::{Solution, program::Told};

use crate::TANDEM;

fn run(folder: &Path, data_dir: &str) -> Told {
    TANDEM.run(folder, &["run", "--data-dir", data_dir, "--listen", "127.0.0.1:0"])
}

/// Makes a store with something in it, bends its file, and checks what the next start says.
#[track_caller]
fn refused(bend: impl FnOnce(&Path), says: &[&str]) {
    refused_file("store.redb", bend, says);
}

#[track_caller]
fn refused_file(name: &str, bend: impl FnOnce(&Path), says: &[&str]) {
    let mut node = TANDEM.node();
    node.deploy(&Solution::lean());
    let id = node.accept("lean/in", "");
    node.wait_for_status(&id, "done");
    assert_eq!(node.stop(), Some(0));
    let file = node.data_dir().join(name);
    bend(&file);
    let bent = fs::read(&file).ok();
    let told = run(node.folder(), node.data_dir().to_str().unwrap()).expect(1);
    assert_eq!(told.out, "");
    let says = says.iter().copied().chain([file.to_str().unwrap()]);
    for text in says {
        assert!(told.err.contains(text), "`{text}` is not in\n{told}");
    }
    assert_eq!(told.err.matches("error:").count(), 1, "said once\n{told}");
    // A damaged one may be marked while it is tried; what is said of it must not change.
    let is_damaged = told.err.contains("is damaged");
    let left = fs::read(&file).ok() == bent;
    assert!(is_damaged || left, "a file that is refused is left as it is");
    let again = run(node.folder(), node.data_dir().to_str().unwrap()).expect(1);
    assert_eq!(again.err, told.err);
    assert!(!node.data_dir().join("listen").exists());
}

#[test]
fn a_file_that_is_empty() {
    refused(
        |file| fs::write(file, "").unwrap(),
        &["is damaged (it is empty)", "restore the folder from a backup"],
    );
}

#[test]
fn a_file_that_is_something_else() {
    let garbage = |file: &Path| fs::write(file, "garbage ".repeat(10_000)).unwrap();
    refused(
        garbage,
        &["is not a Tandem store (it does not begin as one)", "give --data-dir another folder"],
    );
}

#[test]
fn a_file_that_is_cut_off() {
    for length in [100, 4096, 20_000] {
        let cut = |file: &Path| {
            fs::File::options().write(true).open(file).unwrap().set_len(length).unwrap();
        };
        refused(cut, &["is damaged", "restore the folder from a backup"]);
    }
}

#[test]
fn a_redb_file_of_another_program() {
    let foreign = |file: &Path| {
        fs::remove_file(file).unwrap();
        let db = Database::create(file).unwrap();
        let write = db.begin_write().unwrap();
        write.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
        write.commit().unwrap();
    };
    refused(
        foreign,
        &[
            "is not a Tandem store (a redb file of another program)",
            "give --data-dir another folder",
        ],
    );
}

#[test]
fn a_newer_format() {
    let newer = |file: &Path| {
        let db = Database::open(file).unwrap();
        let write = db.begin_write().unwrap();
        let node = TableDefinition::<&[u8], &[u8]>::new("node");
        write
            .open_table(node)
            .unwrap()
            .insert(FORMAT_KEY, (FORMAT + 1).to_be_bytes().as_slice())
            .unwrap();
        write.commit().unwrap();
    };
    let format = format!("has format {}, and this program knows format {FORMAT}", FORMAT + 1);
    refused(newer, &[&format, "run the version of tandem that wrote it"]);
}

#[test]
fn tables_or_a_journal_without_the_other() {
    let gone = |file: &Path| fs::remove_file(file).unwrap();
    let restore = "restore the folder from a backup";
    refused_file("store.journal", gone, &["is damaged (it is missing", restore]);
    refused(gone, &["is damaged (it is missing, and store.journal beside it is not)", restore]);
}

#[test]
fn a_journal_that_is_not_what_it_was() {
    let empty = |file: &Path| fs::write(file, "").unwrap();
    let garbage = |file: &Path| fs::write(file, "garbage ".repeat(10_000)).unwrap();
    let cut = |file: &Path| {
        fs::File::options().write(true).open(file).unwrap().set_len(1000).unwrap();
    };
    let says = ["is damaged (it ends at frame", "restore the folder from a backup"];
    refused_file("store.journal", empty, &says);
    refused_file("store.journal", garbage, &says);
    refused_file("store.journal", cut, &says);
}

#[test]
fn what_a_start_left_that_died_while_it_made_the_store() {
    let mut node = TANDEM.node();
    assert_eq!(node.stop(), Some(0));
    let file = node.data_dir().join("store.redb");
    fs::remove_file(&file).unwrap();
    fs::write(file.with_extension("redb.new"), "half a store").unwrap();
    node.run();
    node.deploy(&Solution::lean());
}

#[test]
fn a_folder_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let told = run(folder.path(), "file/data").expect(1);
    assert!(told.err.contains("cannot use the folder file/data"), "{told}");
    assert!(told.err.contains("give --data-dir a folder that this user may write to"), "{told}");
}

#[test]
fn a_folder_in_use() {
    let node = TANDEM.node();
    let told = run(node.folder(), node.data_dir().to_str().unwrap()).expect(1);
    assert!(told.err.contains("store.redb is in use by another process; stop that node"), "{told}");
    assert_eq!(node.api("status")["role"], "primary", "the first is none the worse");
}

#[test]
fn an_address_in_use_and_a_wrong_configuration() {
    let node = TANDEM.node();
    let folder = tempfile::tempdir().unwrap();
    let address = node.address.to_string();
    let told =
        TANDEM.run(folder.path(), &["run", "--data-dir", "data", "--listen", &address]).expect(1);
    assert!(told.err.contains(&format!("cannot listen on {address}")), "{told}");

    fs::write(folder.path().join("tandem.toml"), "[store]\ncach = \"1GiB\"\n").unwrap();
    let told = run(folder.path(), "data").expect(2);
    assert!(
        told.err.contains("tandem.toml:2:1: `cach` is no key of [store], did you mean `cache`?"),
        "{told}"
    );
    TANDEM.run(folder.path(), &["run", "--config", "nowhere.toml"]).expect(2);
}

/// No disk has that much.
const NO_ROOM: &str = "[store]\nreserve = \"1024GiB\"";

#[test]
fn without_room_new_messages_are_refused_and_accepted_ones_finished() {
    let mut node = TANDEM.node();
    node.deploy(&Solution::lean());
    node.call("POST", "solutions/lean/pause", Some(&json!({}))).expect(204);
    let ids: Vec<_> = (0..5).map(|_| node.accept("lean/in", "")).collect();
    node.configure(NO_ROOM);
    node.restart();

    let detail = node.post("/hooks/lean/in", "").problem(507, "disk-full");
    assert!(detail.contains("free some space"), "{detail}");
    let told = node.tandem(&["send", "lean", "in", "--body", "x"]).expect(7);
    assert!(told.err.contains("[disk-full]"), "{told}");
    node.try_deploy(&Solution::probe()).problem(507, "disk-full");
    let warnings = node.api("status")["warnings"].to_string();
    assert!(warnings.contains("new messages are refused with 507"), "{warnings}");

    node.call("POST", "solutions/lean/resume", Some(&json!({}))).expect(204);
    for id in &ids {
        node.wait_for_status(id, "done");
    }
    node.configure("");
    node.restart();
    node.accept("lean/in", "");
}

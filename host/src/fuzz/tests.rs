//! Every input that is kept, and every input that ever failed, without a fuzzer.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::TARGETS;

fn folder(what: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz").join(what).join(target)
}

fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Says which input it was if one fails.
fn run(target: fn(&[u8]), path: &Path, input: &[u8]) {
    struct Told<'a>(&'a Path);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input is {}", self.0.display());
            }
        }
    }
    let _told = Told(path);
    target(input);
}

fn check(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let corpus = inputs(&folder("corpus", name));
    assert!(corpus.len() >= 10, "{name} has {} inputs: where is its corpus?", corpus.len());
    for (path, input) in corpus.into_iter().chain(inputs(&folder("regressions", name))) {
        run(target, &path, &input);
        // Cut off anywhere near, and with one byte that is another.
        for cut in (0..input.len()).step_by(input.len() / 16 + 1) {
            run(target, &path, &input[..cut]);
            let mut changed = input.clone();
            changed[cut] = !changed[cut];
            run(target, &path, &changed);
        }
    }
}

#[test]
fn frames_hold_for_every_kept_input() {
    check("frames");
}

#[test]
fn the_journal_holds_for_every_kept_input() {
    check("journal");
}

#[test]
fn rows_hold_for_every_kept_input() {
    check("rows");
}

#[test]
fn manifests_hold_for_every_kept_input() {
    check("manifest");
}

#[test]
fn bodies_hold_for_every_kept_input() {
    check("bodies");
}

#[test]
fn headers_hold_for_every_kept_input() {
    check("headers");
}

#[test]
fn each_target_is_one_that_cargo_fuzz_knows() {
    let crate_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/Cargo.toml");
    let manifest = fs::read_to_string(crate_file).unwrap();
    for (name, _) in TARGETS {
        let target = fs::read_to_string(folder("targets", &format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("tandem::fuzz::{name}(")), "{target}");
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(inputs(&folder("targets", "")).len(), TARGETS.len());
}

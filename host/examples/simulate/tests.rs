//! A few seeds in every run of the tests; any number by hand.

use super::*;

fn with_engine<T>(work: impl FnOnce(&Engine, &Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    work(&engine(folder.path()), folder.path())
}

#[test]
fn one_seed_twice_gives_the_same_log() {
    let logs = [0, 1].map(|_| {
        with_engine(|engine, folder| {
            chance::fixed(3, || simulate(3, 5, engine, folder)).history.lines()
        })
    });
    for (one, other) in logs[0].iter().zip(&logs[1]) {
        assert_eq!(one, other);
    }
    assert_eq!(logs[0].len(), logs[1].len());
}

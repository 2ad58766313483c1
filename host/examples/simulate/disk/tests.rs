use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use redb::{Database, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableDefinition};

use super::{Cut, Disk, Style};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const NUMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("numbers");

fn file() -> &'static Path {
    Path::new("/data/file")
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn cut(disk: &Disk, cut: Cut, seed: u64) -> Vec<u8> {
    disk.power_off();
    disk.power_on(cut, &mut rng(seed));
    disk.content(file())
}

/// 3000 bytes that are safe, over page bounds others that are not, and a shorter and longer file.
fn used() -> (Disk, Vec<u8>, Vec<u8>) {
    let disk = Disk::new();
    let handle = disk.open(file());
    let safe = vec![1; 3000];
    handle.write(5000, &safe).unwrap();
    handle.set_len(9000).unwrap();
    handle.sync_data().unwrap();
    let before = disk.content(file());
    handle.write(7000, &[2; 4000]).unwrap();
    handle.set_len(6000).unwrap();
    handle.write(100, &[3; 5500]).unwrap();
    handle.set_len(20_000).unwrap();
    handle.write(7990, &[0; 300]).unwrap();
    let after = disk.content(file());
    (disk, before, after)
}

#[test]
fn file_holds_what_was_written() {
    let (disk, before, after) = used();
    let mut expected = vec![0; 9000];
    expected[5000..8000].fill(1);
    assert!(before == expected);
    expected.resize(20_000, 0);
    expected[6000..].fill(0);
    expected[100..5600].fill(3);
    assert!(after == expected);
    let handle = disk.open(file());
    assert_eq!(handle.len().unwrap(), 20_000);
    let mut bytes = [9; 6];
    handle.read(5597, &mut bytes).unwrap();
    assert_eq!(bytes, [3, 3, 3, 1, 1, 1]);
    assert!(handle.read(19_999, &mut bytes).is_err());
    assert_eq!(disk.open(Path::new("/other")).len().unwrap(), 0);
}

#[test]
fn process_that_dies_loses_nothing() {
    let (disk, _, after) = used();
    assert!(cut(&disk, Cut::Nothing, 1) == after);
}

#[test]
fn power_cut_takes_what_was_not_synced() {
    let (disk, before, _) = used();
    assert!(cut(&disk, Cut::Power(Style::Nothing), 1) == before);
    let (disk, _, after) = used();
    disk.open(file()).sync_data().unwrap();
    assert!(cut(&disk, Cut::Power(Style::Nothing), 1) == after);
}

#[test]
fn order_of_writes_is_kept_if_all_reach_the_disk() {
    let disk = Disk::new();
    let handle = disk.open(file());
    handle.set_len(10_000).unwrap();
    handle.sync_data().unwrap();
    for byte in 1..6 {
        handle.write(u64::from(byte) * 1000, &vec![byte; 3000]).unwrap();
    }
    let written = disk.content(file());
    assert!(cut(&disk, Cut::Power(Style::Everything), 1) == written);
}

/// What a process left that died can still go with the power.
#[test]
fn writes_of_a_process_that_died_are_not_safe() {
    let (disk, before, _) = used();
    cut(&disk, Cut::Nothing, 1);
    assert!(cut(&disk, Cut::Power(Style::Nothing), 1) == before);
}

#[test]
fn writes_are_torn_by_sectors() {
    let (mut torn, mut kept, mut lost) = (false, false, false);
    for seed in 0..50 {
        let disk = Disk::new();
        let handle = disk.open(file());
        handle.write(0, &[1; 4096]).unwrap();
        handle.sync_data().unwrap();
        handle.write(100, &[2; 2000]).unwrap();
        let left = cut(&disk, Cut::Power(Style::Some), seed);
        let sectors: Vec<_> = [100..512, 512..1024, 1024..1536, 1536..2048, 2048..2100]
            .into_iter()
            .map(|sector| left[sector].to_vec())
            .collect();
        assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        assert!(left[..100].iter().chain(&left[2100..]).all(|&byte| byte == 1));
        let new = sectors.iter().filter(|sector| sector[0] == 2).count();
        (torn, kept, lost) = (torn || (1..5).contains(&new), kept || new == 5, lost || new == 0);
    }
    assert!(torn && kept && lost);
}

#[test]
fn same_seed_same_loss() {
    for style in Style::ALL {
        let once = cut(&used().0, Cut::Power(style), 7);
        assert!(once == cut(&used().0, Cut::Power(style), 7));
    }
    let all: Vec<_> = (0..20).map(|n| cut(&used().0, Cut::Power(Style::Shuffled), n)).collect();
    assert!(all.iter().any(|left| *left != all[0]));
}

#[test]
fn handles_from_before_are_dead_for_ever() {
    let disk = Disk::new();
    let old = disk.open(file());
    old.write(0, &[1; 10]).unwrap();
    disk.power_off();
    assert!(old.write(0, &[2; 10]).is_err());
    assert!(disk.open(file()).write(0, &[2; 10]).is_err());
    disk.power_on(Cut::Nothing, &mut rng(1));
    assert!(old.write(0, &[2; 10]).is_err());
    assert!(old.set_len(0).is_err() && old.sync_data().is_err());
    assert!(old.len().is_err() && old.read(0, &mut [0]).is_err());
    assert_eq!(disk.content(file()), [1; 10]);
    disk.open(file()).write(0, &[3; 10]).unwrap();
    assert_eq!(disk.content(file()), [3; 10]);
}

#[test]
fn disk_fails_until_it_is_told_not_to() {
    let disk = Disk::new();
    let handle = disk.open(file());
    handle.write(0, &[1; 10]).unwrap();
    disk.fail_writes(Some(EIO));
    for failed in [handle.write(0, &[2; 10]), handle.set_len(3), handle.sync_data()] {
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(EIO));
    }
    handle.read(0, &mut [0; 10]).unwrap();
    disk.fail_writes(None);
    handle.write(0, &[3; 10]).unwrap();
    assert_eq!(disk.content(file()), [3; 10]);
}

#[test]
fn full_disk_takes_no_more() {
    let disk = Disk::new();
    let handle = disk.open(file());
    handle.set_len(1000).unwrap();
    disk.fill(Some(500));
    assert_eq!(disk.free_bytes(), 500);
    handle.write(1000, &[1; 400]).unwrap();
    assert_eq!(disk.free_bytes(), 100);
    assert_eq!(handle.write(1400, &[1; 101]).unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(handle.set_len(1501).unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(handle.len().unwrap(), 1400);
    // What is there may change.
    handle.write(0, &[2; 1400]).unwrap();
    handle.sync_data().unwrap();
    handle.set_len(100).unwrap();
    assert_eq!(disk.free_bytes(), 1400);
    disk.fill(None);
    handle.set_len(1 << 20).unwrap();
}

#[test]
fn one_bit_turns() {
    let disk = Disk::new();
    assert_eq!(disk.flip_bit_at_rest(file(), &mut rng(1)), None);
    let handle = disk.open(file());
    handle.write(10_000, &[7; 100]).unwrap();
    let before = disk.content(file());
    let at = disk.flip_bit_at_rest(file(), &mut rng(1)).unwrap();
    let after = disk.content(file());
    let changed: Vec<_> = (0..after.len()).filter(|&n| after[n] != before[n]).collect();
    assert_eq!(changed, [usize::try_from(at).unwrap()]);
    assert_eq!((after[changed[0]] ^ before[changed[0]]).count_ones(), 1);
}

#[test]
fn wiped_disk_is_empty() {
    let disk = Disk::new();
    let old = disk.open(file());
    old.write(0, &[1; 10]).unwrap();
    disk.wipe();
    assert!(old.len().is_err());
    assert_eq!(disk.open(file()).len().unwrap(), 0);
}

/// Preallocated files cost nothing until something is in them.
#[test]
fn zeros_take_no_memory() {
    let disk = Disk::new();
    let handle = disk.open(file());
    for at in 0..1600 {
        handle.write(at * 65_536, &vec![0; 65_536]).unwrap();
    }
    let inner = disk.inner();
    assert_eq!(inner.files[0].1.len(), 100 << 20);
    assert_eq!(inner.files[0].1.pages_taken(), 0);
}

/// The power goes at one of its operations.
#[derive(Debug)]
struct Fragile {
    file: Box<dyn StorageBackend>,
    disk: Disk,
    left: AtomicU64,
}

impl Fragile {
    fn ask(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.disk.power_off();
        }
    }
}

impl StorageBackend for Fragile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.ask();
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.ask();
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.ask();
        self.file.write(offset, data)
    }
}

fn database(disk: &Disk, operations: u64) -> Result<Database, redb::DatabaseError> {
    let file = disk.open(file());
    let left = AtomicU64::new(operations);
    Database::builder().create_with_backend(Fragile { file, disk: disk.clone(), left })
}

fn commit(db: &Database, number: u64) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    txn.open_table(NUMBERS)?.insert(number, [1; 3000].as_slice())?;
    Ok(txn.commit()?)
}

/// After every kind of power cut what was committed is there, and perhaps what was being committed.
#[test]
fn redb_keeps_what_it_committed() {
    for seed in 0..60 {
        let (disk, mut rng) = (Disk::new(), rng(seed));
        let style = *Style::ALL.choose(&mut rng).unwrap();
        let mut committed = 0;
        drop(database(&disk, u64::MAX).unwrap());
        // Twice: the power goes while redb recovers, too.
        for _ in 0..2 {
            if let Ok(db) = database(&disk, rng.random_range(0..200)) {
                let commits = (committed..).take_while(|&number| commit(&db, number).is_ok());
                committed += commits.count() as u64;
            }
            disk.power_off();
            disk.power_on(Cut::Power(style), &mut rng);
            let db = database(&disk, u64::MAX).unwrap();
            let txn = db.begin_read().unwrap();
            let there = txn.open_table(NUMBERS).map_or(0, |table| table.len().unwrap());
            assert!((committed..=committed + 1).contains(&there), "{seed}: {there}, {committed}");
            committed = there;
        }
        assert!(commit(&database(&disk, u64::MAX).unwrap(), committed).is_ok());
    }
}

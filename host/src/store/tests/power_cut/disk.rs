//! A disk in memory that remembers every operation on its files, and what a power cut at any of them would leave.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use rand::rngs::StdRng;

use super::torn::{Style, land};
use crate::{
    model::clock::Clock,
    store::{Config, Store, open::OpenError},
};

/// The tables, and the journal.
const FILES: usize = 2;

/// What all files hold.
pub type Image = [Vec<u8>; FILES];

#[derive(Debug, Clone)]
pub enum Action {
    Write { at: usize, bytes: Arc<[u8]> },
    SetLen(usize),
    Sync,
}

#[derive(Debug, Clone)]
pub struct Op {
    file: usize,
    action: Action,
}

impl Op {
    pub fn is_sync(&self) -> bool {
        matches!(self.action, Action::Sync)
    }
}

/// What the one who drives the store knew when an operation was made: commits that were acknowledged, and begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    pub acked: u64,
    pub tried: u64,
}

#[derive(Debug, Clone)]
pub struct Logged {
    pub op: Op,
    pub window: Window,
}

/// An error that operation `at` meets.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub at: usize,
    pub errno: i32,
    /// Whether all operations after it meet it too.
    pub stays: bool,
}

/// One file of a disk, first that of the tables. Clones are the same file.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    file: usize,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    files: Image,
    log: Vec<Logged>,
    window: Window,
    /// Operations that were asked for, failed ones too.
    asked: usize,
    fault: Option<Fault>,
    reads: usize,
    /// This read and all after it fail, with this error.
    unreadable: Option<(usize, i32)>,
    /// One sync in three is answered without being done: the control that shows the harness can fail.
    lies: bool,
}

impl Disk {
    pub fn holding(files: Image, window: Window) -> Self {
        let inner = Inner { files, window, ..Inner::default() };
        Self { file: 0, inner: Arc::new(Mutex::new(inner)) }
    }

    /// The journal's file on the same disk.
    fn journal(&self) -> Self {
        Self { file: 1, inner: self.inner.clone() }
    }

    /// A store on this disk.
    pub fn open(&self, config: &Config, clock: Clock) -> Result<Store, OpenError> {
        Store::open_on(self.clone(), Box::new(self.journal()), config, clock)
    }

    pub fn lie(&self) {
        self.inner().lies = true;
    }

    pub fn fail(&self, fault: Fault) {
        self.inner().fault = Some(fault);
    }

    pub fn fail_reads(&self, from: usize, errno: i32) {
        self.inner().unreadable = Some((from, errno));
    }

    pub fn reads(&self) -> usize {
        self.inner().reads
    }

    /// Operations asked for so far, reads aside.
    pub fn asked(&self) -> usize {
        self.inner().asked
    }

    /// As a process that starts anew finds it, if the machine stayed up.
    pub fn files(&self) -> Image {
        self.inner().files.clone()
    }

    pub fn window(&self) -> Window {
        self.inner().window
    }

    pub fn set_window(&self, window: Window) {
        self.inner().window = window;
    }

    /// Takes what happened so far.
    pub fn take_log(&self) -> Vec<Logged> {
        std::mem::take(&mut self.inner().log)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    /// Counts an operation, and fails it if it is to fail.
    fn ask(&mut self) -> io::Result<()> {
        let now = self.asked;
        self.asked += 1;
        match self.fault {
            Some(f) if now == f.at || (f.stays && now > f.at) => {
                Err(io::Error::from_raw_os_error(f.errno))
            }
            _ => Ok(()),
        }
    }

    fn log(&mut self, file: usize, action: Action) {
        self.log.push(Logged { op: Op { file, action }, window: self.window });
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().files[self.file].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = place(offset);
        let mut inner = self.inner();
        let now = inner.reads;
        inner.reads += 1;
        if let Some((from, errno)) = inner.unreadable
            && now >= from
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let file = &inner.files[self.file];
        let bytes = file.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.ask()?;
        inner.files[self.file].resize(place(len), 0);
        inner.log(self.file, Action::SetLen(place(len)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.ask()?;
        if !inner.lies || !inner.asked.is_multiple_of(3) {
            inner.log(self.file, Action::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        inner.ask()?;
        let at = place(offset);
        write_at(&mut inner.files[self.file], at, data);
        inner.log(self.file, Action::Write { at, bytes: data.into() });
        Ok(())
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("disks of tests are small")
}

fn write_at(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

/// Walks through what happened to a disk; knows at each operation what is safe and what is not yet.
#[derive(Debug, Clone)]
pub struct Platter<'a> {
    durable: Image,
    /// Of each file, in their order among all.
    pending: Vec<&'a Op>,
}

impl<'a> Platter<'a> {
    pub fn new(durable: Image) -> Self {
        Self { durable, pending: Vec::new() }
    }

    pub fn step(&mut self, op: &'a Op) {
        if !op.is_sync() {
            self.pending.push(op);
            return;
        }
        for done in self.pending.extract_if(.., |pending| pending.file == op.file) {
            let file = &mut self.durable[done.file];
            match &done.action {
                Action::Write { at, bytes } => write_at(file, *at, bytes),
                Action::SetLen(len) => file.resize(*len, 0),
                Action::Sync => {}
            }
        }
    }

    /// What the disk holds when the power comes back.
    pub fn cut(&self, style: Style, rng: &mut StdRng) -> Image {
        let mut image = self.durable.clone();
        style.choose(self.pending.len(), rng, |n, torn, rng| {
            let op = self.pending[n];
            let file = &mut image[op.file];
            match &op.action {
                Action::SetLen(len) => file.resize(*len, 0),
                Action::Write { at, bytes } => {
                    land(file.len(), *at, bytes, torn, rng, |at, part| write_at(file, at, part));
                }
                Action::Sync => {}
            }
        });
        image
    }
}

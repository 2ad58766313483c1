//! The bytes of a file, and what was there before those that are not synced. Pages that were never written take no
//! memory, and a change keeps the pages it touches only: nothing is copied whole.

use std::{io, sync::Arc};

use rand::rngs::StdRng;
#[cfg(test)]
use rand::{Rng as _, seq::IteratorRandom as _};

use super::torn::{Style, land};

const PAGE: usize = 4096;

/// Zeros until something else is written.
type Page = Option<Arc<[u8; PAGE]>>;

/// See the module. Beyond its end the last page is zeros.
#[derive(Debug, Default)]
pub(super) struct File {
    len: usize,
    pages: Vec<Page>,
    unsynced: Vec<Change>,
}

/// What was there before a change.
#[derive(Debug)]
struct Change {
    what: What,
    len: usize,
    first: usize,
    pages: Vec<Page>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Write { at: usize, bytes: usize },
    SetLen(usize),
}

enum Redo {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl File {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn read(&self, at: usize, out: &mut [u8]) -> io::Result<()> {
        if at + out.len() > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, from, part) in parts(at, out.len()) {
            let out = &mut out[part];
            match &self.pages[page] {
                Some(page) => out.copy_from_slice(&page[from..from + out.len()]),
                None => out.fill(0),
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; self.len];
        self.read(0, &mut content).expect("it ends where the file does");
        content
    }

    pub(super) fn write(&mut self, at: usize, data: &[u8]) {
        let before = self.len.div_ceil(PAGE).min(self.pages.len());
        let touched = (at / PAGE).min(before)..(at + data.len()).div_ceil(PAGE).min(before);
        self.unsynced.push(Change {
            what: What::Write { at, bytes: data.len() },
            len: self.len,
            first: touched.start,
            pages: self.pages.get(touched).map_or_else(Vec::new, <[Page]>::to_vec),
        });
        self.put(at, data);
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let first = (len / PAGE).min(self.pages.len());
        self.unsynced.push(Change {
            what: What::SetLen(len),
            len: self.len,
            first,
            pages: self.pages[first..].to_vec(),
        });
        self.resize(len);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
    }

    /// Takes back what was not synced, then lets some of it reach the disk.
    pub(super) fn cut(&mut self, style: Style, rng: &mut StdRng) {
        let mut lost = Vec::with_capacity(self.unsynced.len());
        while let Some(change) = self.unsynced.pop() {
            lost.push(self.undo(change));
        }
        lost.reverse();
        style.choose(lost.len(), rng, |n, torn, rng| match &lost[n] {
            Redo::SetLen(len) => self.resize(*len),
            Redo::Write { at, bytes } => {
                land(self.len, *at, bytes, torn, rng, |at, part| self.put(at, part));
            }
        });
    }

    /// Turns the bits of `mask` in any byte of a page that was written; says which byte.
    #[cfg(test)]
    pub(super) fn flip(&mut self, mask: u8, rng: &mut StdRng) -> Option<u64> {
        let written = self.pages.iter_mut().enumerate();
        let (n, page) = written.filter_map(|(n, page)| Some((n, page.as_mut()?))).choose(rng)?;
        let end = PAGE.min(self.len - n * PAGE);
        let at = rng.random_range(0..end);
        Arc::make_mut(page)[at] ^= mask;
        Some((n * PAGE + at) as u64)
    }

    #[cfg(test)]
    pub(super) fn pages_taken(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    /// The last change only: what it wrote is what is there now.
    fn undo(&mut self, change: Change) -> Redo {
        let redo = match change.what {
            What::SetLen(len) => Redo::SetLen(len),
            What::Write { at, bytes } => {
                let mut written = vec![0; bytes];
                self.read(at, &mut written).expect("it was written there");
                Redo::Write { at, bytes: written }
            }
        };
        self.len = change.len;
        self.pages.resize(change.len.div_ceil(PAGE), None);
        for (n, page) in (change.first..).zip(change.pages) {
            self.pages[n] = page;
        }
        redo
    }

    fn resize(&mut self, len: usize) {
        self.pages.resize(len.div_ceil(PAGE), None);
        if len < self.len
            && !len.is_multiple_of(PAGE)
            && let Some(Some(last)) = self.pages.last_mut()
        {
            Arc::make_mut(last)[len % PAGE..].fill(0);
        }
        self.len = len;
    }

    fn put(&mut self, at: usize, data: &[u8]) {
        if at + data.len() > self.len {
            self.resize(at + data.len());
        }
        for (page, from, part) in parts(at, data.len()) {
            let (page, part) = (&mut self.pages[page], &data[part]);
            if page.is_none() && part.iter().all(|&byte| byte == 0) {
                continue;
            }
            if let Ok(whole) = <[u8; PAGE]>::try_from(part) {
                *page = Some(Arc::new(whole));
                continue;
            }
            let page = page.get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[from..from + part.len()].copy_from_slice(part);
        }
    }
}

/// Which pages `len` bytes from `at` on are in: the page, where in it, and which of the bytes.
fn parts(at: usize, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (page, from) = ((at + done) / PAGE, (at + done) % PAGE);
        let part = done..len.min(done + PAGE - from);
        done = part.end;
        (!part.is_empty()).then_some((page, from, part))
    })
}

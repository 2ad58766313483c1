//! A segment: finished messages of one solution in a file of their own, written once, read by id or key.
//!
//! ```text
//! file   = "TandemS1" · block* · keys · index · footer
//! block  = LZ4 of entries, about 128 KiB before compression, its length before it (u32, little-endian)
//! keys   = (hash of a message's key u64, block u32)*, sorted                   postcard
//! index  = blocks (first id, offset, bytes, check)*, keys (offset, bytes, check)  postcard
//! footer = offset of the index u64 · its bytes u32 · its BLAKE3                integers big-endian
//! ```
//!
//! Entries lie in the order of their ids and hold rows as the store had them, so that a segment needs no format of its
//! own for what is in it. The content hash is over the entries before compression: who has the same messages has the
//! same hash. A check is the beginning of a BLAKE3 hash; damage costs one block and is told.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    packed::unpack,
    row::{Row, RowError, delivery::DeliveryRow, life::LifeRow, message::MessageRow},
};
use crate::model::message::MessageId;

const MAGIC: &[u8; 8] = b"TandemS1";
const FOOTER_BYTES: usize = 8 + 4 + 32;
const BLOCK_BYTES: usize = 128 << 10;

/// A segment could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{} is damaged ({what}); the messages in that part of it cannot be read", file.display())]
    Damaged { file: PathBuf, what: &'static str },
    #[error("{}: {source}", file.display())]
    Row { file: PathBuf, source: RowError },
}

/// One message with all that became of it, as rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: [u8; 16],
    pub message: Bytes,
    pub life: Bytes,
    /// By index.
    pub deliveries: Vec<(u16, Bytes)>,
}

/// One message with all that became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: MessageId,
    pub message: MessageRow,
    /// None until the first attempt is over.
    pub life: Option<LifeRow>,
    /// Those that were tried, by index.
    pub deliveries: Vec<(u16, DeliveryRow)>,
}

impl Entry {
    pub fn record(&self) -> Result<Record, RowError> {
        let delivery = |(index, row): &(u16, Bytes)| Ok((*index, DeliveryRow::decode(row)?));
        Ok(Record {
            id: MessageId(self.id),
            message: MessageRow::decode(&self.message)?,
            life: Some(LifeRow::decode(&self.life)?),
            deliveries: self.deliveries.iter().map(delivery).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    blocks: Vec<Block>,
    keys: Part,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Block {
    first: [u8; 16],
    part: Part,
}

/// Bytes of the file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Part {
    offset: u64,
    bytes: u32,
    check: [u8; 8],
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    check
}

fn key_hash(key: &str) -> u64 {
    u64::from_be_bytes(check(key.as_bytes()))
}

/// A segment as it is being written; without [`SegmentWriter::seal`] it leaves a `.new` file that nobody reads.
pub struct SegmentWriter {
    path: PathBuf,
    new: PathBuf,
    out: BufWriter<File>,
    offset: u64,
    block: Vec<u8>,
    block_first: [u8; 16],
    index: Vec<Block>,
    keys: Vec<(u64, u32)>,
    content: blake3::Hasher,
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Of the file.
    pub bytes: u64,
    pub content: [u8; 32],
}

impl SegmentWriter {
    pub fn create(path: &Path) -> Result<Self, SegmentError> {
        let new = path.with_extension("new");
        let file =
            File::create(&new).map_err(|source| SegmentError::Io { file: new.clone(), source })?;
        let mut writer = Self {
            path: path.to_owned(),
            new,
            out: BufWriter::new(file),
            offset: 0,
            block: Vec::with_capacity(BLOCK_BYTES * 2),
            block_first: [0; 16],
            index: Vec::new(),
            keys: Vec::new(),
            content: blake3::Hasher::new(),
        };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    fn io(&self, source: io::Error) -> SegmentError {
        SegmentError::Io { file: self.new.clone(), source }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Part, SegmentError> {
        self.out.write_all(bytes).map_err(|error| self.io(error))?;
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        let bytes_u32 = u32::try_from(bytes.len()).expect("parts are small");
        Ok(Part { offset, bytes: bytes_u32, check: check(bytes) })
    }

    /// Adds a message; ids go up from one to the next.
    pub fn add(&mut self, entry: &Entry, key: Option<&str>) -> Result<(), SegmentError> {
        if self.block.is_empty() {
            self.block_first = entry.id;
        }
        if let Some(key) = key {
            let block = u32::try_from(self.index.len()).expect("few blocks");
            self.keys.push((key_hash(key), block));
        }
        // Appending to memory cannot fail, and rows are plain data.
        self.block = postcard::to_extend(entry, std::mem::take(&mut self.block))
            .expect("an entry is plain data");
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), SegmentError> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.content.update(&self.block);
        let packed = lz4_flex::compress_prepend_size(&self.block);
        self.block.clear();
        let part = self.write(&packed)?;
        self.index.push(Block { first: self.block_first, part });
        Ok(())
    }

    /// Writes what is left, makes it durable and gives the file its name.
    pub fn seal(mut self) -> Result<Sealed, SegmentError> {
        self.end_block()?;
        self.keys.sort_unstable();
        self.keys.dedup();
        let plain = |_| io::Error::from(io::ErrorKind::InvalidData);
        let keys = postcard::to_allocvec(&self.keys).map_err(|e| self.io(plain(e)))?;
        let keys = self.write(&keys)?;
        let index = Index { blocks: std::mem::take(&mut self.index), keys };
        let index = postcard::to_allocvec(&index).map_err(|e| self.io(plain(e)))?;
        let part = self.write(&index)?;
        self.write(&part.offset.to_be_bytes())?;
        self.write(&part.bytes.to_be_bytes())?;
        self.write(blake3::hash(&index).as_bytes())?;
        let sealed = Sealed { bytes: self.offset, content: *self.content.finalize().as_bytes() };
        let rename = |out: &mut BufWriter<File>| {
            out.flush()?;
            out.get_ref().sync_all()?;
            fs::rename(&self.new, &self.path)?;
            // A name that is not synced can go with the power.
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        rename(&mut self.out)
            .map_err(|source| SegmentError::Io { file: self.new.clone(), source })?;
        Ok(sealed)
    }
}

/// A sealed segment, opened.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    file: File,
    /// Of the blocks and keys, which lie before the index.
    end: u64,
    index: Index,
}

impl Segment {
    pub fn open(path: &Path) -> Result<Self, SegmentError> {
        let io = |source| SegmentError::Io { file: path.to_owned(), source };
        let damaged = |what| SegmentError::Damaged { file: path.to_owned(), what };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut footer = [0; FOOTER_BYTES];
        let at = len.checked_sub(FOOTER_BYTES as u64).ok_or(damaged("it is too short"))?;
        file.read_exact_at(&mut footer, at).map_err(io)?;
        let (offset, rest) = footer.split_first_chunk::<8>().expect("a footer has 44 bytes");
        let (bytes, hash) = rest.split_first_chunk::<4>().expect("a footer has 44 bytes");
        let offset = u64::from_be_bytes(*offset);
        if offset.checked_add(u64::from(u32::from_be_bytes(*bytes))) != Some(at) {
            return Err(damaged("its end"));
        }
        let mut index = vec![0; u32::from_be_bytes(*bytes) as usize];
        file.read_exact_at(&mut index, offset).map_err(io)?;
        if blake3::hash(&index).as_bytes() != hash {
            return Err(damaged("its index"));
        }
        let index = postcard::from_bytes(&index).map_err(|_| damaged("its index"))?;
        Ok(Self { path: path.to_owned(), file, end: offset, index })
    }

    fn damaged(&self, what: &'static str) -> SegmentError {
        SegmentError::Damaged { file: self.path.clone(), what }
    }

    fn read(&self, part: Part) -> Result<Vec<u8>, SegmentError> {
        // An index that is wrong but for its checks must not take memory.
        let end = part.offset.checked_add(part.bytes.into());
        if end.is_none_or(|end| end > self.end) {
            return Err(self.damaged("its index"));
        }
        let mut bytes = vec![0; part.bytes as usize];
        self.file
            .read_exact_at(&mut bytes, part.offset)
            .map_err(|source| SegmentError::Io { file: self.path.clone(), source })?;
        if check(&bytes) == part.check { Ok(bytes) } else { Err(self.damaged("a block")) }
    }

    /// How many blocks it has; [`Segment::block`] takes numbers below it.
    pub fn blocks(&self) -> usize {
        self.index.blocks.len()
    }

    /// The entries of a block, in the order of their ids.
    pub fn block(&self, number: usize) -> Result<Vec<Entry>, SegmentError> {
        let packed = self.read(self.index.blocks[number].part)?;
        let plain = unpack(&packed, usize::MAX).ok_or_else(|| self.damaged("a block"))?;
        let mut rest = plain.as_slice();
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (entry, after) =
                postcard::take_from_bytes(rest).map_err(|_| self.damaged("a block"))?;
            entries.push(entry);
            rest = after;
        }
        Ok(entries)
    }

    /// The block that would hold `id`; none if `id` is below all.
    pub fn block_of(&self, id: MessageId) -> Option<usize> {
        self.index.blocks.partition_point(|block| block.first <= id.0).checked_sub(1)
    }

    pub fn get(&self, id: MessageId) -> Result<Option<Entry>, SegmentError> {
        let Some(block) = self.block_of(id) else { return Ok(None) };
        Ok(self.block(block)?.into_iter().find(|entry| entry.id == id.0))
    }

    /// Blocks that hold a message with that key; rarely one that does not.
    pub fn blocks_with_key(&self, key: &str) -> Result<Vec<usize>, SegmentError> {
        let keys = self.read(self.index.keys)?;
        let keys: Vec<(u64, u32)> =
            postcard::from_bytes(&keys).map_err(|_| self.damaged("its keys"))?;
        let hash = key_hash(key);
        let from = keys.partition_point(|(other, _)| *other < hash);
        let with = keys[from..].iter().take_while(|(other, _)| *other == hash);
        let blocks: Vec<_> = with.map(|(_, block)| *block as usize).collect();
        let are_there = blocks.iter().all(|block| *block < self.blocks());
        are_there.then_some(blocks).ok_or_else(|| self.damaged("its keys"))
    }

    pub fn decode(&self, entry: &Entry) -> Result<Record, SegmentError> {
        entry.record().map_err(|source| SegmentError::Row { file: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fuzz::meter;

    fn entry(number: u16, bytes: usize) -> Entry {
        let mut id = [7; 16];
        id[14..].copy_from_slice(&number.to_be_bytes());
        Entry {
            id,
            message: vec![number.to_be_bytes()[1]; bytes].into(),
            life: Bytes::from_static(b"life"),
            deliveries: vec![(0, Bytes::from_static(b"sent"))],
        }
    }

    fn write(path: &Path, numbers: impl Iterator<Item = u16>) -> Sealed {
        let mut writer = SegmentWriter::create(path).unwrap();
        for number in numbers {
            let key = (number % 3 == 0).then(|| format!("key-{}", number % 30));
            writer.add(&entry(number, 3000), key.as_deref()).unwrap();
        }
        writer.seal().unwrap()
    }

    #[test]
    fn what_is_written_is_found_by_id_and_by_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.seg");
        let sealed = write(&path, (0..1000).filter(|number| number % 2 == 0));
        assert_eq!(sealed.bytes, fs::metadata(&path).unwrap().len());
        assert!(!path.with_extension("new").exists());
        let segment = Segment::open(&path).unwrap();
        assert!(segment.blocks() > 5);
        for number in 0..1000 {
            let found = segment.get(MessageId(entry(number, 0).id)).unwrap();
            assert_eq!(found, (number % 2 == 0).then(|| entry(number, 3000)));
        }
        assert_eq!(segment.get(MessageId([0; 16])).unwrap(), None);
        assert_eq!(segment.get(MessageId([255; 16])).unwrap(), None);
        let blocks = segment.blocks_with_key("key-6").unwrap();
        let found: Vec<_> =
            blocks.iter().flat_map(|block| segment.block(*block).unwrap()).collect();
        for number in (0..1000).filter(|number| number % 30 == 6) {
            assert!(found.contains(&entry(number, 3000)), "{number}");
        }
        assert_eq!(segment.blocks_with_key("key-1").unwrap(), [] as [usize; 0]);
    }

    #[test]
    fn the_same_messages_give_the_same_hash() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        let (a, b, c) = (write(&a, 0..100), write(&b, 0..100), write(&c, 0..99));
        assert_eq!(a, b);
        assert_ne!(a.content, c.content);
    }

    #[test]
    fn damage_is_told_and_costs_a_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.seg");
        write(&path, 0..200);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let segment = Segment::open(&path).unwrap();
        let told = segment.get(MessageId(entry(0, 0).id)).unwrap_err().to_string();
        assert!(told.contains("a.seg is damaged (a block)"), "{told}");
        assert_eq!(segment.get(MessageId(entry(199, 0).id)).unwrap(), Some(entry(199, 3000)));
        // Cut off anywhere, or wrong at its end: refused, never a panic.
        for cut in (0..whole.len()).step_by(97) {
            fs::write(&path, &whole[..cut]).unwrap();
            Segment::open(&path).unwrap_err();
        }
        for at in whole.len() - FOOTER_BYTES..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x80;
            fs::write(&path, &bytes).unwrap();
            Segment::open(&path).unwrap_err();
        }
    }

    /// A file whose checks are right, with that index and those keys.
    fn contrived(path: &Path, keys: &[(u64, u32)], block: impl Fn(Part) -> Part) -> Segment {
        let mut file = MAGIC.to_vec();
        let mut part = |bytes: &[u8]| {
            let offset = file.len() as u64;
            file.extend(bytes);
            Part { offset, bytes: bytes.len().try_into().unwrap(), check: check(bytes) }
        };
        let said = block(part(&[0, 0, 0, 64, 16, 97]));
        let keys = part(&postcard::to_stdvec(keys).unwrap());
        let index = Index { blocks: vec![Block { first: [0; 16], part: said }], keys };
        let index = postcard::to_stdvec(&index).unwrap();
        let offset = file.len() as u64;
        let length = u32::try_from(index.len()).unwrap().to_be_bytes();
        let hash = blake3::hash(&index);
        file.extend([&index[..], &offset.to_be_bytes(), &length, hash.as_bytes()].concat());
        fs::write(path, file).unwrap();
        Segment::open(path).unwrap()
    }

    /// Found by a fuzzer: a block took the memory that its index or its beginning spoke of, up to 4 GiB, and a block that
    /// is not there was looked for.
    #[test]
    fn an_index_that_is_wrong_but_for_its_checks_is_damage_and_takes_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.seg");
        let says: [fn(Part) -> Part; 4] = [
            |part| part,
            |part| Part { bytes: u32::MAX, ..part },
            |part| Part { offset: u64::MAX, ..part },
            |part| Part { offset: part.offset + 1_000, ..part },
        ];
        for said in says {
            let segment = contrived(&path, &[], said);
            let held = meter::most_held(|| {
                let error = segment.block(0).unwrap_err();
                assert!(matches!(error, SegmentError::Damaged { .. }), "{error}");
            });
            assert!(held < 100_000, "{held} bytes");
        }
        let segment = contrived(&path, &[(key_hash("k"), 1)], |part| part);
        let error = segment.blocks_with_key("k").unwrap_err();
        assert!(error.to_string().contains("(its keys)"), "{error}");
    }
}

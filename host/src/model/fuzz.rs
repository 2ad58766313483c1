//! What a fuzzer made up, taken apart: how every target of `crate::fuzz` reads its input.

pub mod meter;

/// Bytes that are not read yet. Where they end, everything is zero or empty.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Two bytes, big-endian.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Eight bytes, big-endian.
    pub fn long(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.fill_with(|| self.byte());
        u64::from_be_bytes(bytes)
    }

    /// So many bytes as one byte says, as far as they are there.
    pub fn few(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.take(length.into())
    }

    /// So many bytes as two bytes say, as far as they are there.
    pub fn some(&mut self) -> &'a [u8] {
        let length = self.short();
        self.take(length.into())
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Up to the next line's end, without it.
    pub fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let line = self.take(end);
        self.byte();
        line
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

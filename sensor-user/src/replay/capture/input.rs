//! A capture's octets, record by record.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read};

use super::{Fault, Offset};

/// Octets that are asked of a file at once.
const CHUNK: usize = 1 << 20;

/// The octets of a capture. One record is in memory at a time; who reads it bounds its length.
pub(super) struct Input {
    reader: BufReader<Box<dyn Read>>,
    is_compressed: bool,
    /// Grows to the longest record and stays that long, so that nothing has to be zeroed.
    buffer: Vec<u8>,
    /// Octets of the record so far.
    len: usize,
    /// Where it begins.
    at: u64,
}

impl Input {
    pub(super) fn new(reader: Box<dyn Read>, is_compressed: bool) -> Self {
        let reader = BufReader::with_capacity(CHUNK, reader);
        Self { reader, is_compressed, buffer: Vec::new(), len: 0, at: 0 }
    }

    /// Goes to the record behind this one; false where the input ends with this one.
    pub(super) fn advance(&mut self) -> Result<bool, Fault> {
        self.at += self.len as u64;
        self.len = 0;
        match self.reader.fill_buf() {
            Ok(octets) => Ok(!octets.is_empty()),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// The next `len` octets of the record are needed, too.
    pub(super) fn more(&mut self, len: usize) -> Result<(), Fault> {
        let end = self.len + len;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        match self.reader.read_exact(&mut self.buffer[self.len..end]) {
            Ok(()) => {
                self.len = end;
                Ok(())
            }
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Passes over the rest of a record of `len` octets.
    pub(super) fn skip_to(&mut self, len: usize) -> Result<(), Fault> {
        let rest = len.saturating_sub(self.len) as u64;
        let skipped = io::copy(&mut self.reader.by_ref().take(rest), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == rest => {
                self.at += rest;
                Ok(())
            }
            Ok(_) => Err(Fault::Cut(self.offset())),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// The record as far as it was asked for.
    pub(super) fn octets(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The same, to be changed.
    pub(super) fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    /// The record is not what it should be.
    pub(super) fn damaged(&self, what: impl Into<String>) -> Fault {
        Fault::Damaged(self.offset(), what.into())
    }

    fn fault(&self, error: io::Error) -> Fault {
        match error.kind() {
            ErrorKind::UnexpectedEof => Fault::Cut(self.offset()),
            _ => Fault::Unreadable(self.offset(), error),
        }
    }

    const fn offset(&self) -> Offset {
        Offset { at: self.at, is_compressed: self.is_compressed }
    }
}

//! Captures, frame by frame: pcap and pcapng, plain or gzipped.
//!
//! A file is hostile: each length in it is bounded before it is believed, and what is wrong is said
//! with its place. What comes before the fault is good.

mod input;
mod linktype;
mod pcap;
mod pcapng;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Cursor, Read},
    ops::Range,
};

use flate2::read::MultiGzDecoder;
use sensor_common::parse::Captured;

use self::{input::Input, linktype::LinkType, pcap::Pcap, pcapng::PcapNg};

/// Longest frame that is taken, as in tcpdump and Wireshark (`MAXIMUM_SNAPLEN`).
const MAX_FRAME: u32 = 262_144;

/// What a gzip file begins with (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why a capture can't be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system refuses.
    #[error("can't be opened: {0}")]
    Unopened(#[source] io::Error),
    /// There is nothing in it.
    #[error("is empty; a capture has a header even without packets")]
    Empty,
    /// It is something else.
    #[error(
        "is no capture: it begins with the octets {}; pcap and pcapng are read, also gzipped",
        Hex(.0)
    )]
    NoCapture(Vec<u8>),
    /// It ends within a record.
    #[error("is cut off: its end is missing from the record on that begins at {0}")]
    Cut(Offset),
    /// A record makes no sense.
    #[error("is damaged at {0}: {1}")]
    Damaged(Offset, String),
    /// The system, or the decompression, fails.
    #[error("can't be read from {0} on: {1}")]
    Unreadable(Offset, #[source] io::Error),
    /// Frames without the MAC addresses of an Ethernet.
    #[error(
        "has link type {link}{}; what is read is Ethernet, and Linux cooked captures (LINUX_SLL, \
         LINUX_SLL2){}",
        Of(.interface),
        LeftOut(*.packets)
    )]
    LinkType {
        /// Which interface; empty where there can be only one.
        interface: String,
        /// Its link type, by name.
        link: String,
        /// Packets that were left out, of all such interfaces.
        packets: u64,
    },
    /// The ledger has packets of another one that begins as it does.
    #[error(
        "begins as a capture of which the ledger has {0} packets, and is another one, as where it was cut or filtered: \
         packets may be in both, so it was not counted; give it a ledger of its own"
    )]
    BeginsAlike(u64),
}

/// Where in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Octets before.
    at: u64,
    is_gzipped: bool,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}{}", self.at, if self.is_gzipped { " when decompressed" } else { "" })
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets: Vec<_> = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        f.write_str(&octets.join(" "))
    }
}

struct Of<'a>(&'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            interface => write!(f, " on interface {interface}"),
        }
    }
}

struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            packets => write!(f, "; {packets} packets of such interfaces were left out"),
        }
    }
}

/// A frame of a capture.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// From the Ethernet header on.
    pub frame: Captured<'a>,
    /// Unix time in nanoseconds; `None` where the capture gives none.
    pub time: Option<u64>,
}

/// A capture that is being read.
pub struct Capture {
    input: Input,
    format: Format,
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// A frame within a record.
struct Found {
    octets: Range<usize>,
    wire_len: u32,
    time: Option<u64>,
    link: LinkType,
}

impl Capture {
    /// Finds out what kind of capture it is.
    ///
    /// # Errors
    ///
    /// When it is none, or its header is damaged, or its link type is not read.
    pub fn new(mut reader: Box<dyn Read>) -> Result<Self, Fault> {
        let mut start = Vec::new();
        let read = reader.by_ref().take(GZIP.len() as u64).read_to_end(&mut start);
        read.map_err(Fault::Unopened)?;
        let is_gzipped = start == GZIP;
        let whole = Cursor::new(start).chain(reader);
        let reader: Box<dyn Read> =
            if is_gzipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        let mut input = Input::new(reader, is_gzipped);
        if !input.advance()? {
            return Err(Fault::Empty);
        }
        input.more(4)?;
        let format = if input.octets() == pcapng::SECTION_HEADER {
            Format::PcapNg(PcapNg::new())
        } else {
            Format::Pcap(Pcap::new(&mut input)?)
        };
        Ok(Self { input, format })
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    ///
    /// When the rest can't be read. Then there is no use in asking again.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, Fault> {
        let found = match &mut self.format {
            Format::Pcap(pcap) => pcap.read(&mut self.input)?,
            Format::PcapNg(pcapng) => pcapng.read(&mut self.input)?,
        };
        let Some(Found { octets, wire_len, time, link }) = found else { return Ok(None) };
        // What was never on the wire was not captured there.
        let wire_len = wire_len as usize;
        let len = octets.len().min(wire_len);
        let octets = &mut self.input.octets_mut()[octets][..len];
        let octets = link.to_ethernet(octets);
        Ok(Some(Record { frame: Captured { octets, wire_len }, time }))
    }

    /// What had to be left out of a capture that was read to its end.
    pub fn left_out(&self) -> Option<Fault> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::PcapNg(pcapng) => pcapng.left_out(),
        }
    }
}

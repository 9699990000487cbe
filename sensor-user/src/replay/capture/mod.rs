//! Captures, frame by frame: pcap and pcapng, plain or compressed.
//!
//! A file is hostile: each length in it is bounded before it is believed, and what is wrong is said
//! with its place. What comes before the fault is good.

mod compression;
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

pub use self::linktype::Unread;
use self::{
    compression::{Compression, Decompressed},
    input::Input,
    linktype::{Framed, LinkType},
    pcap::Pcap,
    pcapng::PcapNg,
};

/// Longest frame that is taken, as in tcpdump and Wireshark (`MAXIMUM_SNAPLEN`).
const MAX_FRAME: u32 = 262_144;

/// Latest time that is believed, Unix time in nanoseconds: in the year 2262, as a ledger's times end there.
const LATEST: u64 = i64::MAX.cast_unsigned();

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
        "is no capture: it begins with the octets {}; pcap and pcapng are read, also compressed by gzip, zstd, xz or lz4",
        Hex(.0)
    )]
    NoCapture(Vec<u8>),
    /// It is compressed in a way that is not read.
    #[error(
        "is compressed or an archive ({0}); unpack it first, or compress it by gzip, zstd, xz or lz4"
    )]
    Packed(&'static str),
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
        "has link type {link}{}; what is read is Ethernet, Linux cooked captures (LINUX_SLL, LINUX_SLL2), IP without a \
         link's header (RAW, NULL, LOOP) and PKTAP{}{}",
        Of(.interface),
        LeftOut(*.packets),
        Reason(link.reason())
    )]
    LinkType {
        /// Which interface; empty where there can be only one.
        interface: String,
        /// Its link type, by name.
        link: Unread,
        /// Packets that were left out, of all such interfaces.
        packets: u64,
    },
    /// Packets that were shorter on the wire than in the capture.
    #[error(
        "says of {0} packets that less was on the wire than it has of them; what it has was counted"
    )]
    Longer(u64),
    /// Times that no ledger can hold.
    #[error(
        "has {0} packets with times before 1970 or after 2262; each was counted at the time of the packet before it"
    )]
    Times(u64),
    /// Several of these.
    #[error("{}", Each(.0))]
    Several(Vec<Fault>),
    /// The ledger has packets of another one that begins as it does.
    #[error(
        "begins as a capture of which the ledger has {0} packets, and is another one, as where it was cut or filtered: \
         packets may be in both, so it was not counted; give it a ledger of its own"
    )]
    BeginsAlike(u64),
}

impl Fault {
    /// A file that begins with these octets is no capture.
    fn none(start: &[u8]) -> Self {
        Compression::unread(start).map_or_else(|| Self::NoCapture(start.to_vec()), Self::Packed)
    }
}

/// Where in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Octets before.
    at: u64,
    is_compressed: bool,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}{}", self.at, if self.is_compressed { " when decompressed" } else { "" })
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

struct Reason(&'static str);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            reason => write!(f, ".{reason}"),
        }
    }
}

struct Each<'a>(&'a [Fault]);

impl fmt::Display for Each<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&faults.join("; it "))
    }
}

/// Which way a frame went, seen from the machine that captured it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// The capture doesn't say.
    #[default]
    Unknown,
    /// To that machine.
    In,
    /// From it.
    Out,
}

/// A frame of a capture.
#[derive(Debug)]
pub struct Record<'a> {
    /// What was captured of it, from the Ethernet header on.
    pub octets: &'a mut [u8],
    /// Octets on the wire, the Ethernet header included and without an FCS.
    pub wire_len: usize,
    /// Unix time in nanoseconds; `None` where the capture gives none.
    pub time: Option<u64>,
    /// Which way it went.
    pub way: Way,
}

/// A capture that is being read.
pub struct Capture {
    input: Input,
    format: Format,
    /// Frames that need more room than they have in the input.
    scratch: Vec<u8>,
    doubts: Doubts,
}

/// What was counted although the capture contradicts itself, and what was left out.
#[derive(Default)]
struct Doubts {
    longer: u64,
    times: u64,
    /// Packets whose own link types are not read, and the first one of these.
    unread: Option<(Unread, u64)>,
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// A frame within a record.
struct Found {
    octets: Range<usize>,
    wire_len: u32,
    /// Octets of it at the end that are its FCS.
    fcs: u32,
    /// Unix time in nanoseconds; [`BEYOND`] for one that has no number.
    time: Option<u64>,
    link: LinkType,
    way: Way,
}

/// A time before 1970, or later than fits.
const BEYOND: u64 = u64::MAX;

impl Capture {
    /// Finds out what kind of capture it is.
    ///
    /// # Errors
    ///
    /// When it is none, or its header is damaged, or its link type is not read.
    pub fn new(mut reader: Box<dyn Read>) -> Result<Self, Fault> {
        let mut start = Vec::new();
        let read = reader.by_ref().take(compression::START as u64).read_to_end(&mut start);
        read.map_err(Fault::Unopened)?;
        let compression = Compression::of(&start);
        let whole: Box<dyn Read> = Box::new(Cursor::new(start).chain(reader));
        let reader = match compression {
            Some(kind) => Box::new(Decompressed::new(kind, whole)),
            None => whole,
        };
        let mut input = Input::new(reader, compression.is_some());
        if !input.advance()? {
            return Err(Fault::Empty);
        }
        input.more(4)?;
        let format = if input.octets() == pcapng::SECTION_HEADER {
            Format::PcapNg(PcapNg::new())
        } else {
            Format::Pcap(Pcap::new(&mut input)?)
        };
        Ok(Self { input, format, scratch: Vec::new(), doubts: Doubts::default() })
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    ///
    /// When the rest can't be read. Then there is no use in asking again.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, Fault> {
        let found = loop {
            let found = match &mut self.format {
                Format::Pcap(pcap) => pcap.read(&mut self.input)?,
                Format::PcapNg(pcapng) => pcapng.read(&mut self.input)?,
            };
            let Some(found) = found else { return Ok(None) };
            match found.link.of_packet(&self.input.octets()[found.octets.clone()]).unread() {
                None => break found,
                Some(unread) => self.doubts.unread.get_or_insert((unread, 0)).1 += 1,
            }
        };
        let Found { octets, wire_len, fcs, time, link, way } = found;
        // Less can't have been on the wire than was captured there.
        let captured = octets.len();
        if (wire_len as usize) < captured {
            self.doubts.longer += 1;
        }
        let wire_len = captured.max(wire_len as usize).saturating_sub(fcs as usize);
        let time = time.filter(|time| {
            let is_believed = *time <= LATEST;
            self.doubts.times += u64::from(!is_believed);
            is_believed
        });
        let octets = &mut self.input.octets_mut()[octets][..captured.min(wire_len)];
        let framed = link.to_ethernet(octets, wire_len, &mut self.scratch);
        let Framed { octets, wire_len, way: link_way } = framed;
        let way = if way == Way::Unknown { link_way } else { way };
        Ok(Some(Record { octets, wire_len, time, way }))
    }

    /// What was doubtful about a capture that was read to its end, or had to be left out.
    pub fn doubts(&self) -> Option<Fault> {
        let Doubts { longer, times, unread } = &self.doubts;
        let left_out = match &self.format {
            Format::Pcap(_) => None,
            Format::PcapNg(pcapng) => pcapng.left_out(),
        };
        let of_packets = unread.clone().map(|(link, packets)| Fault::LinkType {
            interface: String::new(),
            link,
            packets,
        });
        let longer = (*longer > 0).then_some(Fault::Longer(*longer));
        let times = (*times > 0).then_some(Fault::Times(*times));
        let mut faults: Vec<Fault> =
            [left_out, of_packets, longer, times].into_iter().flatten().collect();
        match faults.len() {
            0 | 1 => faults.pop(),
            _ => Some(Fault::Several(faults)),
        }
    }
}

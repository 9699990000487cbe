//! The pcap format (draft-ietf-opsawg-pcap): a header, then records.

use super::{Fault, Found, MAX_FRAME, Way, input::Input, linktype::LinkType};

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Of Linux's first ring buffers (Kuznetzov's patch): a record tells interface and protocol besides.
const MODIFIED: u32 = 0xa1b2_cd34;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const MODIFIED_RECORD_HEADER: usize = 24;

/// The only major version there is, but for DG/UX, whose tcpdump calls it 543 (libpcap, `sf-pcap.c`).
const VERSION: u32 = 2;
const VERSION_DG_UX: u32 = 543;

/// The part of the network field that is the link type.
const LINK_TYPE: u32 = 0x03ff_ffff;
/// Set where the four bits on top are the length of the FCS behind each frame, in units of 16 bits.
const FCS_PRESENT: u32 = 0x0400_0000;

pub(super) struct Pcap {
    is_big_endian: bool,
    record_header: usize,
    /// What a fraction of a second counts, in nanoseconds.
    resolution: u64,
    lengths: Lengths,
    link: LinkType,
    /// Octets behind each frame.
    fcs: u32,
}

/// In which order a record has the two lengths: until version 2.3 the one on the wire came first, and some
/// programs wrote that version's number and already the new order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    WireFirst,
    SmallerIsCaptured,
}

impl Pcap {
    /// Reads the header, whose first four octets are in the input.
    pub(super) fn new(input: &mut Input) -> Result<Self, Fault> {
        let start = input.octets().first_chunk().copied().unwrap_or_default();
        let is_magic = |number: &u32| [MICROSECONDS, NANOSECONDS, MODIFIED].contains(number);
        let numbers = [u32::from_be_bytes(start), u32::from_le_bytes(start)];
        let Some(magic) = numbers.into_iter().find(is_magic) else {
            return Err(Fault::none(&start));
        };
        let is_big_endian = magic == numbers[0];
        input.more(FILE_HEADER - start.len())?;
        let (version, network) = (word(input, 4, is_big_endian), word(input, 20, is_big_endian));
        // Two numbers of 16 bits each, the major one first.
        let halves = [version >> 16, version & 0xffff];
        let [major, minor] = if is_big_endian { halves } else { [halves[1], halves[0]] };
        let lengths = match (major, minor) {
            (VERSION, 0..=2) | (VERSION_DG_UX, 0) => Lengths::WireFirst,
            (VERSION, 3) => Lengths::SmallerIsCaptured,
            (VERSION, _) => Lengths::CapturedFirst,
            (major, _) => return Err(input.damaged(format!("a header of version {major}"))),
        };
        let link = LinkType::new(network & LINK_TYPE);
        if let Some(link) = link.unread() {
            return Err(Fault::LinkType { interface: String::new(), link, packets: 0 });
        }
        Ok(Self {
            is_big_endian,
            record_header: if magic == MODIFIED { MODIFIED_RECORD_HEADER } else { RECORD_HEADER },
            resolution: if magic == NANOSECONDS { 1 } else { 1000 },
            lengths,
            link,
            fcs: if network & FCS_PRESENT == 0 { 0 } else { (network >> 28) * 2 },
        })
    }

    pub(super) fn read(&mut self, input: &mut Input) -> Result<Option<Found>, Fault> {
        if !input.advance()? {
            return Ok(None);
        }
        input.more(self.record_header)?;
        let word = |at| word(input, at, self.is_big_endian);
        let (seconds, fraction, first, second) = (word(0), word(4), word(8), word(12));
        let (captured, wire_len) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::WireFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        if captured > MAX_FRAME {
            let what = format!("a frame of {captured} octets; none is longer than {MAX_FRAME}");
            return Err(input.damaged(what));
        }
        input.more(captured as usize)?;
        let seconds = u64::from(seconds) * 1_000_000_000;
        Ok(Some(Found {
            octets: self.record_header..self.record_header + captured as usize,
            wire_len,
            fcs: self.fcs,
            time: Some(seconds + u64::from(fraction) * self.resolution),
            link: self.link,
            way: Way::Unknown,
        }))
    }
}

fn word(input: &Input, at: usize, is_big_endian: bool) -> u32 {
    let octets = input.octets()[at..].first_chunk().copied().unwrap_or_default();
    if is_big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
}

//! The pcapng format (draft-ietf-opsawg-pcapng): sections of blocks, which describe interfaces and hold
//! their frames.

use pcap_parser::{
    Block, InterfaceDescriptionBlock, OptionCode, PcapNGOption, parse_block_be, parse_block_le,
};

use super::{
    BEYOND, Fault, Found, MAX_FRAME, Way,
    input::Input,
    linktype::{LinkType, Unread},
};

/// What a section begins with, in either byte order.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Behind it and the block's length: the section's byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The only major version there is.
const VERSION: u16 = 1;

const INTERFACE: u32 = 1;
/// Obsolete, but written by tools that are still in use.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and length; the length again stands at the end.
const BLOCK_HEADER: usize = 8;
const BLOCK_MIN: u32 = 12;
/// Longest block that is read, as in Wireshark; others are passed over unread.
const MAX_BLOCK: u32 = 16 << 20;
/// Of a packet block and an enhanced one, up to the frame.
const PACKET_HEADER: usize = BLOCK_HEADER + 20;
/// Of a simple one.
const SIMPLE_HEADER: usize = BLOCK_HEADER + 4;

/// Options `if_fcslen` of an interface and `epb_flags` of an enhanced packet.
const FCS_LEN: u16 = 13;
const FLAGS: u16 = 2;
/// Larger lengths of an FCS are in bits, as the draft has them; Wireshark and others write octets.
const MAX_FCS_OCTETS: u32 = 8;

/// Most interfaces of a section.
const MAX_INTERFACES: usize = 65_536;
/// Longest name of an interface in a message, in characters.
const MAX_NAME: usize = 32;

pub(super) struct PcapNg {
    is_big_endian: bool,
    /// Of this section.
    interfaces: Vec<Interface>,
    /// The first interface whose frames were left out, its link type, and how many frames of such
    /// interfaces were.
    left_out: Option<(String, Unread, u64)>,
}

struct Interface {
    link: LinkType,
    /// Longest captured frame; 0 for no limit.
    snap_len: u32,
    resolution: Resolution,
    /// Seconds to add to times.
    offset: i64,
    /// Octets of the FCS behind each frame, unless a packet says otherwise.
    fcs: u32,
    /// Only kept of those whose frames are left out.
    name: String,
}

/// A frame, as its block has it.
struct Packet {
    interface: u32,
    ticks: Option<u64>,
    start: usize,
    captured: u32,
    wire_len: u32,
    /// `epb_flags`, 0 for none.
    flags: u32,
}

impl PcapNg {
    pub(super) const fn new() -> Self {
        Self { is_big_endian: false, interfaces: Vec::new(), left_out: None }
    }

    pub(super) fn read(&mut self, input: &mut Input) -> Result<Option<Found>, Fault> {
        loop {
            // Of the very first block the type was read to find out the format.
            if input.octets() != SECTION_HEADER {
                if !input.advance()? {
                    return Ok(None);
                }
                input.more(4)?;
            }
            if let Some(packet) = self.block(input)?
                && let Some(found) = self.found(&packet, input)?
            {
                return Ok(Some(found));
            }
        }
    }

    pub(super) fn left_out(&self) -> Option<Fault> {
        let (interface, link, packets) = self.left_out.clone()?;
        Some(Fault::LinkType { interface, link, packets })
    }

    /// Reads a block, whose type is in the input.
    fn block(&mut self, input: &mut Input) -> Result<Option<Packet>, Fault> {
        input.more(4)?;
        let is_section = input.octets().starts_with(&SECTION_HEADER);
        if is_section {
            input.more(4)?;
            self.is_big_endian = match self.u32(input, BLOCK_HEADER) {
                BYTE_ORDER => self.is_big_endian,
                order if order == BYTE_ORDER.swap_bytes() => !self.is_big_endian,
                order => return Err(input.damaged(format!("a section of byte order {order:#x}"))),
            };
            self.interfaces.clear();
        }
        let (kind, len) = (self.u32(input, 0), self.u32(input, 4));
        if len < BLOCK_MIN {
            return Err(input.damaged(format!("a block of {len} octets; none is shorter than 12")));
        }
        let is_read =
            is_section || matches!(kind, INTERFACE | PACKET | SIMPLE_PACKET | ENHANCED_PACKET);
        if !is_read {
            input.skip_to(len as usize)?;
            return Ok(None);
        }
        if len > MAX_BLOCK {
            let what =
                format!("a block of {len} octets; none that is read is longer than {MAX_BLOCK}");
            return Err(input.damaged(what));
        }
        input.more((len as usize).saturating_sub(input.octets().len()))?;
        let parse = if self.is_big_endian { parse_block_be } else { parse_block_le };
        let Ok((_, block)) = parse(input.octets()) else {
            // The block is there as a whole, so the parser can't lack any of it.
            return Err(
                input.damaged(format!("a block of type {kind} whose parts don't fit in it"))
            );
        };
        Ok(match block {
            Block::SectionHeader(block) if block.major_version != VERSION => {
                return Err(input.damaged(format!("a section of version {}", block.major_version)));
            }
            Block::InterfaceDescription(block) => {
                if self.interfaces.len() == MAX_INTERFACES {
                    let what = format!("a section of more than {MAX_INTERFACES} interfaces");
                    return Err(input.damaged(what));
                }
                self.interfaces.push(Interface::new(&block, self.is_big_endian));
                None
            }
            Block::EnhancedPacket(block) => Some(Packet {
                interface: block.if_id,
                ticks: Some(u64::from(block.ts_high) << 32 | u64::from(block.ts_low)),
                start: PACKET_HEADER,
                captured: block.caplen,
                wire_len: block.origlen,
                flags: number(&block.options, FLAGS, self.is_big_endian),
            }),
            Block::SimplePacket(block) => {
                let room = len - BLOCK_MIN - 4;
                let (wire_len, snap_len) = (block.origlen, self.snap_len());
                let captured = wire_len.min(snap_len).min(room);
                Some(Packet {
                    interface: 0,
                    ticks: None,
                    start: SIMPLE_HEADER,
                    captured,
                    wire_len,
                    flags: 0,
                })
            }
            Block::Unknown(block) if kind == PACKET && block.data.len() >= 20 => {
                let word = |at| self.u32(input, at);
                Some(Packet {
                    interface: self.u16(input, 8).into(),
                    ticks: Some(u64::from(word(12)) << 32 | u64::from(word(16))),
                    start: PACKET_HEADER,
                    captured: word(20),
                    wire_len: word(24),
                    flags: 0,
                })
            }
            Block::Unknown(_) => return Err(input.damaged("a packet block that is too short")),
            _ => None,
        })
    }

    /// The frame of a packet; `None` where the interface's link type is not read.
    fn found(&mut self, packet: &Packet, input: &Input) -> Result<Option<Found>, Fault> {
        let Packet { interface: number, ticks, start, captured, wire_len, flags } = *packet;
        let Some(interface) = self.interfaces.get(number as usize) else {
            let what =
                format!("a packet of interface {number}, which the section does not describe");
            return Err(input.damaged(what));
        };
        let end = start + captured as usize;
        if captured > MAX_FRAME {
            let what = format!("a frame of {captured} octets; none is longer than {MAX_FRAME}");
            return Err(input.damaged(what));
        }
        // The length stands again behind it.
        if end + 4 > input.octets().len() {
            return Err(input.damaged("a frame that is longer than its block"));
        }
        if let Some(link) = interface.link.unread() {
            let new = || (format!("{number} ({:?})", interface.name), link, 0);
            self.left_out.get_or_insert_with(new).2 += 1;
            return Ok(None);
        }
        let time = ticks.map(|ticks| interface.resolution.unix_nanos(ticks, interface.offset));
        // Bits 0 and 1 are the direction, 5 to 8 the length of the FCS in octets, 0 where that is not known.
        let way = match flags & 0b11 {
            1 => Way::In,
            2 => Way::Out,
            _ => Way::Unknown,
        };
        let fcs = match flags >> 5 & 0b1111 {
            0 => interface.fcs,
            len => len,
        };
        Ok(Some(Found { octets: start..end, wire_len, fcs, time, link: interface.link, way }))
    }

    /// Of the first interface, which all simple packets are of.
    fn snap_len(&self) -> u32 {
        self.interfaces
            .first()
            .map(|first| first.snap_len)
            .filter(|len| *len > 0)
            .unwrap_or(u32::MAX)
    }

    fn u16(&self, input: &Input, at: usize) -> u16 {
        let octets = [input.octets()[at], input.octets()[at + 1]];
        if self.is_big_endian { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) }
    }

    fn u32(&self, input: &Input, at: usize) -> u32 {
        let octets = input.octets()[at..].first_chunk().copied().unwrap_or_default();
        if self.is_big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
    }
}

/// The number in an option of one octet or of four, 0 where there is none.
fn number(options: &[PcapNGOption<'_>], code: u16, is_big_endian: bool) -> u32 {
    let option = options.iter().find(|option| option.code == OptionCode(code));
    match option.and_then(|option| option.as_bytes().ok()) {
        Some([octet]) => (*octet).into(),
        Some([a, b, c, d]) if is_big_endian => u32::from_be_bytes([*a, *b, *c, *d]),
        Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

impl Interface {
    fn new(block: &InterfaceDescriptionBlock<'_>, is_big_endian: bool) -> Self {
        // The parser takes the offset for little-endian whatever the section is.
        let offset = block.ts_offset();
        let offset = if is_big_endian { offset.swap_bytes() } else { offset };
        let link = LinkType::new(block.linktype.0.cast_unsigned());
        let name = block.if_name().and_then(Result::ok).filter(|_| link.unread().is_some());
        Self {
            link,
            snap_len: block.snaplen,
            resolution: Resolution(block.if_tsresol),
            offset,
            fcs: match number(&block.options, FCS_LEN, is_big_endian) {
                octets @ 0..=MAX_FCS_OCTETS => octets,
                bits => bits / 8,
            },
            name: name.unwrap_or_default().chars().take(MAX_NAME).collect(),
        }
    }
}

/// The option `if_tsresol`: negative power of ten or, with the highest bit, of two.
#[derive(Clone, Copy)]
struct Resolution(u8);

impl Resolution {
    /// Unix time in nanoseconds, or [`BEYOND`].
    fn unix_nanos(self, ticks: u64, offset: i64) -> u64 {
        let exponent = u32::from(self.0 & 0x7f);
        let base: u128 = if self.0 & 0x80 == 0 { 10 } else { 2 };
        // Finer than what has a number: no tick lasts as long as a nanosecond.
        let per_second = base.checked_pow(exponent).unwrap_or(u128::MAX);
        let nanos = u128::from(ticks) * 1_000_000_000 / per_second;
        let offset = i128::from(offset) * 1_000_000_000;
        let unix = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_add(offset);
        u64::try_from(unix).unwrap_or(BEYOND)
    }
}

//! How many packets and octets of the wire one of the kernel's buffers stands for.

use crate::{
    layout::{Direction, Tally},
    parse::{Parsed, VLAN_TAG},
};

/// Linux marks IPv6 super-packets that are longer than this (`GRO_LEGACY_MAX_SIZE`), and takes no shorter one
/// for marked.
const LONGEST_UNMARKED: u32 = 65_536;

/// What the kernel says of a buffer (`struct __sk_buff`), which may be a super-packet (GSO, GRO).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skbuff {
    /// Octets in it.
    pub len: u32,
    /// Octets on the wire by the qdisc layer; at ingress that is `len`.
    pub wire_len: u32,
    /// Segments, or 0 where nobody has counted them.
    pub gso_segs: u32,
    /// Octets that a segment carries, or 0 where this is no super-packet.
    pub gso_size: u32,
    /// Whether it has a VLAN tag beside the data, which counts as if it were in it.
    pub tagged: bool,
}

impl Skbuff {
    /// What it stands for on the wire: segments count, each with its own headers. `tunnel` is what
    /// [`inner_headers`](crate::parse::inner_headers) says of a super-packet, 0 where that is nothing.
    #[inline(always)]
    pub const fn tally(&self, direction: Direction, parsed: &Parsed, tunnel: u32) -> Tally {
        let Self { len, wire_len, gso_segs, gso_size, tagged } = *self;
        let headers = if tunnel != 0 { tunnel } else { parsed.headers };
        let packets = if gso_segs != 0 {
            gso_segs
        } else if gso_size != 0 && len > headers {
            // A guest or a tap left the count to the NIC (SKB_GSO_DODGY).
            (len - headers).div_ceil(gso_size)
        } else {
            1
        } as u64;
        let frame_bytes = match direction {
            // The qdisc layer has added each segment's headers, but not every kernel a tunnel's inner ones.
            Direction::Rx if tunnel == 0 => wire_len as u64,
            _ => len as u64 + (packets - 1) * headers as u64,
        };
        let tag_bytes = if tagged { packets * VLAN_TAG as u64 } else { 0 };
        let jumbo = if gso_size != 0 && len > LONGEST_UNMARKED { parsed.jumbo } else { 0 };
        let inner = headers.wrapping_sub(parsed.headers) as u64;
        Tally {
            packets,
            bytes: (frame_bytes + tag_bytes).wrapping_sub(packets * jumbo as u64),
            payload: parsed.payload as u64 + (packets - 1) * inner,
        }
    }
}

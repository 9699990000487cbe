//! How many packets and bytes one call of a program stands for.

use aya_ebpf::programs::{TcContext, XdpContext};
use sensor_common::{
    layout::{Direction, Tally},
    parse::{Link, Parsed, VLAN_TAG},
};

/// One frame as it came from the wire.
#[inline(always)]
pub(crate) fn frame(wire_len: usize, payload: u32) -> Tally {
    Tally { packets: 1, bytes: wire_len as u64, payload: payload as u64 }
}

/// Interface of a frame in the driver; its tags are all in the frame.
#[inline(always)]
pub(crate) fn xdp_link(ctx: &XdpContext) -> Link {
    Link { ifindex: ctx.ingress_ifindex() as u32, vlan_tci: None }
}

/// Interface and VLAN tag of an skb; the kernel keeps the outermost tag beside the data.
#[inline(always)]
pub(crate) fn skb_link(ctx: &TcContext) -> Link {
    // SAFETY: the verifier rewrites reads of the context.
    let (ifindex, present, tci) = unsafe {
        let skb = ctx.skb.skb;
        ((*skb).ifindex, (*skb).vlan_present, (*skb).vlan_tci)
    };
    Link { ifindex, vlan_tci: if present == 0 { None } else { Some(tci as u16) } }
}

/// Whether an skb is one frame as it came from the wire, or will go there: no super-packet, and all
/// its tags are in the frame.
#[inline(always)]
pub(crate) fn is_frame(ctx: &TcContext) -> bool {
    // SAFETY: the verifier rewrites reads of the context.
    unsafe { (*ctx.skb.skb).gso_size == 0 && (*ctx.skb.skb).vlan_present == 0 }
}

/// [`skb_link`] of such an skb.
#[inline(always)]
pub(crate) fn untagged_skb_link(ctx: &TcContext) -> Link {
    // SAFETY: as above.
    Link { ifindex: unsafe { (*ctx.skb.skb).ifindex }, vlan_tci: None }
}

/// An skb, which may be a super-packet (GSO, GRO): segments count, each with its own headers.
#[inline(always)]
pub(crate) fn skb(ctx: &TcContext, direction: Direction, link: Link, parsed: &Parsed) -> Tally {
    // SAFETY: the verifier rewrites reads of the context.
    let (len, wire_len, gso_segs, gso_size) = unsafe {
        let skb = ctx.skb.skb;
        ((*skb).len, (*skb).wire_len, (*skb).gso_segs, (*skb).gso_size)
    };
    let headers = parsed.headers;
    let packets = if gso_segs != 0 {
        gso_segs
    } else if gso_size != 0 && len > headers {
        // A guest or a tap left the count to the NIC (SKB_GSO_DODGY).
        (len - headers).div_ceil(gso_size)
    } else {
        1
    };
    let frame_bytes = match direction {
        // The qdisc layer has already added each segment's headers.
        Direction::Rx => wire_len as u64,
        // There `wire_len` is the length of the super-packet.
        Direction::Tx => len as u64 + (packets as u64 - 1) * headers as u64,
    };
    let tag_bytes = if link.vlan_tci.is_some() { packets as u64 * VLAN_TAG as u64 } else { 0 };
    Tally {
        packets: packets as u64,
        bytes: frame_bytes + tag_bytes,
        payload: parsed.payload as u64,
    }
}

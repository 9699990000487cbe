//! How many packets and bytes one call of a program stands for.

use aya_ebpf::{
    EbpfContext as _,
    programs::{TcContext, XdpContext},
};
use sensor_common::{
    layout::{Direction, Tally},
    parse::{Link, Parsed, may_be_tunnel},
    skbuff::Skbuff,
};

use crate::walk::inner_headers;

/// One frame as it came from the wire.
#[inline(always)]
pub(crate) fn frame(wire_len: usize, payload: u32) -> Tally {
    Tally { packets: 1, bytes: wire_len as u64, payload: payload as u64 }
}

/// Interface of a frame in the driver; its tags are all in the frame.
#[inline(always)]
pub(crate) fn xdp_link(ctx: &XdpContext) -> Link {
    Link { ifindex: ctx.ingress_ifindex() as u32, ..Link::default() }
}

/// Interface and VLAN tag of an skb; the kernel keeps the outermost tag beside the data. What leaves and never
/// came in was made here.
#[inline(always)]
pub(crate) fn skb_link(ctx: &TcContext, direction: Direction) -> Link {
    // SAFETY: the verifier rewrites reads of the context.
    let (ifindex, present, tci, came_by) = unsafe {
        let skb = ctx.skb.skb;
        ((*skb).ifindex, (*skb).vlan_present, (*skb).vlan_tci, (*skb).ingress_ifindex)
    };
    Link {
        ifindex,
        vlan_tci: if present == 0 { None } else { Some(tci as u16) },
        from_here: matches!(direction, Direction::Rx) && came_by == 0,
    }
}

/// Whether an skb is one frame as it came from the wire, or will go there: no super-packet, and all
/// its tags are in the frame.
#[inline(always)]
pub(crate) fn is_frame(ctx: &TcContext) -> bool {
    // SAFETY: the verifier rewrites reads of the context.
    unsafe { (*ctx.skb.skb).gso_size == 0 && (*ctx.skb.skb).vlan_present == 0 }
}

/// [`skb_link`] of such an skb, where nobody asks who made it.
#[inline(always)]
pub(crate) fn untagged_skb_link(ctx: &TcContext) -> Link {
    // SAFETY: as above.
    Link { ifindex: unsafe { (*ctx.skb.skb).ifindex }, ..Link::default() }
}

/// An skb, which may be a super-packet (GSO, GRO).
#[inline(always)]
pub(crate) fn skb(ctx: &TcContext, direction: Direction, link: Link, parsed: &Parsed) -> Tally {
    // SAFETY: the verifier rewrites reads of the context.
    let skb = unsafe {
        let skb = ctx.skb.skb;
        Skbuff {
            len: (*skb).len,
            wire_len: (*skb).wire_len,
            gso_segs: (*skb).gso_segs,
            gso_size: (*skb).gso_size,
            tagged: link.vlan_tci.is_some(),
        }
    };
    let tunnel = if skb.gso_size != 0 && may_be_tunnel(&parsed.key) {
        inner_headers(ctx.as_ptr(), parsed.key.protocol(), parsed.headers, skb.len)
    } else {
        0
    };
    skb.tally(direction, parsed, tunnel)
}

//! LabGate's kernel programs. They observe: on every path, errors included, a packet is passed on
//! unchanged.
//!
//! A packet's way: entry point (here) -> [`frame`] reads it -> `sensor_common::parse` finds its key
//! -> [`measure`] finds its packets and bytes -> [`count`] adds them to a slot of the flow table.
//! Plain IPv4 takes a short way, inline; plain IPv6 and frames with a tag a function of their own, and
//! all others the whole parser in another. Short code pays more than the calls cost: at line rate the
//! kernel's own way of a packet leaves little room in the instruction cache.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "the macros of the entry points make public functions of that form"
)]
#![expect(
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    reason = "this target's usize has 64 bits, and lengths and offsets of packets fit 32"
)]

mod count;
mod frame;
mod maps;
mod measure;
mod walk;

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sensor_common::{
    layout::Direction,
    parse::{Frame, Parsed, parse, parse_plain_ipv4, parse_plain_ipv6, parse_plain_tagged},
};

use crate::{
    count::Stripe,
    frame::{ByCopy, Linear, Skb, Xdp, forget},
};

/// TC_ACT_UNSPEC is also TCX_NEXT: programs behind this one, and the qdisc's own filters, still
/// run. TCX_PASS would end the chain.
const TC_NEXT: i32 = TC_ACT_UNSPEC;

/// Uploads, in the driver, where each frame is in one buffer. The kernel sees to that: it attaches
/// this program to no interface whose frames may have fragments. So their length is at hand without
/// a call.
#[xdp]
pub fn labgate_xdp(ctx: XdpContext) -> u32 {
    let Some(stripe) = Stripe::current() else { return XDP_PASS };
    if !xdp_ipv4(&ctx, stripe, &Linear::whole(&ctx)) {
        xdp_others(&ctx, stripe);
    }
    XDP_PASS
}

#[inline(never)]
fn xdp_others(ctx: &XdpContext, stripe: Stripe) {
    if !xdp_ipv6_or_tagged(ctx, stripe, &Linear::whole(ctx)) {
        xdp_any(ctx, stripe);
    }
}

#[inline(never)]
fn xdp_any(ctx: &XdpContext, stripe: Stripe) {
    let (frame, link) = (Linear::whole(ctx), measure::xdp_link(ctx));
    let mut parsed = parse(&frame, Direction::Tx, link);
    parsed.key.rest = forget(parsed.key.rest, frame.wire_len() as u64);
    count_frame(ctx, stripe, Direction::Tx, &frame, &parsed);
}

/// Uploads, in the driver, where frames may go on in fragments (jumbo frames).
#[xdp(frags)]
pub fn labgate_frags(ctx: XdpContext) -> u32 {
    let Some(stripe) = Stripe::current() else { return XDP_PASS };
    if !xdp_ipv4(&ctx, stripe, &Linear::partial(&ctx)) && !frags_others(&ctx, stripe) {
        frags_any(&ctx, stripe);
    }
    XDP_PASS
}

/// Says whether it is one of these, and leaves the rest to the entry point: Linux 6.1 rounds each stack
/// frame up to 32 octets, and one call more on the way to the longest chain's end would be too many.
#[inline(never)]
fn frags_others(ctx: &XdpContext, stripe: Stripe) -> bool {
    xdp_ipv6_or_tagged(ctx, stripe, &Linear::partial(ctx))
}

#[inline(never)]
fn frags_any(ctx: &XdpContext, stripe: Stripe) {
    let (frame, link) = (Linear::partial(ctx), measure::xdp_link(ctx));
    let mut parsed = parse(&frame, Direction::Tx, link);
    if parsed.cut && frame.is_partial() {
        parsed = parse(&ByCopy::<Xdp>::new(ctx, frame.wire_len()), Direction::Tx, link);
        count::slow_read(stripe);
    }
    parsed.key.rest = forget(parsed.key.rest, frame.wire_len() as u64);
    count_frame(ctx, stripe, Direction::Tx, &frame, &parsed);
}

/// Counts a plain frame with IPv4; says whether it is one.
#[inline(always)]
fn xdp_ipv4(ctx: &XdpContext, stripe: Stripe, frame: &Linear<Xdp>) -> bool {
    let link = || measure::xdp_link(ctx);
    let Some(parsed) = parse_plain_ipv4(frame, Direction::Tx, link) else { return false };
    count_frame(ctx, stripe, Direction::Tx, frame, &parsed);
    true
}

/// Counts a plain frame with IPv6 or behind a VLAN tag; says whether it is one.
#[inline(always)]
fn xdp_ipv6_or_tagged(ctx: &XdpContext, stripe: Stripe, frame: &Linear<Xdp>) -> bool {
    let link = || measure::xdp_link(ctx);
    if let Some(parsed) = parse_plain_ipv6(frame, Direction::Tx, link) {
        count_frame(ctx, stripe, Direction::Tx, frame, &parsed);
    } else if let Some(parsed) = parse_plain_tagged(frame, Direction::Tx, link()) {
        count_frame(ctx, stripe, Direction::Tx, frame, &parsed);
    } else {
        return false;
    }
    true
}

/// Uploads, where native XDP can't be had.
#[classifier]
pub fn labgate_ingress(ctx: TcContext) -> i32 {
    let Some(stripe) = Stripe::current() else { return TC_NEXT };
    if !skb_ipv4(&ctx, stripe, Direction::Tx) {
        ingress_others(&ctx, stripe);
    }
    TC_NEXT
}

/// Downloads.
#[classifier]
pub fn labgate_egress(ctx: TcContext) -> i32 {
    let Some(stripe) = Stripe::current() else { return TC_NEXT };
    if !skb_ipv4(&ctx, stripe, Direction::Rx) {
        egress_others(&ctx, stripe);
    }
    TC_NEXT
}

#[inline(never)]
fn ingress_others(ctx: &TcContext, stripe: Stripe) {
    skb_others(ctx, stripe, Direction::Tx);
}

#[inline(never)]
fn egress_others(ctx: &TcContext, stripe: Stripe) {
    skb_others(ctx, stripe, Direction::Rx);
}

/// Counts a plain frame with IPv4; says whether it is one. Super-packets are not: what the long way
/// costs is little for each of their segments.
#[inline(always)]
fn skb_ipv4(ctx: &TcContext, stripe: Stripe, direction: Direction) -> bool {
    if !measure::is_frame(ctx) {
        return false;
    }
    let (frame, link) = (Linear::skb(ctx), || measure::untagged_skb_link(ctx));
    let Some(parsed) = parse_plain_ipv4(&frame, direction, link) else { return false };
    count_frame(ctx, stripe, direction, &frame, &parsed);
    true
}

#[inline(always)]
fn skb_others(ctx: &TcContext, stripe: Stripe, direction: Direction) {
    let (frame, link) = (Linear::skb(ctx), measure::skb_link(ctx, direction));
    if measure::is_frame(ctx)
        && let Some(parsed) = parse_plain_ipv6(&frame, direction, || link)
    {
        return count_frame(ctx, stripe, direction, &frame, &parsed);
    }
    let mut parsed = parse(&frame, direction, link);
    if parsed.cut && frame.is_partial() {
        parsed = parse(&ByCopy::<Skb>::new(ctx, frame.wire_len()), direction, link);
        count::slow_read(stripe);
    }
    parsed.key.rest = forget(parsed.key.rest, frame.wire_len() as u64);
    let tally = measure::skb(ctx, direction, link, &parsed);
    count::count(ctx, stripe, parsed.key, direction, &tally);
}

#[inline(always)]
fn count_frame<C: EbpfContext>(
    ctx: &C,
    stripe: Stripe,
    direction: Direction,
    frame: &impl Frame,
    parsed: &Parsed,
) {
    let tally = measure::frame(frame.wire_len(), parsed.payload);
    count::count(ctx, stripe, parsed.key, direction, &tally);
}

/// Loops, so that the verifier refuses a program that could reach it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

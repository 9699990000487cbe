//! LabGate's kernel programs. They observe: on every path, errors included, a packet is passed on
//! unchanged.
//!
//! A packet's way: entry point (here) -> [`frame`] reads it -> `sensor_common::parse` finds its key
//! -> [`measure`] finds its packets and bytes -> [`count`] adds them to a slot of the flow table.
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

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sensor_common::{
    layout::Direction,
    parse::{Frame as _, Link, parse},
};

use crate::frame::{SkbCopy, SkbLinear, XdpCopy, XdpLinear};

/// Uploads, in the driver.
#[xdp(frags)]
pub fn labgate_xdp(ctx: XdpContext) -> u32 {
    let link = Link { ifindex: ctx.ingress_ifindex() as u32, vlan_tci: None };
    let linear = XdpLinear::new(&ctx);
    let mut parsed = parse(&linear, Direction::Tx, link);
    if parsed.cut && linear.is_partial() {
        parsed = parse(&XdpCopy::new(&ctx, linear.wire_len()), Direction::Tx, link);
        count::slow_read();
    }
    let tally = measure::single(linear.wire_len(), parsed.payload);
    count::count(&ctx, &parsed.key, Direction::Tx, &tally);
    XDP_PASS
}

/// Uploads, where native XDP can't be had.
#[classifier]
pub fn labgate_ingress(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Tx)
}

/// Downloads.
#[classifier]
pub fn labgate_egress(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Rx)
}

/// TC_ACT_UNSPEC is also TCX_NEXT: programs behind this one, and the qdisc's own filters, still
/// run. TCX_PASS would end the chain.
#[inline(always)]
fn observe(ctx: &TcContext, direction: Direction) -> i32 {
    let link = measure::link(ctx);
    let linear = SkbLinear::new(ctx);
    let mut parsed = parse(&linear, direction, link);
    if parsed.cut && linear.is_partial() {
        parsed = parse(&SkbCopy::new(ctx), direction, link);
        count::slow_read();
    }
    let tally = measure::skb(ctx, direction, link, &parsed);
    count::count(ctx, &parsed.key, direction, &tally);
    TC_ACT_UNSPEC
}

/// Loops, so that the verifier refuses a program that could reach it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

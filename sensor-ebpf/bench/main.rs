//! The benchmark's programs: a traffic generator, and other ways to count, side by side with the
//! sensor's. None of them is part of the daemon.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "the macros of the entry points make public functions of that form"
)]
#![expect(
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    reason = "this target's usize has 64 bits, and lengths and offsets of packets fit 32"
)]

#[expect(dead_code, reason = "the copies for non-linear frames are the sensor's alone")]
#[path = "../src/frame.rs"]
mod frame;
mod generator;
#[expect(dead_code, reason = "super-packets are the sensor's alone")]
#[path = "../src/measure.rs"]
mod measure;
mod peers;
mod plan;
#[path = "../src/walk.rs"]
mod walk;

/// Loops, so that the verifier refuses a program that could reach it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

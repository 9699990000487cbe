//! The traffic: each frame that test_run makes gets its key, and leaves through its interface.

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE, TC_ACT_SHOT, TC_ACT_UNSPEC,
        xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX},
    },
    btf_maps::{Array, ProgramArray},
    helpers::{bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_tail},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::plan::{CHUNK, CHUNK_BITS, CUTS, MAX_KEYS, PROGRAMS, Plan, SCATTER, TICKS};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// What to make.
#[btf_map]
static PLAN: Array<Plan, 1, MMAPABLE> = Array::new();

/// Key numbers, one for each frame, again and again. An array's elements are whole words.
#[btf_map]
static SEQUENCE: Array<u64, { MAX_KEYS as usize }, MMAPABLE> = Array::new();

/// When each [`CHUNK`] of frames began, nanoseconds of the monotonic clock.
#[btf_map]
static CLOCK: Array<u64, { TICKS as usize }, MMAPABLE> = Array::new();

/// Index of the interface whose egress is measured.
#[btf_map]
static OUTLET: Array<u32, 1, MMAPABLE> = Array::new();

/// The programs that are measured, in the order of their turns.
#[btf_map]
static XDP_PROGRAMS: ProgramArray<{ PROGRAMS as usize }> = ProgramArray::new();

/// The same, for a TC hook.
#[btf_map]
static TC_PROGRAMS: ProgramArray<{ PROGRAMS as usize }> = ProgramArray::new();

/// Whose turn it is.
#[inline(always)]
fn turn() -> Option<u32> {
    // SAFETY: only the generator writes it, on this CPU.
    let plan = unsafe { &*PLAN.get_ptr(0)? };
    Some((plan.made >> (CHUNK_BITS + plan.turn_bits)) as u32 % plan.programs.max(1))
}

/// Hands each frame to the program whose turn it is: programs that are measured within
/// milliseconds of each other suffer the same disturbances.
#[xdp]
pub fn dispatch_xdp(ctx: XdpContext) -> u32 {
    if let Some(turn) = turn() {
        // SAFETY: the helper checks the index.
        unsafe { XDP_PROGRAMS.tail_call(&ctx, turn) };
    }
    XDP_PASS
}

/// The same at TC.
#[classifier]
pub fn dispatch_tc(ctx: TcContext) -> i32 {
    if let Some(turn) = turn() {
        // SAFETY: the helper checks the index.
        unsafe { TC_PROGRAMS.tail_call(&ctx, turn) };
    }
    TC_ACT_UNSPEC
}

/// Last octet of the source MAC address, right before the EtherType.
const MAC_TAIL: usize = 10;

/// Offsets of the lengths in the IPv4 and UDP headers of a plain frame.
const IPV4_LENGTH: usize = 16;
const UDP_LENGTH: usize = 38;

#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    match next(&ctx) {
        Some(()) => XDP_TX,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn next(ctx: &XdpContext) -> Option<()> {
    // SAFETY: one run at a time, on one CPU.
    let plan = unsafe { &mut *PLAN.get_ptr_mut(0)? };
    let number = plan.made;
    plan.made += 1;
    if number % CHUNK == 0 {
        let tick = CLOCK.get_ptr_mut((number / CHUNK) as u32)?;
        // SAFETY: as above; the helper takes nothing.
        unsafe { *tick = bpf_ktime_get_ns() };
    }
    // SAFETY: written by the runner before the run.
    let key = unsafe { *SEQUENCE.get_ptr(number as u32 & plan.mask)? } as u32;

    let address_at = plan.address_at as usize & 0xff;
    let address = ctx.data() + address_at;
    if address + 4 > ctx.data_end() {
        return None;
    }
    let head = ctx.data();
    if head + 16 > ctx.data_end() {
        return None;
    }
    // SAFETY: all lie in the packet, as just compared.
    unsafe {
        *(head as *mut [u64; 2]) = plan.head;
        *((head + MAC_TAIL) as *mut u16) = (key % plan.devices.max(1)) as u16;
        *(address as *mut u32) = key.wrapping_mul(SCATTER);
    }
    let cut = plan.cuts[(number as usize) % CUTS];
    if cut != 0 { shorten(ctx, cut) } else { Some(()) }
}

/// Cuts octets off the end of an IPv4 frame, and from the lengths in its headers.
#[inline(always)]
fn shorten(ctx: &XdpContext, cut: u32) -> Option<()> {
    let lengths = [ctx.data() + IPV4_LENGTH, ctx.data() + UDP_LENGTH];
    if lengths[1] + 2 > ctx.data_end() {
        return None;
    }
    for length in lengths {
        let length = length as *mut u16;
        // SAFETY: both lie in the packet, as just compared.
        unsafe { *length = u16::from_be(*length).wrapping_sub(cut as u16).to_be() };
    }
    // SAFETY: the helper checks the length.
    let failed = unsafe { bpf_xdp_adjust_tail(ctx.ctx, cut.cast_signed().wrapping_neg()) };
    if failed == 0 { Some(()) } else { None }
}

/// Ends a packet's way once it has been counted.
#[classifier]
pub fn sink(_ctx: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// Sends a packet on through the interface whose egress is measured.
#[classifier]
pub fn forward(_ctx: TcContext) -> i32 {
    // SAFETY: written by the runner before the run; the helper checks the index.
    OUTLET.get_ptr(0).map_or(TC_ACT_SHOT, |index| unsafe { bpf_redirect(*index, 0) } as i32)
}

/// The zero of all comparisons, in the driver.
#[xdp]
pub fn empty_xdp(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// The zero of all comparisons at TC.
#[classifier]
pub fn empty_tc(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

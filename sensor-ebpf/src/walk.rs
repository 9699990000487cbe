//! Loops over headers of which there may be many, by a helper that calls a function for each (`bpf_loop`): the
//! verifier walks that function once, and a loop once for each round.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use sensor_common::parse::{InnerHeaders, MAX_INNER_HEADERS, MAX_PRIORITY_TAGS, TagStack};

use crate::frame::{Hook, Skb, copied, forget};

/// What the helper hands to the function.
struct Walk<S> {
    ctx: *mut c_void,
    state: S,
}

/// Calls `step` until it returns 1, at most `rounds` times.
#[inline(always)]
fn walk<S>(
    ctx: *mut c_void,
    state: S,
    rounds: usize,
    step: extern "C" fn(u32, *mut Walk<S>) -> i64,
) -> S {
    let mut walk = Walk { ctx, state };
    // SAFETY: `step` has the form that the helper calls, and `walk` outlives the call.
    unsafe {
        bpf_loop(rounds as u32, step as *mut c_void, (&raw mut walk).cast(), 0);
    }
    walk.state
}

/// [`Frame::behind_tags`](sensor_common::parse::Frame::behind_tags).
#[inline(always)]
pub(crate) fn behind_tags<H: Hook>(ctx: *mut c_void, stack: TagStack, unknown: usize) -> TagStack {
    TagStack::from_word(tags::<H>(ctx, stack.to_word(), unknown as u64))
}

/// Takes and returns words: what lay on the caller's stack would lie there on the way to the longest chain of
/// calls, too.
#[inline(never)]
fn tags<H: Hook>(ctx: *mut c_void, stack: u64, unknown: u64) -> u64 {
    // What is known of the first round's values must not make it differ from the others.
    let stack = TagStack::from_word(forget(stack, unknown));
    walk(ctx, stack, MAX_PRIORITY_TAGS, tag::<H>).to_word()
}

extern "C" fn tag<H: Hook>(_round: u32, walk: *mut Walk<TagStack>) -> i64 {
    // SAFETY: the helper hands on what it was given.
    let Walk { ctx, state } = unsafe { &mut *walk };
    let mut tag = 0_u32;
    // SAFETY: `tag` has room for four octets.
    let failed = unsafe { H::load(*ctx, state.at() as u32, (&raw mut tag).cast(), 4) };
    let goes_on = state.step(if failed == 0 { Some(tag) } else { None });
    i64::from(!goes_on)
}

/// [`inner_headers`](sensor_common::parse::inner_headers) of a super-packet of `len` octets, or 0. One call for
/// all its segments.
#[inline(never)]
pub(crate) fn inner_headers(ctx: *mut c_void, protocol: u8, at: u32, len: u32) -> u32 {
    let protocol = forget(protocol as u64, len as u64) as u8;
    let headers = InnerHeaders::new(protocol, at as usize, len as usize);
    walk(ctx, headers, MAX_INNER_HEADERS, inner_header).end().unwrap_or(0) as u32
}

extern "C" fn inner_header(_round: u32, walk: *mut Walk<InnerHeaders>) -> i64 {
    // SAFETY: the helper hands on what it was given.
    let Walk { ctx, state } = unsafe { &mut *walk };
    let goes_on = state.step(copied::<Skb, { InnerHeaders::OCTETS }>(*ctx, state.at()));
    i64::from(!goes_on)
}

//! Packets as the parser's [`Frame`]: direct access where the octets lie in the linear part, by
//! copy where they don't.

use core::{arch::asm, ffi::c_void, marker::PhantomData, ptr};

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};
use sensor_common::parse::{Frame, Octets, TagStack};

use crate::walk;

/// Where a program is attached, as far as reading packets differs.
pub(crate) trait Hook {
    /// Copies `len` octets of the packet from `offset`; not 0 where they are not all there.
    ///
    /// # Safety
    ///
    /// `ctx` is the context that the kernel handed in at this hook, and `to` has room for them.
    unsafe fn load(ctx: *mut c_void, offset: u32, to: *mut c_void, len: u32) -> i64;
}

/// The driver.
pub(crate) enum Xdp {}

impl Hook for Xdp {
    #[inline(always)]
    unsafe fn load(ctx: *mut c_void, offset: u32, to: *mut c_void, len: u32) -> i64 {
        // SAFETY: as the caller says.
        unsafe { bpf_xdp_load_bytes(ctx.cast(), offset, to, len) }
    }
}

/// TC.
pub(crate) enum Skb {}

impl Hook for Skb {
    #[inline(always)]
    unsafe fn load(ctx: *mut c_void, offset: u32, to: *mut c_void, len: u32) -> i64 {
        // SAFETY: as the caller says.
        unsafe { bpf_skb_load_bytes(ctx, offset, to, len) }
    }
}

/// Offsets are masked with this, so that the verifier knows a bound for each: beyond the deepest
/// header that the parser reaches, below the verifier's limit of 64 KiB for packet offsets.
const OFFSET_MASK: usize = 0x7fff;

/// Octets inside the packet, bounds checked.
#[derive(Clone, Copy)]
pub(crate) struct Direct(usize);

impl Octets for Direct {
    #[inline(always)]
    fn u8(self, at: usize) -> u8 {
        load(self.0 + at)
    }

    #[inline(always)]
    fn u16(self, at: usize) -> u16 {
        load(self.0 + at)
    }

    #[inline(always)]
    fn u32(self, at: usize) -> u32 {
        load(self.0 + at)
    }

    #[inline(always)]
    fn u64(self, at: usize) -> u64 {
        load(self.0 + at)
    }
}

/// One load instruction. `read_unaligned` would become a load for each octet on this target, whose
/// only machines (those with efficient unaligned access) need no alignment.
#[inline(always)]
fn load<T: Copy>(address: usize) -> T {
    // SAFETY: `direct` has compared the address with the packet's end; the verifier proves it.
    unsafe { *(address as *const T) }
}

/// The address of `len` octets at `offset`, if they lie before `end`.
#[inline(always)]
fn direct(data: usize, end: usize, offset: usize, len: usize) -> Option<Direct> {
    let start = data + (offset & OFFSET_MASK);
    if start + len > end { None } else { Some(Direct(start)) }
}

/// Makes the verifier forget what it knows of a value, which stays as it is: `unknown` is any
/// value from memory.
///
/// Each path through the parser leaves other constants in offsets and keys. Without this the
/// verifier walks all that follows once for each of them, past its limit of a million instructions.
#[inline(always)]
pub(crate) fn forget(value: u64, unknown: u64) -> u64 {
    let mut value = value;
    // SAFETY: two instructions on registers.
    unsafe {
        asm!(
            "{value} ^= {unknown}",
            "{value} ^= {unknown}",
            value = inout(reg) value,
            unknown = in(reg) unknown,
            options(pure, nomem, nostack),
        );
    }
    value
}

/// The linear part of a packet: all of it, or what comes before its fragments.
pub(crate) struct Linear<H> {
    ctx: *mut c_void,
    data: usize,
    end: usize,
    wire_len: usize,
    hook: PhantomData<H>,
}

impl Linear<Xdp> {
    /// A frame that has no fragments.
    #[inline(always)]
    pub(crate) fn whole(ctx: &XdpContext) -> Self {
        let (data, end) = (ctx.data(), ctx.data_end());
        Self { ctx: ctx.as_ptr(), data, end, wire_len: end - data, hook: PhantomData }
    }

    /// A frame that may have fragments.
    #[inline(always)]
    pub(crate) fn partial(ctx: &XdpContext) -> Self {
        // SAFETY: the helper reads the context that the kernel handed in.
        let wire_len = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as usize;
        let (data, end) = (ctx.data(), ctx.data_end());
        Self { ctx: ctx.as_ptr(), data, end, wire_len, hook: PhantomData }
    }
}

impl Linear<Skb> {
    #[inline(always)]
    pub(crate) fn skb(ctx: &TcContext) -> Self {
        let (data, end, wire_len) = (ctx.data(), ctx.data_end(), ctx.len() as usize);
        Self { ctx: ctx.as_ptr(), data, end, wire_len, hook: PhantomData }
    }
}

impl<H> Linear<H> {
    /// True where the packet goes on in fragments.
    #[inline(always)]
    pub(crate) fn is_partial(&self) -> bool {
        self.end - self.data < self.wire_len
    }
}

impl<H: Hook> Frame for Linear<H> {
    type Octets = Direct;

    #[inline(always)]
    fn opaque(&self, value: usize) -> usize {
        forget(value as u64, self.wire_len as u64) as usize
    }

    #[inline(always)]
    fn wire_len(&self) -> usize {
        self.wire_len
    }

    #[inline(always)]
    fn octets<const LEN: usize>(&self, offset: usize) -> Option<Direct> {
        direct(self.data, self.end, offset, LEN)
    }

    #[inline(always)]
    fn behind_tags(&self, stack: TagStack) -> TagStack {
        walk::behind_tags::<H>(self.ctx, stack, self.wire_len)
    }
}

/// Longest header that the parser asks for at once (IPv6's).
const COPY: usize = 40;

/// Octets copied out of the packet.
#[derive(Clone, Copy)]
pub(crate) struct Copied([u64; COPY / 8]);

impl Copied {
    #[inline(always)]
    fn at<T: Copy>(&self, at: usize) -> T {
        // SAFETY: the parser reads within the length that it asked for, at most `COPY`.
        unsafe { ptr::from_ref(&self.0).cast::<u8>().add(at).cast::<T>().read_unaligned() }
    }
}

impl Octets for Copied {
    #[inline(always)]
    fn u8(self, at: usize) -> u8 {
        self.at(at)
    }

    #[inline(always)]
    fn u16(self, at: usize) -> u16 {
        self.at(at)
    }

    #[inline(always)]
    fn u32(self, at: usize) -> u32 {
        self.at(at)
    }

    #[inline(always)]
    fn u64(self, at: usize) -> u64 {
        self.at(at)
    }
}

/// A copy of `LEN` octets of a packet, if they are all there.
#[inline(always)]
pub(crate) fn copied<H: Hook, const LEN: usize>(ctx: *mut c_void, offset: usize) -> Option<Copied> {
    let mut copy = [0u64; COPY / 8];
    let offset = (offset & OFFSET_MASK) as u32;
    // SAFETY: `copy` has room for `COPY` octets, and no header is longer.
    let failed = unsafe { H::load(ctx, offset, copy.as_mut_ptr().cast(), LEN as u32) };
    if failed == 0 { Some(Copied(copy)) } else { None }
}

/// All of a packet, by copy.
pub(crate) struct ByCopy<H> {
    ctx: *mut c_void,
    wire_len: usize,
    hook: PhantomData<H>,
}

impl<H> ByCopy<H> {
    #[inline(always)]
    pub(crate) fn new(ctx: &impl EbpfContext, wire_len: usize) -> Self {
        Self { ctx: ctx.as_ptr(), wire_len, hook: PhantomData }
    }
}

impl<H: Hook> Frame for ByCopy<H> {
    type Octets = Copied;

    #[inline(always)]
    fn opaque(&self, value: usize) -> usize {
        forget(value as u64, self.wire_len as u64) as usize
    }

    #[inline(always)]
    fn wire_len(&self) -> usize {
        self.wire_len
    }

    #[inline(always)]
    fn octets<const LEN: usize>(&self, offset: usize) -> Option<Copied> {
        copied::<H, LEN>(self.ctx, offset)
    }

    #[inline(always)]
    fn behind_tags(&self, stack: TagStack) -> TagStack {
        walk::behind_tags::<H>(self.ctx, stack, self.wire_len)
    }
}

//! Octets of a frame, read within their bounds.

use super::TagStack;

/// A frame that can be read within its bounds.
pub trait Frame {
    /// Octets that were found to be there.
    type Octets: Octets;

    /// Octets of the whole frame on the wire, which may be more than can be read.
    fn wire_len(&self) -> usize;

    /// The same value, as one about which nothing is known. The kernel's verifier walks what follows
    /// once for each value that it can tell apart; here it is made to walk it once for all.
    #[inline(always)]
    fn opaque(&self, value: usize) -> usize {
        value
    }

    /// The `LEN` octets from `offset`, or `None` where they are not all there.
    fn octets<const LEN: usize>(&self, offset: usize) -> Option<Self::Octets>;

    /// Follows a stack of VLAN tags to its end. A method, because the kernel's verifier walks a loop once
    /// for each round, which is too many here; the programs leave this one to a helper.
    #[inline(always)]
    fn behind_tags(&self, mut stack: TagStack) -> TagStack {
        while stack.step(self.octets::<4>(stack.at()).map(|tag| tag.u32(0))) {}
        stack
    }
}

/// Reads at constant offsets, in the machine's byte order, inside what [`Frame::octets`] granted.
pub trait Octets: Copy {
    /// One octet.
    fn u8(self, at: usize) -> u8;
    /// Two octets, as they lie in memory.
    fn u16(self, at: usize) -> u16;
    /// Four octets, as they lie in memory.
    fn u32(self, at: usize) -> u32;
    /// Eight octets, as they lie in memory.
    fn u64(self, at: usize) -> u64;
}

/// A frame in memory, possibly cut by a capture's snap length.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// What was captured.
    pub octets: &'a [u8],
    /// Octets on the wire.
    pub wire_len: usize,
}

impl<'a> Frame for Captured<'a> {
    type Octets = &'a [u8];

    fn wire_len(&self) -> usize {
        self.wire_len
    }

    fn octets<const LEN: usize>(&self, offset: usize) -> Option<&'a [u8]> {
        self.octets.get(offset..offset.checked_add(LEN)?)
    }
}

impl Octets for &[u8] {
    fn u8(self, at: usize) -> u8 {
        self[at]
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_ne_bytes([self[at], self[at + 1]])
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_ne_bytes([self[at], self[at + 1], self[at + 2], self[at + 3]])
    }

    fn u64(self, at: usize) -> u64 {
        let low = u64::from(Octets::u32(self, at));
        let high = u64::from(Octets::u32(self, at + 4));
        low | high << 32
    }
}

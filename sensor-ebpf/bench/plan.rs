//! What the benchmark tells its generator, shared with the runner: map values, plain words.

/// How the generator makes frames out of the one it is given.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Plan {
    /// Frames made so far.
    pub made: u64,
    /// The frame's first 16 octets, written again each time: the kernel moves them when it takes out a
    /// VLAN tag, and uses the page again.
    pub head: [u64; 2],
    /// Entries of the key sequence in use, minus one; a power of two minus one.
    pub mask: u32,
    /// Offset of the four octets of the far address that tell keys apart.
    pub address_at: u32,
    /// Source MAC addresses in use, at least one; the last two octets tell them apart.
    pub devices: u32,
    /// Programs that take turns, at least one.
    pub programs: u32,
    /// Chunks in a turn, as a power of two.
    pub turn_bits: u32,
    /// Octets to cut off the frame, by the frame's number modulo their count.
    pub cuts: [u32; CUTS],
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// Length of the cycle of frame sizes: an IMIX (7:4:1) is nine small, five middle and two large frames.
pub const CUTS: usize = 16;

/// Frames between two looks at the clock: so many that the look costs nothing, so few that a
/// disturbance spoils little.
pub const CHUNK: u64 = 1 << CHUNK_BITS;

/// Frames of a chunk, as a power of two.
pub const CHUNK_BITS: u32 = 12;

/// Most clock readings of one run.
pub const TICKS: u32 = 65_536;

/// Most programs that take turns.
pub const PROGRAMS: u32 = 16;

/// Most keys: entries of the key sequence, and of the bare array.
pub const MAX_KEYS: u32 = 1 << 20;

/// Scatters key numbers over the addresses: odd, so that it maps 32-bit numbers one to one.
pub const SCATTER: u32 = 0x9e37_79b1;

/// Takes addresses back to key numbers: the inverse of [`SCATTER`] modulo 2^32.
pub const GATHER: u32 = {
    // Newton's iteration doubles the number of right bits each time, from three on.
    let mut inverse = SCATTER;
    let mut step = 0;
    while step < 4 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(SCATTER.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
};

const _: () = assert!(SCATTER.wrapping_mul(GATHER) == 1);

//! What the frames look like, and which keys come in which order.

use crate::plan::{CUTS, MAX_KEYS};

/// What the generator sends; it fills in far address and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// UDP in IPv4, 64 octets on the wire (60 without the FCS).
    Ipv4,
    /// UDP in IPv6, 66 octets on the wire.
    Ipv6,
    /// As `Ipv4`, with a VLAN tag.
    Vlan,
    /// UDP in IPv4 of 64, 594 and 1,518 octets on the wire, about 7:4:1.
    Imix,
    /// As `Ipv4`, from 250 devices.
    Devices,
}

/// Which keys come how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Each as often as any other, at random.
    Uniform,
    /// The nth most frequent one with a frequency of 1/n.
    Zipf,
    /// Each once, so that each packet is the first of its key.
    Once,
}

impl Workload {
    /// The word of the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Vlan => "vlan",
            Self::Imix => "imix",
            Self::Devices => "devices250",
        }
    }

    /// The frame from the Ethernet header on, without FCS.
    pub(crate) fn frame(self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0xaa, 0, 0, 0, 0];
        let payload = match self {
            Self::Imix => 1514 - 14 - 28,
            _ => 18,
        };
        match self {
            Self::Ipv6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
                frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                frame.extend([0x20, 1, 0x48, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                frame.extend([0x12, 0x34, 0, 53, 0, 8, 0, 0]);
            }
            _ => {
                if self == Self::Vlan {
                    frame.extend([0x81, 0, 0, 100]);
                }
                let [high, low] = (28_u16 + payload).to_be_bytes();
                frame.extend([8, 0, 0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0]);
                frame.extend([10, 0, 0, 1, 42, 62, 48, 9]);
                let [high, low] = (8 + payload).to_be_bytes();
                frame.extend([0x12, 0x34, 0, 53, high, low, 0, 0]);
                frame.resize(frame.len() + usize::from(payload), 0);
            }
        }
        frame
    }

    /// Offset of the four octets of the far address that tell keys apart: the source of what leaves
    /// towards a device, the destination of what a device sends.
    pub(crate) fn address_at(self, egress: bool) -> u32 {
        let (destination, length) = match self {
            Self::Ipv6 => (14 + 24 + 12, 16),
            Self::Vlan => (34, 4),
            _ => (30, 4),
        };
        if egress { destination - length } else { destination }
    }

    /// Source MAC addresses.
    pub(crate) fn devices(self) -> u32 {
        if self == Self::Devices { 250 } else { 1 }
    }

    /// Octets to cut off the frame, in turn.
    pub(crate) fn cuts(self) -> [u32; CUTS] {
        let mut cuts = [0; CUTS];
        if self == Self::Imix {
            for (index, cut) in cuts.iter_mut().enumerate() {
                *cut = match index {
                    7 | 15 => 0,
                    3 | 5 | 9 | 11 | 13 => 1514 - 590,
                    _ => 1514 - 60,
                };
            }
        }
        cuts
    }
}

impl Distribution {
    /// The word of the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Once => "once",
        }
    }

    /// Key numbers below `keys`, in the order in which frames have them, again and again. `keys` is a
    /// power of two.
    pub(crate) fn sequence(self, keys: u32) -> Vec<u32> {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        match self {
            // Every key comes in the first round, and exactly as often as the others.
            Self::Uniform | Self::Once if keys == MAX_KEYS => shuffled(keys, &mut random),
            Self::Once => shuffled(keys, &mut random),
            Self::Uniform => (0..MAX_KEYS).map(|_| random.below(keys)).collect(),
            Self::Zipf => {
                let mut sums = Vec::with_capacity(keys as usize);
                let mut sum = 0.0;
                for rank in 1..=keys {
                    sum += 1.0 / f64::from(rank);
                    sums.push(sum);
                }
                let names = shuffled(keys, &mut random);
                let draw = |_| {
                    let point = random.unit() * sum;
                    let rank = sums.partition_point(|&sum| sum < point);
                    names[rank.min(names.len() - 1)]
                };
                (0..MAX_KEYS).map(draw).collect()
            }
        }
    }
}

/// All numbers below `count`, in random order.
fn shuffled(count: u32, random: &mut Random) -> Vec<u32> {
    let mut all: Vec<u32> = (0..count).collect();
    for index in (1..count).rev() {
        all.swap(index as usize, random.below(index + 1) as usize);
    }
    all
}

/// Xorshift (Marsaglia 2003): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, which is small enough for the bias not to matter.
    fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

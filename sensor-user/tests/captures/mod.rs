//! Captures for tests, built octet by octet.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

pub(crate) const NULL: u32 = 0;
pub(crate) const ETHERNET: u32 = 1;
pub(crate) const RAW: u32 = 101;
pub(crate) const SLL: u32 = 113;
pub(crate) const SLL2: u32 = 276;
/// `USB_LINUX_MMAPPED`: no Ethernet.
pub(crate) const USB: u32 = 220;

/// 2024-05-06 07:08:09 UTC.
pub(crate) const TIME: u32 = 1_714_979_289;

/// Byte order of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        if self == Self::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self == Self::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u64(self, value: u64) -> [u8; 8] {
        if self == Self::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }
}

/// A pcap file that grows.
pub(crate) struct Pcap {
    order: Order,
    pub(crate) octets: Vec<u8>,
}

impl Pcap {
    /// With microseconds.
    pub(crate) fn new(order: Order, link: u32) -> Self {
        Self::with_magic(order, 0xa1b2_c3d4, link)
    }

    /// With nanoseconds.
    pub(crate) fn nanos(order: Order, link: u32) -> Self {
        Self::with_magic(order, 0xa1b2_3c4d, link)
    }

    fn with_magic(order: Order, magic: u32, link: u32) -> Self {
        Self::with_version(order, magic, 4, link)
    }

    /// With the minor version of the format.
    pub(crate) fn with_version(order: Order, magic: u32, minor: u16, link: u32) -> Self {
        let mut octets = order.u32(magic).to_vec();
        octets.extend([order.u16(2), order.u16(minor)].concat());
        octets.extend([0, 0, 65_535, link].map(|word| order.u32(word)).concat());
        Self { order, octets }
    }

    /// A whole frame, so many fractions of a second after [`TIME`].
    pub(crate) fn frame(self, fraction: u32, frame: &[u8]) -> Self {
        let len = u32::try_from(frame.len()).unwrap();
        self.cut(TIME, fraction, frame, len)
    }

    /// A frame of which only the beginning was captured.
    pub(crate) fn cut(mut self, time: u32, fraction: u32, frame: &[u8], wire_len: u32) -> Self {
        let captured = u32::try_from(frame.len()).unwrap();
        let header = [time, fraction, captured, wire_len].map(|word| self.order.u32(word));
        self.octets.extend(header.concat());
        self.octets.extend(frame);
        self
    }
}

/// A pcapng file that grows.
pub(crate) struct PcapNg {
    order: Order,
    pub(crate) octets: Vec<u8>,
}

impl PcapNg {
    /// With one section, which has no interface yet.
    pub(crate) fn new(order: Order) -> Self {
        Self { order, octets: Vec::new() }.section(order)
    }

    /// Another section, maybe in another byte order.
    pub(crate) fn section(mut self, order: Order) -> Self {
        self.order = order;
        let body =
            [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &order.u64(u64::MAX)];
        self.block(0x0a0d_0d0a, &body.concat())
    }

    /// An interface with options: code and value.
    pub(crate) fn interface(self, link: u32, snap_len: u32, options: &[(u16, &[u8])]) -> Self {
        let order = self.order;
        let mut body = order.u16(u16::try_from(link).unwrap()).to_vec();
        body.extend([0, 0]);
        body.extend(order.u32(snap_len));
        for (code, value) in options {
            body.extend(order.u16(*code));
            body.extend(order.u16(u16::try_from(value.len()).unwrap()));
            body.extend(padded(value));
        }
        if !options.is_empty() {
            body.extend([0; 4]);
        }
        self.block(1, &body)
    }

    /// A whole frame at a time in ticks of its interface.
    pub(crate) fn frame(self, interface: u32, ticks: u64, frame: &[u8]) -> Self {
        self.cut(interface, ticks, frame, u32::try_from(frame.len()).unwrap())
    }

    /// A frame of which only the beginning was captured.
    pub(crate) fn cut(self, interface: u32, ticks: u64, frame: &[u8], wire_len: u32) -> Self {
        let order = self.order;
        let captured = u32::try_from(frame.len()).unwrap();
        let [high, low] =
            [ticks >> 32, ticks & 0xffff_ffff].map(|half| u32::try_from(half).unwrap());
        let head = [interface, high, low, captured, wire_len].map(|word| order.u32(word)).concat();
        self.block(6, &[head, padded(frame)].concat())
    }

    /// A simple packet: of the first interface, without a time.
    pub(crate) fn simple(self, frame: &[u8], wire_len: u32) -> Self {
        let head = self.order.u32(wire_len).to_vec();
        self.block(3, &[head, padded(frame)].concat())
    }

    /// An enhanced packet with its flags.
    pub(crate) fn flagged(self, interface: u32, frame: &[u8], flags: u32) -> Self {
        let order = self.order;
        let len = u32::try_from(frame.len()).unwrap();
        let head = [interface, 0, 0, len, len].map(|word| order.u32(word)).concat();
        let options = [&order.u16(2)[..], &order.u16(4), &order.u32(flags), &[0; 4]].concat();
        self.block(6, &[head, padded(frame), options].concat())
    }

    /// A packet block as it was before the enhanced ones.
    pub(crate) fn old(self, interface: u16, ticks: u64, frame: &[u8]) -> Self {
        let order = self.order;
        let len = u32::try_from(frame.len()).unwrap();
        let [high, low] =
            [ticks >> 32, ticks & 0xffff_ffff].map(|half| u32::try_from(half).unwrap());
        let mut body = [order.u16(interface), order.u16(0)].concat();
        body.extend([high, low, len, len].map(|word| order.u32(word)).concat());
        body.extend(padded(frame));
        self.block(2, &body)
    }

    /// Any block.
    pub(crate) fn block(mut self, kind: u32, body: &[u8]) -> Self {
        let len = self.order.u32(u32::try_from(body.len() + 12).unwrap());
        self.octets.extend([&self.order.u32(kind)[..], &len, body, &len].concat());
        self
    }
}

fn padded(octets: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// Compressed.
pub(crate) fn gzipped(octets: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

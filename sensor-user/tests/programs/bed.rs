//! A loaded, unattached sensor, fed with frames.

use aya::{TestRun as _, programs::TestRunOptions};
use labgate::{
    kernel::{GracePeriod, RawEpoch, Sensor, Sizes, Table, XdpBuffers},
    model::{Direction, Mac, Tally},
};

use crate::frames::DEVICE;

/// `__sk_buff` of `linux/bpf.h`, as far as test_run lets it be set.
#[derive(Clone, Copy, Default)]
pub(crate) struct Skb {
    pub(crate) wire_len: u32,
    pub(crate) gso_segs: u32,
    pub(crate) gso_size: u32,
}

impl Skb {
    /// Size of the struct, and the offsets of the fields that can be set.
    const SIZE: usize = 192;
    const WIRE_LEN: usize = 160;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;

    fn octets(self) -> [u8; Self::SIZE] {
        let mut octets = [0; Self::SIZE];
        for (at, value) in [
            (Self::WIRE_LEN, self.wire_len),
            (Self::GSO_SEGS, self.gso_segs),
            (Self::GSO_SIZE, self.gso_size),
        ] {
            octets[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        octets
    }
}

pub(crate) struct Bed {
    sensor: Sensor,
    table: Table,
    grace: GracePeriod,
}

pub(crate) const SMALL: Sizes =
    Sizes { flow_slots_per_cpu: 1024, coarse_entries: 256, device_macs: 1, unknown_devices: 4 };

impl Bed {
    /// With [`DEVICE`] configured, or without any.
    pub(crate) fn new(sizes: Sizes) -> Self {
        let devices = [Mac(DEVICE)];
        let devices = &devices[..sizes.device_macs.min(1) as usize];
        let (sensor, table) = Sensor::load(&sizes, devices).unwrap();
        Self { sensor, table, grace: GracePeriod::new().unwrap() }
    }

    /// Gives a device an entry of its own.
    pub(crate) fn reserve(&mut self, mac: [u8; 6]) {
        self.table.reserve(&[Mac(mac)]).unwrap();
    }

    /// Runs the XDP program and returns its verdict.
    pub(crate) fn xdp(&mut self, frame: &[u8]) -> u32 {
        self.xdp_repeated(frame, 1)
    }

    /// The same, with the program for frames that may have fragments.
    pub(crate) fn xdp_frags(&mut self, frame: &[u8]) -> u32 {
        self.run_xdp(XdpBuffers::Fragments, frame, 1)
    }

    pub(crate) fn xdp_repeated(&mut self, frame: &[u8], repeat: u32) -> u32 {
        self.run_xdp(XdpBuffers::One, frame, repeat)
    }

    fn run_xdp(&mut self, buffers: XdpBuffers, frame: &[u8], repeat: u32) -> u32 {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        self.sensor.xdp(buffers).unwrap().test_run(options).unwrap().return_value
    }

    /// Runs a TC program and returns its verdict.
    pub(crate) fn tc(&mut self, direction: Direction, frame: &[u8], skb: Skb) -> i32 {
        let name = match direction {
            Direction::Tx => "labgate_ingress",
            Direction::Rx => "labgate_egress",
        };
        let context = skb.octets();
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.sensor.classifier(name).unwrap().test_run(options).unwrap();
        result.return_value.cast_signed()
    }

    /// Reads the current epoch, as a daemon that fails before it can clear.
    pub(crate) fn drain_without_clearing(&mut self) -> RawEpoch {
        self.table.drain(self.grace).unwrap()
    }

    /// Reads and clears the current epoch; between two runs of a program there is nobody to wait for.
    pub(crate) fn drain_at_rest(&mut self) -> RawEpoch {
        let raw = self.table.drain_at_rest().unwrap();
        self.table.clear().unwrap();
        raw
    }

    /// Reads and clears the current epoch.
    pub(crate) fn drain(&mut self) -> RawEpoch {
        let raw = self.table.drain(self.grace).unwrap();
        self.table.clear().unwrap();
        raw
    }
}

/// Packets and bytes over all rows and levels, unlike `totals.seen`, which is their check.
pub(crate) fn counted(raw: &RawEpoch) -> (u64, u64) {
    let mut sum = Tally::default();
    for (_, counters) in raw.flows.iter().chain(&raw.coarse) {
        sum.add(&counters.tally);
    }
    for (_, overflow) in &raw.overflow {
        sum.add(&overflow[0]);
        sum.add(&overflow[1]);
    }
    sum.add(&raw.totals.pool[0]);
    sum.add(&raw.totals.pool[1]);
    (sum.packets, sum.bytes)
}

pub(crate) fn seen(raw: &RawEpoch) -> (u64, u64) {
    let [tx, rx] = raw.totals.seen;
    (tx.packets + rx.packets, tx.bytes + rx.bytes)
}

/// At TC hooks test_run takes no frame whose EtherType promises an IP header that is not there.
pub(crate) fn takes_tc(frame: &[u8]) -> bool {
    match (frame[12], frame[13]) {
        (0x08, 0x00) => frame.len() >= 14 + 20,
        (0x86, 0xdd) => frame.len() >= 14 + 40,
        _ => frame.len() > 14,
    }
}

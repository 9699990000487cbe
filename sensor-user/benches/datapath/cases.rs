//! Which programs are measured on which traffic.

use std::{error::Error, time::Duration};

use aya::maps::{
    Map,
    lpm_trie::{Key, LpmTrie},
};
use labgate::{
    config::{AttachMode, InterfaceConfig, TcAttach},
    kernel::{Attached, GracePeriod, RawEpoch, Sensor, Sizes, Table, XdpBuffers, ethernet_link},
    model::Mac,
};

use crate::{
    exact,
    generator::{Generator, Hook},
    report::{Case, Report},
    traffic::{Distribution, Workload},
    turns::{self, Sample, Samples},
};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What matters most, in less than five minutes.
    Quick,
    /// Everything.
    Full,
}

/// The way to count that is the daemon's.
pub(crate) const SENSOR: &str = "sensor";
/// A bare array.
pub(crate) const FLOOR: &str = "floor";
/// A per-CPU hash keyed by device and /24.
pub(crate) const PERCPU_HASH: &str = "percpu_hash";
/// The others.
const PEERS: [&str; 5] = [FLOOR, PERCPU_HASH, "lru_percpu_hash", "flow_hash", "lpm"];

/// Other traffic than plain IPv4 of one device, each beside that.
const OTHERS: [[Workload; 2]; 4] = [
    [Workload::Ipv4, Workload::Ipv6],
    [Workload::Ipv4, Workload::Vlan],
    [Workload::Ipv4, Workload::Imix],
    [Workload::Ipv4, Workload::Devices],
];

/// How often programs are loaded anew, to lie elsewhere in memory.
const INSTANCES: u32 = 3;

/// Programs that take turns on one kind of traffic.
pub(crate) struct Cell {
    hook: Hook,
    /// With the one that is measured last; the ones before are there to compare with.
    workloads: &'static [Workload],
    distribution: Distribution,
    keys: u32,
    /// Beside the sensor and the empty program.
    peers: &'static [&'static str],
    /// How long each instance is measured.
    time: Duration,
}

impl Cell {
    /// The sensor beside floor and per-CPU hash, at XDP with IPv4, for so many seconds.
    pub(crate) fn main(keys: u32, seconds: u64) -> Self {
        Self {
            hook: Hook::Xdp,
            workloads: &[Workload::Ipv4],
            distribution: Distribution::Uniform,
            keys,
            peers: &[FLOOR, PERCPU_HASH],
            time: Duration::from_secs(seconds) / INSTANCES,
        }
    }

    /// The sensor beside all others.
    fn all(keys: u32, seconds: u64) -> Self {
        Self { peers: &PEERS, ..Self::main(keys, seconds) }
    }

    /// The sensor alone, on other traffic and beside that on IPv4.
    fn alone(workloads: &'static [Workload; 2], keys: u32, seconds: u64) -> Self {
        Self { workloads, peers: &[], ..Self::main(keys, seconds) }
    }

    /// The sensor at a TC hook, beside the floor there.
    fn tc(hook: Hook, keys: u32, seconds: u64) -> Self {
        Self { hook, peers: &[FLOOR], ..Self::main(keys, seconds) }
    }
}

/// The cells, in the order in which they are measured.
pub(crate) fn cells(extent: Extent) -> Vec<Cell> {
    const MANY: [u32; 5] = [1, 256, 4096, 1 << 16, 1 << 20];
    match extent {
        Extent::Quick => vec![
            Cell::all(1, 12),
            Cell::all(256, 12),
            Cell::all(4096, 12),
            Cell::main(1 << 16, 20),
            Cell::main(1 << 20, 30),
            Cell::alone(&[Workload::Ipv4, Workload::Ipv6], 4096, 8),
            Cell::alone(&[Workload::Ipv4, Workload::Vlan], 4096, 8),
            Cell::tc(Hook::TcIngress, 4096, 8),
            Cell::tc(Hook::TcEgress, 4096, 8),
        ],
        Extent::Full => {
            let seconds = |keys| if keys > 4096 { 60 } else { 40 };
            let mut cells: Vec<_> = MANY.map(|keys| Cell::main(keys, seconds(keys))).into();
            for keys in &MANY[1..] {
                let distribution = Distribution::Zipf;
                cells.push(Cell { distribution, ..Cell::main(*keys, seconds(*keys)) });
            }
            for keys in &MANY[..4] {
                cells.push(Cell::all(*keys, seconds(*keys)));
                for workloads in &OTHERS {
                    cells.push(Cell::alone(workloads, *keys, seconds(*keys) / 2));
                }
                for hook in [Hook::TcIngress, Hook::TcEgress] {
                    cells.push(Cell::tc(hook, *keys, seconds(*keys) / 2));
                }
            }
            cells
        }
    }
}

/// Slots of the sensor's table: the default, or so many that one device may hold all keys (five
/// eighths of the table go to whoever comes first), as far as a table may grow. Of a million keys
/// three eighths are counted at the coarse level.
pub(crate) fn slots(keys: u32) -> u32 {
    (2 * keys).clamp(65_536, 1 << 20)
}

/// Entries of the other programs' maps.
fn entries(keys: u32) -> u32 {
    (2 * keys).max(65_536)
}

/// A sensor for so many keys, whose devices are all configured.
pub(crate) fn sensor(keys: u32, devices: u32) -> Result<(Sensor, Table), Box<dyn Error>> {
    let macs: Vec<Mac> = (0..devices)
        .map(|device| {
            let [low, high, ..] = device.to_le_bytes();
            Mac([2, 0xaa, 0, 0, low, high])
        })
        .collect();
    let sizes = Sizes {
        flow_slots_per_cpu: slots(keys),
        coarse_entries: 2 * entries(keys),
        device_macs: devices,
        unknown_devices: 16,
    };
    Ok(Sensor::load(&sizes, &macs)?)
}

impl Cell {
    /// Measures the cell, and checks that the sensor counted each packet.
    pub(crate) fn measure(&self, object: &[u8], report: &mut Report) -> Result<(), Box<dyn Error>> {
        eprintln!(
            "{} {} {} keys {}: {}",
            self.hook.name(),
            self.workload().name(),
            self.keys,
            self.distribution.name(),
            [&[SENSOR], self.peers].concat().join(", "),
        );
        let mut instances = Vec::new();
        for _ in 0..INSTANCES {
            let (samples, raw) = self.take_turns(object)?;
            exact::books(&raw)?;
            instances.push(samples);
        }
        let cell = report.cases.last().map_or(0, |last| last.cell + 1);
        for (at, workload) in self.workloads.iter().enumerate() {
            for (number, program) in (1..).zip(self.peers.iter().chain(&[SENSOR])) {
                let own: Vec<Sample> =
                    instances.iter().map(|samples| samples[at][number]).collect();
                report.cases.push(Case::new(cell, program, self, *workload, &turns::combine(&own)));
            }
        }
        let check = exact::run(self.hook, self.workload(), self.keys, &self.sequence(), object)?;
        report.exact.push(check);
        Ok(())
    }

    /// What the report says of the traffic.
    pub(crate) fn description(&self, workload: Workload) -> (&'static str, String, u32) {
        let workload = match self.distribution {
            Distribution::Uniform => workload.name().to_owned(),
            other => format!("{}_{}", workload.name(), other.name()),
        };
        (self.hook.name(), workload, self.keys)
    }

    /// What the cell is about.
    fn workload(&self) -> Workload {
        self.workloads[self.workloads.len() - 1]
    }

    fn sequence(&self) -> Vec<u32> {
        self.distribution.sequence(self.keys)
    }

    /// For each workload, samples of the empty program, the sensor and the peers, and what the sensor counted.
    fn take_turns(&self, object: &[u8]) -> Result<(Samples, RawEpoch), Box<dyn Error>> {
        let mut generator = Generator::new(object, entries(self.keys))?;
        generator.set_sequence(&self.sequence());
        if self.peers.contains(&"lpm") {
            fill(generator.map("NETWORKS")?)?;
        }
        let (mut sensor, mut table) = sensor(self.keys, self.workload().devices())?;
        let mut programs = generator.dispatch(self.hook)?;
        let last = u32::try_from(1 + self.peers.len())?;
        match self.hook {
            Hook::Xdp => {
                programs.set(0, generator.xdp(self.hook.empty())?.fd()?, 0)?;
                programs.set(last, sensor.xdp(XdpBuffers::One)?.fd()?, 0)?;
            }
            Hook::TcIngress | Hook::TcEgress => {
                let name =
                    if self.hook == Hook::TcIngress { "labgate_ingress" } else { "labgate_egress" };
                programs.set(0, generator.tc(self.hook.empty())?.fd()?, 0)?;
                programs.set(last, sensor.classifier(name)?.fd()?, 0)?;
            }
        }
        for (number, peer) in (1..).zip(self.peers) {
            match self.hook {
                Hook::Xdp => programs.set(number, generator.xdp(peer)?.fd()?, 0)?,
                Hook::TcIngress | Hook::TcEgress => {
                    let name = format!("{peer}_{}", self.hook.name());
                    programs.set(number, generator.tc(&name)?.fd()?, 0)?;
                }
            }
        }
        let count = 2 + self.peers.len();
        let samples = turns::measure(&mut generator, self.workloads, self.keys, count, self.time)?;
        Ok((samples, table.drain(GracePeriod::new()?)?))
    }
}

/// Attaches the sensor alone, as the daemon does.
pub(crate) fn attach(
    sensor: &mut Sensor,
    interface: &str,
    attach: AttachMode,
) -> Result<Attached, Box<dyn Error>> {
    let config = InterfaceConfig { attach, ..InterfaceConfig::default() };
    Ok(Attached::new(sensor, &ethernet_link(interface)?, &config, TcAttach::Auto)?)
}

/// Half a million networks of 16 to 24 bits, each with one of 250 countries.
fn fill(map: &mut Map) -> Result<(), Box<dyn Error>> {
    let mut networks: LpmTrie<_, [u8; 4], u32> = map.try_into()?;
    for number in 0..500_000_u32 {
        let length = 16 + number % 9;
        let address = number.wrapping_mul(crate::plan::SCATTER) & (u32::MAX << (32 - length));
        networks.insert(&Key::new(length, address.to_be_bytes()), number % 250, 0)?;
    }
    Ok(())
}

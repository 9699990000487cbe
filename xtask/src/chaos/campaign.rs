//! What goes wrong, in which order, and the comparison afterwards.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{Outcome, dice::Dice, sensor::Sensor};
use crate::bench::{
    Bench, LinkCounters, Options, Process, SmallDisk,
    plan::{GERMANY, INDIA, LANS},
};

/// What `labgate` lists as the octets of an Ethernet header, which the counters of a veth leave out at ingress
/// where native XDP takes the frame.
const ETHERNET: u64 = 14;
/// No frame is on its way for so long.
const UNDER_WAY: Duration = Duration::from_millis(50);
/// After so many kills there is a word on how far it is.
const TELL: u64 = 50;
/// The size of the ledger's disk, as `mount -t tmpfs` has it.
const DISK: &str = "48m";

/// A campaign.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// How long it lasts at least.
    pub length: Duration,
    /// How often the sensor is killed at least.
    pub kills: u64,
    /// A safeguard that the sensor does without.
    pub without: Option<String>,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Campaign {
    /// Runs it on a bench of its own.
    ///
    /// # Errors
    /// When the bench or the sensor can't be started.
    pub fn run(&self, binary: &Path) -> Result<Outcome> {
        let bench = Bench::new(&Options { lan_up: false, lan_offloads: false })?;
        // A super-packet that is dropped counts as one for the interface, and as what it would have become for the
        // sensor; so there are none.
        for namespace in [bench.gateway(), bench.internet()] {
            namespace.run(&["ethtool", "-K", "wan0", "gro", "off", "tso", "off", "gso", "off"])?;
        }
        let disk = SmallDisk::new(&bench.dir().join("disk"), DISK)?;
        // An upgrade is another file.
        let upgraded = bench.dir().join("labgate-next");
        fs::copy(binary, &upgraded).context("can't copy the sensor")?;
        let mut sensor =
            Sensor::new(&bench, [binary.to_owned(), upgraded], self.without.as_deref())?;
        sensor.start(&[])?;
        sensor.wait_until_ready()?;
        // Attached before the first frame, so that the counters begin together.
        bench.lan_up()?;

        let stop = AtomicBool::new(false);
        let outcome = thread::scope(|scope| {
            let servers = scope.spawn(|| traffic(&bench, &stop));
            let outcome = self.harass(&bench, &disk, &mut sensor);
            stop.store(true, Ordering::Relaxed);
            let traffic = servers.join();
            let outcome = outcome?;
            match traffic {
                Ok(traffic) => traffic.map(|()| outcome),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        self.settle(&bench, &disk, sensor, outcome)
    }

    /// Everything that may go wrong, at random.
    fn harass(&self, bench: &Bench, disk: &SmallDisk, sensor: &mut Sensor<'_>) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut dice = Dice(self.seed | 1);
        let until = Instant::now() + self.length;
        let mut told = 0;
        while Instant::now() < until || outcome.kills < self.kills {
            if outcome.kills >= told + TELL {
                told = outcome.kills;
                eprintln!("{told} kills, {} restarts", outcome.restarts);
            }
            thread::sleep(Duration::from_millis(dice.roll(700)));
            if sensor.has_ended()? {
                outcome.kills += 1;
                sensor.restart(&mut dice, &mut outcome)?;
                continue;
            }
            match dice.roll(20) {
                // Now and then before it has even begun.
                0..10 => {
                    sensor.signal(Signal::SIGKILL)?;
                    outcome.kills += 1;
                    thread::sleep(Duration::from_millis(dice.roll(300)));
                    sensor.restart(&mut dice, &mut outcome)?;
                }
                10..13 => {
                    sensor.wait_until_ready_or_ended()?;
                    if !sensor.has_ended()? {
                        sensor.signal(Signal::SIGTERM)?;
                        sensor.upgrade();
                        outcome.upgrades += 1;
                        sensor.restart(&mut dice, &mut outcome)?;
                    }
                }
                13..15 => {
                    sensor.wait_until_ready_or_ended()?;
                    if !sensor.has_ended()? {
                        sensor.hang_up()?;
                        outcome.reloads += 1;
                    }
                }
                15..17 => {
                    flap(bench, Duration::from_millis(dice.roll(60)))?;
                    outcome.flaps += 1;
                }
                _ => {
                    disk.fill()?;
                    thread::sleep(Duration::from_millis(dice.roll(1500)));
                    if dice.roll(2) == 0 && !sensor.has_ended()? {
                        sensor.signal(Signal::SIGKILL)?;
                        outcome.kills += 1;
                    }
                    disk.free()?;
                    if sensor.has_ended()? {
                        sensor.restart(&mut dice, &mut outcome)?;
                    }
                    outcome.full_disks += 1;
                }
            }
        }
        Ok(outcome)
    }

    /// Lets everything come to rest, and compares.
    fn settle(
        &self,
        bench: &Bench,
        disk: &SmallDisk,
        mut sensor: Sensor<'_>,
        mut outcome: Outcome,
    ) -> Result<Outcome> {
        disk.free()?;
        // Frames that are still under way.
        thread::sleep(Duration::from_secs(1));
        if !sensor.has_ended()? {
            sensor.signal(Signal::SIGTERM)?;
        }
        // The last one with nothing up its sleeve.
        sensor.start(&[])?;
        outcome.restarts += 1;
        sensor.wait_until_ready()?;
        for lan in LANS {
            bench.gateway().ip(&format!("link set {} down\n", lan.interface))?;
        }
        thread::sleep(Duration::from_secs(1));
        sensor.signal(Signal::SIGINT)?;

        let audit = sensor.audit()?;
        for lan in LANS {
            let link = LinkCounters::of(bench.gateway(), lan.interface)?;
            outcome.interface_packets += link.rx_packets + link.tx_packets;
            outcome.interface_bytes += link.rx_bytes + ETHERNET * link.rx_packets + link.tx_bytes;
            outcome.interface_dropped += link.tx_dropped;
        }
        outcome.ledger_packets = audit.balance.seen_packets;
        outcome.ledger_bytes = audit.balance.seen_bytes;
        outcome.epochs = audit.epochs;
        outcome.closed = audit.balance.closed && audit.open_epochs == 0;
        let passed = outcome.interface_packets + outcome.interface_dropped;
        outcome.duplicates = outcome.ledger_packets.saturating_sub(passed);
        outcome.missing = passed.saturating_sub(outcome.ledger_packets);
        Ok(outcome)
    }
}

/// Switches the LAN behind the switch off and on, while no frame is on its way there. One that is would say nothing
/// about the sensor: veth takes native XDP off before it stops counting what it receives, and drops what passed the
/// hook at egress, whose bytes it does not count. So the devices' cables are pulled before, and the gateway forwards
/// nothing meanwhile.
fn flap(bench: &Bench, off: Duration) -> Result<()> {
    let cables = |state| {
        let ports = bench.switch_ports().map(|port| format!("link set {port} {state}\n"));
        bench.switch().ip(&ports.collect::<String>())
    };
    let forward = |state| {
        let keys = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
        bench.gateway().sysctl(&keys.map(|key| (key, state)))
    };
    let lan = LANS[0].interface;
    forward("0")?;
    cables("down")?;
    thread::sleep(UNDER_WAY);
    bench.gateway().ip(&format!("link set {lan} down\n"))?;
    thread::sleep(off);
    bench.gateway().ip(&format!("link set {lan} up\n"))?;
    cables("up")?;
    forward("1")
}

/// Uploads and downloads over both LAN interfaces, as fast as they go, until told to stop.
fn traffic(bench: &Bench, stop: &AtomicBool) -> Result<()> {
    let internet = bench.internet();
    let server = |port: &str| internet.spawn(&["iperf3", "--server", "--port", port]);
    let mut servers = Vec::new();
    // Windows so small that they fit the backlog of a CPU (net.core.netdev_max_backlog), or a veth would drop frames
    // after the hook.
    let both: &[&str] = &["--bidir", "--window", "256K"];
    let flows: [(&str, &str, &str, &[&str]); 4] = [
        ("galaxy", GERMANY.ipv4, "5301", both),
        ("redmi-note", INDIA.ipv4, "5302", &["--udp", "--bitrate", "0", "--length", "64"]),
        ("smart-plug", GERMANY.ipv4, "5303", both),
        ("smart-plug", INDIA.ipv4, "5304", &["--udp", "--bitrate", "100M", "--length", "200"]),
    ];
    for (_, _, port, _) in &flows {
        servers.push(server(port)?);
    }
    let mut clients: Vec<Option<Process>> = flows.iter().map(|_| None).collect();
    while !stop.load(Ordering::Relaxed) {
        for ((device, host, port, options), client) in flows.iter().zip(&mut clients) {
            let ended = match client {
                Some(client) => client.ended()?.is_some(),
                None => true,
            };
            if ended {
                let command =
                    ["iperf3", "-c", host, "-p", port, "-t", "60", "--connect-timeout", "2000"];
                *client = Some(bench.device(device).spawn(&[&command[..], options].concat())?);
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    drop(clients);
    drop(servers);
    Ok(())
}

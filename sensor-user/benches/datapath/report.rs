//! What was found, for people and for programs.

use std::error::Error;

use serde::Serialize;

use crate::{
    cases::{Cell, FLOOR, PERCPU_HASH, SENSOR},
    traffic::Workload,
    turns::Sample,
};

/// A program on one kind of traffic.
#[derive(Debug, Serialize)]
pub(crate) struct Case {
    /// Number of the cell in the run. Only figures of one cell can be compared: from one to the next the
    /// machine may have become another.
    pub(crate) cell: usize,
    /// Its name.
    pub(crate) program: String,
    /// Where it ran.
    pub(crate) hook: &'static str,
    /// What the frames were, and how their keys were distributed if not uniformly.
    pub(crate) workload: String,
    /// How many keys.
    pub(crate) keys: u32,
    /// Nanoseconds per packet over the empty program of the hook: the median over three instances of
    /// the medians over all turns.
    pub(crate) ns_over_empty: f64,
    /// Half the range of those three medians, or the median's own 95 % confidence interval if that is
    /// wider, in nanoseconds.
    pub(crate) spread_ns: f64,
    /// Million packets per second on one CPU, generator, veth and all.
    pub(crate) mpps: f64,
    /// Turns that the program had.
    pub(crate) turns: usize,
}

impl Case {
    /// What was measured in a cell.
    pub(crate) fn new(
        number: usize,
        program: &str,
        cell: &Cell,
        workload: Workload,
        sample: &Sample,
    ) -> Self {
        let (hook, workload, keys) = cell.description(workload);
        Self {
            cell: number,
            program: program.to_owned(),
            hook,
            workload,
            keys,
            ns_over_empty: sample.ns,
            spread_ns: sample.spread,
            mpps: sample.mpps,
            turns: sample.turns,
        }
    }
}

/// The sensor's count beside the interface's.
#[derive(Debug, Serialize)]
pub(crate) struct Exact {
    /// Where the sensor was.
    pub(crate) hook: &'static str,
    /// What the frames were.
    pub(crate) workload: &'static str,
    /// How many keys.
    pub(crate) keys: u32,
    /// Frames that were made.
    pub(crate) sent_packets: u64,
    /// Frames for which the receiver's ring had no room.
    pub(crate) dropped_packets: u64,
    /// Frames that the interface counted.
    pub(crate) interface_packets: u64,
    /// Their bytes, with Ethernet headers.
    pub(crate) interface_bytes: u64,
    /// Frames that the sensor counted.
    pub(crate) sensor_packets: u64,
    /// Their bytes.
    pub(crate) sensor_bytes: u64,
    /// Flows that it told apart.
    pub(crate) flows: u64,
}

impl Exact {
    /// Nothing is missing and nothing was made up.
    pub(crate) fn holds(&self) -> bool {
        self.sent_packets == self.interface_packets + self.dropped_packets
            && self.interface_packets == self.sensor_packets
            && self.interface_bytes == self.sensor_bytes
    }
}

/// Reading an epoch.
#[derive(Debug, Serialize)]
pub(crate) struct Drain {
    /// Slots of the table, per CPU.
    pub(crate) slots: u32,
    /// Keys that were active.
    pub(crate) keys: u32,
    /// Milliseconds to read them, without the grace period: the median.
    pub(crate) drain_ms: f64,
    /// Milliseconds to join them.
    pub(crate) join_ms: f64,
    /// Milliseconds to free them.
    pub(crate) clear_ms: f64,
}

/// A key's first packet.
#[derive(Debug, Serialize)]
pub(crate) struct Claim {
    /// Nanoseconds over the empty program.
    pub(crate) ns_over_empty: f64,
}

/// TCP through the gateway, up and down together.
#[derive(Debug, Serialize)]
pub(crate) struct Tcp {
    /// Pairs of runs, one with the sensor and one with empty programs.
    pub(crate) pairs: usize,
    /// Speed with the sensor by speed without: the geometric mean.
    pub(crate) ratio: f64,
    /// Lower end of its 95 % confidence interval.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What packets cost.
    pub(crate) cases: Vec<Case>,
    /// What first packets of a key cost.
    pub(crate) claim: Option<Claim>,
    /// What it does to TCP.
    pub(crate) tcp: Option<Tcp>,
    /// What epochs cost.
    pub(crate) drains: Vec<Drain>,
    /// Whether the counts were right.
    pub(crate) exact: Vec<Exact>,
}

/// A goal, and whether it is reached.
struct Goal {
    what: String,
    value: f64,
    limit: f64,
}

impl Report {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { cases: Vec::new(), claim: None, tcp: None, drains: Vec::new(), exact: Vec::new() }
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> Result<String, Box<dyn Error>> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The goals that this run's cases speak of.
    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for case in self.cases.iter().filter(|case| case.program == SENSOR) {
            let (hook, workload, keys) = (case.hook, case.workload.as_str(), case.keys);
            let value = case.ns_over_empty;
            let beside = |program: &str, workload: &str| {
                let mut cell = self.cases.iter().filter(|other| other.cell == case.cell);
                cell.find(|other| other.program == program && other.workload == workload)
                    .map(|other| other.ns_over_empty)
            };
            let other = |program| beside(program, workload);
            let mut goal = |than: &str, limit: f64| {
                let what = format!("{hook} {workload} {keys} keys: at most {than}");
                goals.push(Goal { what, value, limit });
            };
            if let (Some(floor), Some(hash)) = (other(FLOOR), other(PERCPU_HASH)) {
                match keys {
                    ..=4096 => {
                        goal("6 ns above the floor", floor + 6.0);
                        goal("0.4 times the per-CPU hash", 0.4 * hash);
                    }
                    4097..=65_536 => {
                        goal("1.3 times the floor", 1.3 * floor);
                        goal("0.5 times the per-CPU hash", 0.5 * hash);
                    }
                    _ => goal("1.5 times the per-CPU hash", 1.5 * hash),
                }
            } else if let Some(floor) = other(FLOOR) {
                let main = floor + 6.0;
                let limit = (1.2 * main).max(main + 3.0);
                goal("20 % or 3 ns above what is the goal at XDP", limit);
            } else if ["ipv6", "vlan"].contains(&workload)
                && let Some(plain) = beside(SENSOR, "ipv4")
            {
                goal("20 % or 3 ns above IPv4", (1.2 * plain).max(plain + 3.0));
            }
        }
        if let Some(tcp) = &self.tcp {
            let what = "1 / upper end of TCP's ratio: at least 0.98 is reached".to_owned();
            goals.push(Goal { what, value: 1.0 / tcp.high, limit: 1.0 / 0.98 });
        }
        for drain in &self.drains {
            let (what, limit) = match (drain.slots, drain.keys) {
                (..1_000_000, 65_536) => ("65,536 keys read and joined in 50 ms", 50.0),
                (1_000_000.., ..100) => ("a nearly empty table of 1 M slots read in 1 ms", 1.0),
                _ => continue,
            };
            let value = drain.drain_ms + drain.join_ms;
            goals.push(Goal { what: what.to_owned(), value, limit });
        }
        goals
    }

    /// Prints tables.
    pub(crate) fn print(&self) {
        println!(
            "\nNanoseconds per packet over the empty program, one CPU: median +- half the range of\nthree instances\n"
        );
        println!(
            "{:<10} {:<11} {:>8}  {:<16} {:>7} {:>6} {:>7} {:>6}",
            "hook", "workload", "keys", "program", "ns", "+-", "Mpps", "turns"
        );
        for case in &self.cases {
            println!(
                "{:<10} {:<11} {:>8}  {:<16} {:>7.1} {:>6.1} {:>7.2} {:>6}",
                case.hook,
                case.workload,
                case.keys,
                case.program,
                case.ns_over_empty,
                case.spread_ns,
                case.mpps,
                case.turns
            );
        }
        if let Some(claim) = &self.claim {
            println!(
                "\nFirst packet of a key in an epoch: {:.0} ns over empty",
                claim.ns_over_empty
            );
        }
        if let Some(Tcp { pairs, ratio, low, high }) = &self.tcp {
            println!(
                "\nTCP with the sensor by TCP with empty programs, {pairs} pairs: {ratio:.3}, 95 % \
                 from {low:.3} to {high:.3}"
            );
        }
        if !self.drains.is_empty() {
            println!(
                "\n{:>9} {:>8} {:>10} {:>9} {:>9}",
                "slots", "keys", "drain ms", "join ms", "clear ms"
            );
        }
        for drain in &self.drains {
            println!(
                "{:>9} {:>8} {:>10.3} {:>9.3} {:>9.3}",
                drain.slots, drain.keys, drain.drain_ms, drain.join_ms, drain.clear_ms
            );
        }
        println!(
            "\n{:<10} {:<11} {:>8}  {:>10} {:>8} {:>10} {:>12} {:>8}",
            "hook", "workload", "keys", "sent", "dropped", "counted", "bytes", "flows"
        );
        for exact in &self.exact {
            println!(
                "{:<10} {:<11} {:>8}  {:>10} {:>8} {:>10} {:>12} {:>8}  = interface",
                exact.hook,
                exact.workload,
                exact.keys,
                exact.sent_packets,
                exact.dropped_packets,
                exact.sensor_packets,
                exact.sensor_bytes,
                exact.flows
            );
        }
        println!();
        for Goal { what, value, limit } in self.goals() {
            let verdict = if value <= limit { "reached" } else { "MISSED " };
            println!("{verdict} {value:>7.1} <= {limit:>7.1}  {what}");
        }
    }
}

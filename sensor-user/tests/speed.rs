//! The guard of the hot path: the sensor stays near the floor, measured in the same run.
//!
//! The margin is wide, because the machines that run tests are noisy: the sensor takes 0.4 to 0.5 times
//! what a per-CPU hash takes, and with every packet sent the way aside 0.9 times. `cargo xtask bench`
//! measures.

#![expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds and packets of a run fit the 52 bits of a float"
)]
#![expect(dead_code, reason = "the benchmark measures more")]

#[path = "../benches/datapath/cases.rs"]
mod cases;
#[path = "../benches/datapath/exact.rs"]
mod exact;
#[path = "../benches/datapath/generator.rs"]
mod generator;
#[expect(unreachable_pub, reason = "the file is shared with the programs")]
#[path = "../../sensor-ebpf/bench/plan.rs"]
mod plan;
#[path = "../benches/datapath/report.rs"]
mod report;
#[path = "../benches/datapath/traffic.rs"]
mod traffic;
#[path = "../benches/datapath/turns.rs"]
mod turns;

use std::fs;

use cases::{Cell, FLOOR, PERCPU_HASH, SENSOR};
use report::Report;

#[test]
fn the_sensor_stays_near_the_floor() {
    if !xtask::require_root("the_sensor_stays_near_the_floor") {
        return;
    }
    let object = fs::read(xtask::benchmark::programs().unwrap()).unwrap();
    generator::enclose().unwrap();
    let mut report = Report::new();
    Cell::main(256, 15).measure(&object, &mut report).unwrap();
    report.print();
    let ns = |program: &str| {
        report.cases.iter().find(|case| case.program == program).unwrap().ns_over_empty
    };
    let (sensor, floor, hash) = (ns(SENSOR), ns(FLOOR), ns(PERCPU_HASH));
    assert!(sensor < floor + 15.0, "{sensor:.1} ns, floor {floor:.1}");
    assert!(sensor < 0.7 * hash, "{sensor:.1} ns, per-CPU hash {hash:.1}");
}

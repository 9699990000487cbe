//! TCP through a gateway, with the sensor and with empty programs in turn.

use std::error::Error;

use aya::{
    EbpfLoader,
    programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode, tc::TcAttachOptions},
};
use labgate::config::AttachMode;
use xtask::bench::{
    Bench, Namespace, Options, iperf3,
    plan::{GERMANY, LAN0},
};

use crate::{
    cases::{attach, sensor},
    exact,
    report::Tcp,
};

/// Pairs of runs; the order within a pair changes from one to the next.
const PAIRS: usize = 12;
/// Seconds of a run in one direction.
const SECONDS: &str = "2";
/// Who sends: a device behind [`LAN0`].
const DEVICE: &str = "galaxy";
/// Student's t for a 95 % interval of the mean of [`PAIRS`] values.
const T: f64 = 2.201;

/// Measures it. To be called on a thread that may run on any CPU.
pub(crate) fn measure(object: &[u8]) -> Result<Tcp, Box<dyn Error>> {
    eprintln!("tcp through a gateway: {PAIRS} pairs");
    let bench = Bench::new(&Options::default())?;
    let _server = iperf3::serve(bench.internet())?;
    let mut logs = Vec::with_capacity(PAIRS);
    for pair in 0..PAIRS {
        let mut speeds = [0.0; 2];
        for turn in 0..2 {
            let with_sensor = (pair + turn) % 2 == 0;
            speeds[usize::from(with_sensor)] =
                if with_sensor { beside_sensor(&bench)? } else { beside_nothing(&bench, object)? };
        }
        let [empty, sensor] = speeds;
        logs.push(f64::ln(sensor / empty));
    }
    let count = PAIRS as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let reach = T * (variance / count).sqrt();
    Ok(Tcp {
        pairs: PAIRS,
        ratio: mean.exp(),
        low: (mean - reach).exp(),
        high: (mean + reach).exp(),
    })
}

/// Bits per second with the sensor, which must have counted all of it.
fn beside_sensor(bench: &Bench) -> Result<f64, Box<dyn Error>> {
    let (mut programs, mut table) = sensor(1, 1)?;
    let interface = LAN0.interface;
    let attached = bench.gateway().enter(|| {
        attach(&mut programs, interface, AttachMode::Xdp).map_err(|error| error.to_string())
    })??;
    let speed = both_ways(bench.device(DEVICE))?;
    drop(attached);
    exact::books(&exact::drain(&mut table)?)?;
    Ok(speed)
}

/// Bits per second with empty programs at the same hooks.
fn beside_nothing(bench: &Bench, object: &[u8]) -> Result<f64, Box<dyn Error>> {
    let mut programs = EbpfLoader::new().load(object)?;
    let xdp: &mut Xdp = programs.program_mut("empty_xdp").ok_or("no program")?.try_into()?;
    xdp.load()?;
    bench.gateway().enter(|| xdp.attach(LAN0.interface, XdpMode::Driver).map(drop))??;
    let tc: &mut SchedClassifier =
        programs.program_mut("empty_tc").ok_or("no program")?.try_into()?;
    tc.load()?;
    bench.gateway().enter(|| {
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        tc.attach_with_options(LAN0.interface, TcAttachType::Egress, options).map(drop)
    })??;
    both_ways(bench.device(DEVICE))
}

/// Sum of what arrived per second up and down.
fn both_ways(device: &Namespace) -> Result<f64, Box<dyn Error>> {
    let mut sum = 0.0;
    for direction in [None, Some("-R")] {
        let options: Vec<_> = ["-t", SECONDS].into_iter().chain(direction).collect();
        let end = iperf3::run(device, GERMANY.ipv4, &options)?;
        sum += end["sum_received"]["bits_per_second"].as_f64().ok_or("iperf3 names no speed")?;
    }
    Ok(sum)
}

//! What epochs cost: reading and joining what lies in the table, and each key's first packet.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use labgate::{
    join::{
        Joiner,
        devices::Inventory,
        geo::{GeoDb, Source},
    },
    kernel::GracePeriod,
};

use crate::{
    cases::{attach, sensor, slots},
    exact,
    generator::{Generator, Hook},
    plan::CHUNK_BITS,
    report::{Claim, Drain, Report},
    traffic::{Distribution, Workload},
    turns::median,
};

/// Epochs of which the median is taken.
const EPOCHS: usize = 15;

/// Measures epochs with many keys, and a large table with few.
pub(crate) fn measure(object: &[u8], report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (drain, first_packets) = epochs(object, 1 << 16, 1 << 16)?;
    report.claim = Some(Claim { ns_over_empty: first_packets });
    report.drains.push(drain);
    let (drain, _) = epochs(object, 16, 1 << 19)?;
    report.drains.push(drain);
    Ok(())
}

/// Lets each of `keys` keys come in every epoch, in a table for `table_for` of them. Returns what
/// epochs took, and what a packet took over an empty program: in the first epochs' frames each is the
/// first of its key.
fn epochs(object: &[u8], keys: u32, table_for: u32) -> Result<(Drain, f64), Box<dyn Error>> {
    eprintln!("epochs with {keys} keys in {} slots", slots(table_for));
    let mut generator = Generator::new(object, 1)?;
    generator.set_sequence(&Distribution::Once.sequence(keys));
    generator.lead_alone(Hook::Xdp)?;
    let (mut sensor, mut table) = sensor(table_for, 1)?;
    let geo = GeoDb::open(&Source::Default, &Source::Default, &[], &[])?;
    let mut joiner = Joiner::new(Inventory::new(&[], 16), geo);
    let chunks = (keys >> CHUNK_BITS).max(1);
    let grace = GracePeriod::new()?;

    let [mut drain, mut join, mut clear, mut over_empty] = [const { Vec::new() }; 4];
    for _ in 0..EPOCHS {
        generator.attach_empty()?;
        let empty = median(&generator.run(Workload::Ipv4, 1, 0, chunks)?);
        generator.detach_last();
        let attached = attach(&mut sensor, Hook::Xdp.interface(), Hook::Xdp.mode())?;
        let first_packets = median(&generator.run(Workload::Ipv4, 1, 0, chunks)?);
        drop(attached);
        over_empty.push(first_packets - empty);

        let start = Instant::now();
        let raw = table.drain(grace)?;
        drain.push(milliseconds(start.elapsed() - raw.waited));
        exact::books(&raw)?;
        let start = Instant::now();
        let record = joiner.join(&raw, Vec::new());
        join.push(milliseconds(start.elapsed()));
        if record.flows.len() != keys as usize {
            return Err(format!("{} of {keys} keys were joined", record.flows.len()).into());
        }
        let start = Instant::now();
        table.clear()?;
        clear.push(milliseconds(start.elapsed()));
    }
    let drain = Drain {
        slots: slots(table_for),
        keys,
        drain_ms: median(&drain),
        join_ms: median(&join),
        clear_ms: median(&clear),
    };
    Ok((drain, median(&over_empty)))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

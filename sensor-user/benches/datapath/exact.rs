//! Exact at full speed: the sensor alone, attached as the daemon attaches it, against the interface.

use std::error::Error;

use labgate::{
    kernel::{GracePeriod, RawEpoch, Table},
    model::Tally,
};

use crate::{
    cases::{attach, sensor},
    generator::{Generator, Hook, frames, received},
    plan::CHUNK_BITS,
    report::Exact,
    traffic::Workload,
};

/// Chunks of frames in a run, at least; with more keys, so many that each comes once.
const CHUNKS: u32 = 256;

/// Sends frames to the sensor, and compares its count with the interface's.
///
/// # Errors
///
/// When they differ, or the books do not close.
pub(crate) fn run(
    hook: Hook,
    workload: Workload,
    keys: u32,
    sequence: &[u32],
    object: &[u8],
) -> Result<Exact, Box<dyn Error>> {
    let mut generator = Generator::new(object, 1)?;
    generator.set_sequence(sequence);
    generator.lead_alone(hook)?;
    let (mut sensor, mut table) = sensor(keys, workload.devices())?;
    let attached = attach(&mut sensor, hook.interface(), hook.mode())?;
    let before = received()?;
    let chunks = CHUNKS.max(keys >> CHUNK_BITS);
    generator.run(workload, 1, 0, chunks)?;
    drop(attached);
    let now = received()?;
    let packets = now.packets - before.packets;

    let raw = drain(&mut table)?;
    books(&raw)?;
    let seen = raw.totals.seen.iter().fold(Tally::default(), |mut sum, seen| {
        sum.add(seen);
        sum
    });
    let exact = Exact {
        hook: hook.name(),
        workload: workload.name(),
        keys,
        sent_packets: frames(chunks),
        dropped_packets: now.dropped - before.dropped,
        interface_packets: packets,
        interface_bytes: now.bytes - before.bytes,
        sensor_packets: seen.packets,
        sensor_bytes: seen.bytes,
        flows: raw.flows.len() as u64,
    };
    if exact.holds() { Ok(exact) } else { Err(format!("counts differ: {exact:?}").into()) }
}

/// What lies in the half that was written.
pub(crate) fn drain(table: &mut Table) -> Result<RawEpoch, Box<dyn Error>> {
    let raw = table.drain(GracePeriod::new()?)?;
    table.clear()?;
    Ok(raw)
}

/// Everything seen was counted, at one level or another.
pub(crate) fn books(raw: &RawEpoch) -> Result<(), Box<dyn Error>> {
    let sum = |tallies: &mut dyn Iterator<Item = &Tally>| {
        tallies.fold((0, 0), |sum, tally| (sum.0 + tally.packets, sum.1 + tally.bytes))
    };
    let seen = sum(&mut raw.totals.seen.iter());
    let rows = raw.flows.iter().chain(&raw.coarse).map(|(_, counters)| &counters.tally);
    let overflow = raw.overflow.iter().flat_map(|(_, tallies)| tallies);
    let counted = sum(&mut rows.chain(overflow).chain(&raw.totals.pool));
    if seen == counted {
        Ok(())
    } else {
        Err(format!("the books do not close: seen {seen:?}, counted {counted:?}").into())
    }
}

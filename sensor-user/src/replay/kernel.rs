//! The engine `kernel`: the sensor's own programs, loaded for this replay alone and attached to nothing.

use sensor_common::{layout::Direction, parse::Captured};

use super::{
    engine::{Engine, EngineError},
    host::{Host, parsed},
};
use crate::kernel::{RawEpoch, Sensor, Sizes, Table, boot_time, check_kernel, check_privileges};

/// Frames after which the tables are read, so that each key and each device finds a place in them.
const BATCH: u32 = 4096;
/// Four times as many: then hardly any group of slots is full.
const SIZES: Sizes = Sizes {
    flow_slots_per_cpu: 4 * BATCH,
    coarse_entries: BATCH,
    device_macs: 0,
    unknown_devices: BATCH,
};

/// Counts by the programs.
pub(super) struct Kernel {
    sensor: Sensor,
    table: Table,
    /// What was read from the tables in this epoch, and what the programs could not be shown.
    host: Host,
    /// Parts of the epoch that have no full key, if there ever are any.
    rest: RawEpoch,
    /// When each frame of the batch was shown, by the kernel's boot-time clock, and when it was sent.
    times: Vec<(u64, u64)>,
    /// A frame with zeroes where it was not captured.
    padded: Vec<u8>,
    left_to_host: u64,
}

impl Kernel {
    pub(super) fn new() -> Result<Self, EngineError> {
        check_privileges().and_then(|()| check_kernel()).map_err(EngineError::Privileges)?;
        let (sensor, table) = Sensor::load(&SIZES, &[])?;
        Ok(Self {
            sensor,
            table,
            host: Host::default(),
            rest: RawEpoch::default(),
            times: Vec::with_capacity(BATCH as usize),
            padded: Vec::new(),
            left_to_host: 0,
        })
    }

    /// Reads the tables into what the epoch has so far.
    fn read(&mut self) -> Result<(), EngineError> {
        let mut raw = self.table.drain_at_rest()?;
        let totals = &mut self.host.counted.totals;
        for direction in 0..2 {
            totals.seen[direction].add(&raw.totals.seen[direction]);
            totals.pool[direction].add(&raw.totals.pool[direction]);
        }
        for (sum, count) in totals.outcomes.iter_mut().zip(raw.totals.outcomes) {
            *sum += count;
        }
        for (_, counters) in raw.flows.iter_mut().chain(&mut raw.coarse) {
            counters.first_seen = sent(&self.times, counters.first_seen);
        }
        for (key, counters) in &raw.flows {
            self.host.counted.add(*key, &counters.tally, counters.first_seen);
        }
        self.rest.coarse.append(&mut raw.coarse);
        self.rest.overflow.append(&mut raw.overflow);
        self.table.clear()?;
        self.times.clear();
        Ok(())
    }
}

/// When the frame was sent over which a program ran at a time of the boot-time clock.
fn sent(times: &[(u64, u64)], ran: u64) -> u64 {
    let after = times.partition_point(|(shown, _)| *shown <= ran);
    times.get(after.saturating_sub(1)).map_or(0, |(_, sent)| *sent)
}

impl Engine for Kernel {
    fn count(
        &mut self,
        frame: &Captured<'_>,
        direction: Direction,
        time: u64,
    ) -> Result<(), EngineError> {
        let is_whole = frame.octets.len() == frame.wire_len;
        // Zeroes may stand for what no parser looks at; where it would look, they would say something
        // that is not so.
        let may_be_padded = || frame.wire_len <= Sensor::LONGEST && !parsed(frame, direction).cut;
        let octets = if is_whole {
            frame.octets
        } else if may_be_padded() {
            self.padded.clear();
            self.padded.extend_from_slice(frame.octets);
            self.padded.resize(frame.wire_len, 0);
            self.padded.as_slice()
        } else {
            &[]
        };
        if !Sensor::takes(octets, direction) {
            self.left_to_host += 1;
            return self.host.count(frame, direction, time);
        }
        self.times.push((boot_time()?, time));
        self.sensor.show(octets, direction)?;
        if self.times.len() == BATCH as usize { self.read() } else { Ok(()) }
    }

    fn drain(&mut self) -> Result<RawEpoch, EngineError> {
        if !self.times.is_empty() {
            self.read()?;
        }
        let RawEpoch { flows, totals, .. } = self.host.drain()?;
        Ok(RawEpoch { flows, totals, ..std::mem::take(&mut self.rest) })
    }

    fn left_to_host(&self) -> u64 {
        self.left_to_host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_belongs_to_the_frame_that_was_shown_last() {
        let times = [(10, 700), (20, 500), (20, 600), (30, 800)];
        for (ran, expected) in [(10, 700), (19, 700), (20, 600), (29, 600), (31, 800), (9, 700)] {
            assert_eq!(sent(&times, ran), expected, "{ran}");
        }
        assert_eq!(sent(&[], 1), 0);
    }
}

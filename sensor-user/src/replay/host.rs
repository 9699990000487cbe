//! The engine `host`: the programs' parser, in user space.

use sensor_common::{
    layout::{Direction, Tally},
    parse::{
        Captured, Link, Parsed, parse, parse_plain_ipv4, parse_plain_ipv6, parse_plain_tagged,
    },
};

use super::engine::{Counted, Engine, EngineError};
use crate::kernel::RawEpoch;

/// The loopback interface, on which BPF_PROG_TEST_RUN shows frames to programs; the same here, so that
/// keys are the same.
pub(super) const LINK: Link = Link { ifindex: 1, vlan_tci: None, from_here: false };

/// Counts in user space.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) counted: Counted,
}

impl Engine for Host {
    fn count(
        &mut self,
        frame: &Captured<'_>,
        direction: Direction,
        time: u64,
    ) -> Result<(), EngineError> {
        let seen = Tally { packets: 1, bytes: frame.wire_len as u64, payload: 0 };
        self.counted.see(direction, &seen);
        let Parsed { key, payload, .. } = parsed(frame, direction);
        self.counted.add(key, &Tally { payload: payload.into(), ..seen }, time);
        Ok(())
    }

    fn drain(&mut self) -> Result<RawEpoch, EngineError> {
        Ok(self.counted.take())
    }

    fn left_to_host(&self) -> u64 {
        0
    }
}

/// By the short ways first, as the programs do.
pub(super) fn parsed(frame: &Captured<'_>, direction: Direction) -> Parsed {
    parse_plain_ipv4(frame, direction, || LINK)
        .or_else(|| parse_plain_ipv6(frame, direction, || LINK))
        .or_else(|| parse_plain_tagged(frame, direction, LINK))
        .unwrap_or_else(|| parse(frame, direction, LINK))
}

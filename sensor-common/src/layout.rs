//! Keys and values of the kernel maps: the contract between the programs and the daemon.
//!
//! Nearly everything lies in one map, the *state*: one value, mapped into the daemon's memory, that
//! the programs address without any lookup. It holds the [`Control`] block and, for each CPU and
//! half, a *stripe*: [`Totals`], then the slots of the flow table, then the list of the slots that
//! are taken, in the order in which they were. [`Geometry`] says where each part lies.
//!
//! A change of any size, offset or meaning is a new [`LAYOUT_VERSION`]. Why each field is there says
//! `docs/LAYOUT.md`.
//!
//! Words are little-endian, as is every machine that these programs are built for; octets that
//! come from a packet (MAC and IP addresses) lie in memory in the order of the wire.

mod counters;
mod key;
mod state;

pub use counters::{Counters, DeviceState, FlowSlot, OUTCOMES, Outcome, Tally, Totals};
pub use key::{
    Class, CoarseKey, DeviceKey, Direction, FlowKey, MAC_MASK, MARK_REJECTED, MARK_ROUTED, NonIp,
    Reason, VLAN_TAGGED,
};
pub use state::{
    Constant, Control, GROUPS, Geometry, MAX_STATE_BYTES, MIN_SLOTS, PROBES, Quotas, SLOTS_AT,
    STRIPES_AT,
};

#[cfg(target_endian = "big")]
compile_error!("the key layout is defined for little-endian machines");

/// Version of everything in this module. It stands in the state beside what was counted.
pub const LAYOUT_VERSION: u32 = 2;

/// Halves of everything that counts: one is written while the other is read.
pub const HALVES: u32 = 2;

#[cfg(test)]
mod tests;

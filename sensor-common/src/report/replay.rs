//! What a report of replayed captures says besides.

use serde::{Deserialize, Serialize};

/// Where the counts of a replay come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Replay {
    /// What counted: `kernel` (the sensor's programs) or `host` (the same parser in user space).
    pub engine: String,
    /// Packets that the kernel can't be shown, and that were counted in user space although `engine` is
    /// `kernel`.
    pub host_packets: u64,
    /// The captures, in the order in which they were read.
    pub captures: Vec<Capture>,
}

/// A capture that was replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Capture {
    /// Its name on the command line; `-` for standard input.
    pub file: String,
    /// Packets that were read and counted.
    pub packets: u64,
    /// Their bytes, as they were on the wire.
    pub bytes: u64,
    /// Packets that the ledger had already, and that were not counted again.
    pub known_packets: u64,
    /// Time of the earliest packet; empty without packets.
    pub from: String,
    /// Time of the latest packet; empty without packets.
    pub to: String,
    /// Why packets are missing, in words; empty where none are.
    pub problem: String,
}

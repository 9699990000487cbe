//! What the kernel counts at an interface.

use anyhow::{Context as _, Result};

use super::namespace::Namespace;

/// The kernel's counters of an interface (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets dropped at receipt.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped on their way out.
    pub tx_dropped: u64,
}

impl LinkCounters {
    /// Those of an interface in a namespace.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn of(namespace: &Namespace, interface: &str) -> Result<Self> {
        let text = namespace.run(&["ip", "-s", "-j", "link", "show", interface])?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        let count = |side: &str, what: &str| {
            json[0]["stats64"][side][what].as_u64().context("ip shows no such counter")
        };
        Ok(Self {
            rx_packets: count("rx", "packets")?,
            rx_bytes: count("rx", "bytes")?,
            rx_dropped: count("rx", "dropped")?,
            tx_packets: count("tx", "packets")?,
            tx_bytes: count("tx", "bytes")?,
            tx_dropped: count("tx", "dropped")?,
        })
    }
}

//! What the kernel counts at an interface.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::namespace::Namespace;

/// How long a bench may take to become silent.
const SILENCE: Duration = Duration::from_secs(60);

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

/// Waits until nothing moves any more: returns what `settle` returns, which waits for the sensor to
/// have counted all that has passed, with the counters of all links at that same time.
///
/// What is to be compared belongs into one call: the bench's hosts announce themselves when they
/// like, also between two calls.
///
/// # Errors
/// When there is no such interface, `settle` fails, or the bench does not become silent.
pub fn when_silent<T, const N: usize>(
    links: [(&Namespace, &str); N],
    mut settle: impl FnMut() -> Result<T>,
) -> Result<(T, [LinkCounters; N])> {
    let counters = || -> Result<[LinkCounters; N]> {
        let mut counters = [LinkCounters::default(); N];
        for (counters, (namespace, interface)) in counters.iter_mut().zip(links) {
            *counters = LinkCounters::of(namespace, interface)?;
        }
        Ok(counters)
    };
    let deadline = Instant::now() + SILENCE;
    loop {
        let before = counters()?;
        let settled = settle()?;
        if counters()? == before {
            return Ok((settled, before));
        }
        ensure!(Instant::now() < deadline, "the bench does not become silent: {before:?}");
    }
}

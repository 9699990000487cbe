//! The interfaces' own counters, the sensor's independent witness.

use std::{fs, io};

use crate::model::InterfaceCounters;

/// Follows the network namespace of the thread, which `/sys/class/net` need not.
const PROC_NET_DEV: &str = "/proc/thread-self/net/dev";

/// Why the counters can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CountersError {
    /// `/proc` is missing or unreadable.
    #[error("can't read {PROC_NET_DEV}: {0}")]
    Read(#[from] io::Error),
    /// No line for the interface.
    #[error("interface {0} is gone")]
    Missing(String),
}

/// Absolute counters of an interface.
///
/// # Errors
///
/// When `/proc/thread-self/net/dev` can't be read or does not list it.
pub fn interface_counters(name: &str) -> Result<InterfaceCounters, CountersError> {
    let text = fs::read_to_string(PROC_NET_DEV)?;
    find(&text, name).ok_or_else(|| CountersError::Missing(name.to_owned()))
}

/// Columns by `net/core/net-procfs.c`: receive bytes, packets, errs, drop, ..., then from the
/// ninth on transmit bytes, packets, errs, drop.
fn find(text: &str, name: &str) -> Option<InterfaceCounters> {
    let columns = text.lines().find_map(|line| {
        let (interface, columns) = line.trim_start().split_once(':')?;
        (interface == name).then_some(columns)
    })?;
    let columns: Vec<u64> =
        columns.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let column = |index: usize| columns.get(index).copied();
    Some(InterfaceCounters {
        name: name.to_owned(),
        rx_bytes: column(0)?,
        rx_packets: column(1)?,
        tx_bytes: column(8)?,
        tx_packets: column(9)?,
        dropped: column(3)? + column(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  lan0: 98765     432    1    5    0     0          0         0    12345      67    0    3    0     0       0          0
";

    #[test]
    fn finds_the_columns() {
        let counters = find(TEXT, "lan0").unwrap();
        assert_eq!((counters.rx_packets, counters.rx_bytes), (432, 98765));
        assert_eq!((counters.tx_packets, counters.tx_bytes), (67, 12345));
        assert_eq!(counters.dropped, 8);
    }

    #[test]
    fn a_name_that_is_part_of_another_is_not_found() {
        assert_eq!(find(TEXT, "lan"), None);
        assert_eq!(find(TEXT, "an0"), None);
    }
}

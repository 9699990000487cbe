//! What tshark counts.

use std::{net::IpAddr, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::Rows;

const FIELDS: [&str; 8] = [
    "frame.encap_type",
    "frame.len",
    "frame.protocols",
    "eth.src",
    "sll.src.eth",
    "ip.dst",
    "ipv6.dst",
    "frame.cap_len",
];

/// Ethernet, Linux cooked and its second version, as Wireshark numbers them (`wiretap/wtap.h`).
const ENCAPSULATIONS: [&str; 3] = ["1", "25", "210"];

/// Of a sender whose address was not captured.
const NO_MAC: &str = "00:00:00:00:00:00";

/// What lies between Ethernet and IP and stays closed in LabGate, as it does in the kernel's flow dissector: Arista's time
/// stamps, MACsec (also where it only authenticates), network service headers, Cisco's FabricPath.
const CLOSED: [&str; 4] = ["avsp", "macsec", "nsh", "cfp"];

/// Octets of a frame's addresses.
const ADDRESSES: u64 = 12;

/// A length that tshark does not show, for it ends at this one.
const LONGEST: u64 = 0x7fff_ffff;
/// Stands for the bytes of rows with such a frame.
const UNKNOWN: u64 = u64::MAX;

/// How far tshark goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As it does by itself.
    Own,
    /// As LabGate does: protocols that it leaves closed are; EtherType, and not the version's four bits, tells which IP
    /// it is; and what a capture has beyond the frame's length on the wire is not part of the frame.
    Closed,
}

/// Counts the frames of a capture; those before a fault, where there is one.
pub(super) fn count(file: &Path, reading: Reading) -> Result<Rows> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(["-T", "fields", "-E", "occurrence=f"]);
    command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    if reading == Reading::Closed {
        command.args(CLOSED.iter().flat_map(|protocol| ["--disable-protocol", protocol]));
    }
    let output = command.output().context("tshark didn't start")?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let mut rows = Rows::new();
    for line in lines.lines() {
        add(&mut rows, line, reading)
            .with_context(|| format!("tshark wrote a line that is not understood: {line}"))?;
    }
    Ok(rows)
}

fn add(rows: &mut Rows, line: &str, reading: Reading) -> Result<()> {
    let fields: Vec<_> = line.split('\t').collect();
    let [encapsulation, len, protocols, ethernet, cooked, v4, v6, captured] =
        *fields.first_chunk().context("too few fields")?;
    if !ENCAPSULATIONS.contains(&encapsulation) {
        return Ok(());
    }
    let (len, captured): (u64, u64) = (len.parse()?, captured.parse()?);
    let mut mac = [ethernet, cooked].into_iter().find(|mac| !mac.is_empty()).unwrap_or(NO_MAC);
    // The outermost IP header.
    let mut headers = protocols.split(':').filter_map(|protocol| match protocol {
        "ip" => Some(v4),
        "ipv6" => Some(v6),
        _ => None,
    });
    let mut address = match reading {
        Reading::Own => headers.find(|address| !address.is_empty()),
        Reading::Closed => headers.next().filter(|address| !address.is_empty()),
    };
    if reading == Reading::Closed && len < captured.min(ADDRESSES) {
        (mac, address) = (NO_MAC, None);
    }
    let address: Option<IpAddr> = address.map(str::parse).transpose()?;
    let is_unknown = reading == Reading::Closed && len == LONGEST;
    let tally = rows.entry((mac.to_owned(), address)).or_default();
    tally.packets += 1;
    tally.bytes = tally.bytes.saturating_add(if is_unknown { UNKNOWN } else { len });
    Ok(())
}

/// Whether rows are the same, but for bytes that tshark does not know.
pub(super) fn same(theirs: &Rows, ours: &Rows) -> bool {
    theirs.len() == ours.len()
        && theirs.iter().all(|(key, tally)| {
            ours.get(key).is_some_and(|our| {
                let is_same = our.bytes == tally.bytes || tally.bytes == UNKNOWN;
                our.packets == tally.packets && is_same
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captures::Tally;

    fn counted(lines: &[&str], reading: Reading) -> Vec<(String, String, u64, u64)> {
        let mut rows = Rows::new();
        lines.iter().for_each(|line| add(&mut rows, line, reading).unwrap());
        let row = |((mac, address), tally): ((String, Option<IpAddr>), Tally)| {
            (mac, address.map_or_else(String::new, |to| to.to_string()), tally.packets, tally.bytes)
        };
        rows.into_iter().map(row).collect()
    }

    #[test]
    fn the_outermost_header_has_the_address() {
        let lines = [
            "1\t60\teth:ethertype:vlan:ethertype:ip:udp\taa\t\t192.0.2.1\t\t60",
            "1\t90\teth:ethertype:ip:ipv6:tcp\taa\t\t192.0.2.1\t2001:db8::1\t90",
            "25\t70\tsll:ethertype:ipv6:ip:tcp\t\tbb\t192.0.2.1\t2001:db8:0::1\t70",
            "1\t42\teth:ethertype:arp\taa\t\t\t\t42",
            // Raw IP has no sender.
            "7\t42\tip:udp\t\t\t192.0.2.1\t\t42",
        ];
        let expected =
            [("aa", "", 1, 42), ("aa", "192.0.2.1", 2, 150), ("bb", "2001:db8::1", 1, 70)];
        let expected =
            expected.map(|(mac, to, packets, bytes)| (mac.into(), to.into(), packets, bytes));
        for reading in [Reading::Own, Reading::Closed] {
            assert_eq!(counted(&lines, reading), expected);
        }
        assert!(add(&mut Rows::new(), "1\t60", Reading::Own).is_err());
        assert!(add(&mut Rows::new(), "1\tx\teth\taa\t\t\t\t60", Reading::Own).is_err());
    }

    #[test]
    fn what_labgate_leaves_closed_can_be_left_closed() {
        let lines = [
            // Version 6 behind IPv4's EtherType, and a frame that was shorter on the wire than in the capture.
            "1\t60\teth:ethertype:ip:ipv6:data\taa\t\t\t2001:db8::1\t60",
            "1\t0\teth:ethertype:bpq\taa\t\t\t\t30",
        ];
        let row = |mac: &str, to: &str, bytes| (mac.to_owned(), to.to_owned(), 1, bytes);
        let own = [row("aa", "", 0), row("aa", "2001:db8::1", 60)];
        assert_eq!(counted(&lines, Reading::Own), own);
        assert_eq!(counted(&lines, Reading::Closed), [row(NO_MAC, "", 0), row("aa", "", 60)]);
    }

    #[test]
    fn what_tshark_does_not_know_may_be_anything() {
        let rows = |bytes| Rows::from([(("aa".to_owned(), None), Tally { packets: 1, bytes })]);
        let mut longest = Rows::new();
        let line = "1\t2147483647\teth\taa\t\t\t\t60";
        add(&mut longest, line, Reading::Closed).unwrap();
        assert!(same(&longest, &rows(4_093_509_168)) && !same(&longest, &Rows::new()));
        assert!(same(&rows(60), &rows(60)) && !same(&rows(60), &rows(61)));
    }
}

//! The independent witness: tcpdump at each device's end of its link, counted by tshark.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::compare::{Counts, Key};
use crate::bench::{Bench, Device, Process};

const FIELDS: [&str; 7] =
    ["eth.src", "eth.dst", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "frame.len"];

/// Running captures, one for each device.
pub(super) struct Captures(Vec<(Process, PathBuf)>);

impl Captures {
    /// Starts them all and waits until they listen.
    pub(super) fn start(bench: &Bench) -> Result<Self> {
        let mut captures = Vec::new();
        for device in bench.devices() {
            let file = bench.dir().join(format!("{}.pcap", device.spec.name));
            let path = file.to_str().context("a path is not UTF-8")?;
            // Headers are enough; 16 MiB of buffer; as root, because the directory is root's.
            let tcpdump = "tcpdump -i eth0 -p -n -U --immediate-mode -s 128 -B 16384 -Z root -w";
            let tcpdump: Vec<_> = tcpdump.split(' ').chain([path]).collect();
            let process = device.namespace.spawn(&tcpdump)?;
            captures.push((process, file));
        }
        for (process, _) in &mut captures {
            process.wait_for_output("listening on", Duration::from_secs(10))?;
        }
        Ok(Self(captures))
    }

    /// Ends them and counts what they saw.
    ///
    /// # Errors
    /// When a capture lost packets: it would be no witness.
    pub(super) fn count(mut self, bench: &Bench) -> Result<Counts> {
        let mut counts = Counts::new();
        for (device, (process, file)) in bench.devices().iter().zip(&mut self.0) {
            process.stop(Signal::SIGINT, Duration::from_secs(10))?;
            let log = process.output();
            ensure!(
                log.lines().any(|line| line.trim() == "0 packets dropped by kernel"),
                "the capture at {} lost packets; run again on a less busy machine: {log}",
                device.spec.name
            );
            count(device, file.to_str().context("a path is not UTF-8")?, &mut counts)?;
        }
        Ok(counts)
    }
}

fn count(device: &Device, file: &str, counts: &mut Counts) -> Result<()> {
    let mut argv = vec!["tshark", "-n", "-r", file, "-T", "fields", "-E", "occurrence=f"];
    argv.extend(FIELDS.iter().flat_map(|field| ["-e", field]));
    let lines = device.namespace.run(&argv)?;
    parse(&lines, device.spec.name, device.spec.mac, counts)
}

/// Counts tshark's lines: what has the device's MAC address as source is `tx`, as destination
/// `rx`; anything else on its link (multicast, what the switch floods) is not the device's.
fn parse(
    lines: &str,
    device: &'static str,
    mac: &str,
    counts: &mut BTreeMap<Key, super::compare::Tally>,
) -> Result<()> {
    for line in lines.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let &[source, destination, src4, dst4, src6, dst6, length] = &fields[..] else {
            bail!("tshark wrote a line that is not understood: {line}");
        };
        let (tx, far4, far6) = if source == mac {
            (true, dst4, dst6)
        } else if destination == mac {
            (false, src4, src6)
        } else {
            continue;
        };
        let far = [far4, far6].into_iter().find(|address| !address.is_empty());
        let address: Option<IpAddr> = far.map(str::parse).transpose()?;
        let tally = counts.entry(Key { device: device.to_owned(), tx, address }).or_default();
        tally.packets += 1;
        tally.bytes += length.parse::<u64>().context("tshark wrote no frame length")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::compare::Tally, *};

    #[test]
    fn counts_by_direction_and_far_address() {
        let lines = "aa\tgw\t192.168.77.11\t42.62.48.17\t\t\t74\n\
                     gw\taa\t42.62.48.17\t192.168.77.11\t\t\t60\n\
                     gw\taa\t\t\t240e:e1::9\tfd00::1\t1514\n\
                     aa\tff:ff:ff:ff:ff:ff\t\t\t\t\t42\n\
                     bb\tff:ff:ff:ff:ff:ff\t\t\t\t\t42\n\
                     gw\taa\t42.62.48.17\t192.168.77.11\t\t\t100\n";
        let mut counts = Counts::new();
        parse(lines, "phone", "aa", &mut counts).expect("lines");
        let far = |text: &str| Some(text.parse().expect("address"));
        let expected = [
            (true, far("42.62.48.17"), 1, 74),
            (false, far("42.62.48.17"), 2, 160),
            (false, far("240e:e1::9"), 1, 1514),
            (true, None, 1, 42),
        ];
        let expected: Counts = expected
            .into_iter()
            .map(|(tx, address, packets, bytes)| {
                (Key { device: "phone".to_owned(), tx, address }, Tally { packets, bytes })
            })
            .collect();
        assert_eq!(counts, expected);
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for line in ["aa\tgw\t74", "aa\tgw\t\t\t\t\tmany", "aa\tgw\tx\ty\t\t\t74"] {
            assert!(parse(line, "phone", "aa", &mut Counts::new()).is_err(), "{line}");
        }
    }
}

//! Leases of the DHCP servers in use, from the files in which they lie by default.
//!
//! A lease's name is what a device calls itself: anything at all. Here it is cut to what a host name
//! may hold, so that nothing behind this module has to beware of it.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::mac_of;
use crate::{files, model::Mac};

/// What is read of a file at most, in bytes: some ten thousand leases.
const MAX_FILE: u64 = 1 << 20;
/// Longest label of a host name (RFC 1035), in bytes.
const MAX_NAME: usize = 63;

/// A server's way to write leases.
type Parse = fn(&str) -> Vec<Lease>;

/// Where servers keep their leases: dnsmasq (Debian, Fedora, OpenWrt), ISC's, Kea's.
const FILES: [(&str, Parse); 6] = [
    ("var/lib/misc/dnsmasq.leases", dnsmasq),
    ("var/lib/dnsmasq/dnsmasq.leases", dnsmasq),
    ("tmp/dhcp.leases", dnsmasq),
    ("var/lib/dhcp/dhcpd.leases", isc),
    ("var/lib/dhcpd/dhcpd.leases", isc),
    ("var/lib/kea/kea-leases4.csv", kea),
];
/// Where systemd-networkd keeps a file for each interface.
const NETWORKD: [&str; 2] =
    ["var/lib/systemd/network/dhcp-server-lease", "run/systemd/netif/dhcp-server-lease"];

/// A device that has asked for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its MAC address.
    pub mac: Mac,
    /// The address it got.
    pub address: IpAddr,
    /// What it calls itself: 1 to 63 ASCII letters, digits, `-`, `_` and `.`.
    pub name: Option<String>,
}

/// All leases that lie below `root`, which is `/` but for tests, and the files that they are from.
pub fn leases(root: &Path) -> (Vec<Lease>, Vec<PathBuf>) {
    let files = FILES.map(|(path, parse)| (root.join(path), parse));
    let networkd = NETWORKD.iter().flat_map(|directory| {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        entries.map(|entry| (entry.path(), networkd as Parse))
    });
    let (mut leases, mut sources) = (Vec::new(), Vec::new());
    for (path, parse) in files.into_iter().chain(networkd) {
        let found = read(&path).map(|text| parse(&text)).unwrap_or_default();
        if !found.is_empty() {
            leases.extend(found);
            sources.push(path);
        }
    }
    (leases, sources)
}

/// The beginning of a regular file, whatever its octets are.
fn read(path: &Path) -> io::Result<String> {
    let octets = files::read_start(path, MAX_FILE)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// A line each: time of expiry, MAC address, address, name or `*`, client identifier (dnsmasq,
/// `src/lease.c`). Leases of DHCPv6 name no MAC address.
fn dnsmasq(text: &str) -> Vec<Lease> {
    let lease = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (mac, address) = (words.next()?, words.next()?);
        lease(mac, address, words.next().filter(|name| *name != "*"))
    };
    text.lines().filter_map(lease).collect()
}

/// Blocks `lease ADDRESS { ... }` of statements, the last of an address being the one that counts
/// (dhcpd.leases(5)).
fn isc(text: &str) -> Vec<Lease> {
    let mut last = HashMap::new();
    for block in
        text.split("\nlease ").flat_map(|block| block.strip_prefix("lease ").or(Some(block)))
    {
        let Some((address, rest)) = block.split_once('{') else { continue };
        // A name in quotes may hold a brace; the block's own stands on a line of its own.
        let body = rest.split("\n}").next().unwrap_or_default();
        let statement = |start: &str| {
            let mut lines = body.lines().map(str::trim);
            lines.find_map(|line| line.strip_prefix(start)?.trim().strip_suffix(';'))
        };
        let active = statement("binding state ").is_none_or(|state| state == "active");
        let mac = statement("hardware ethernet ").unwrap_or_default();
        let name = statement("client-hostname ").map(|name| name.trim_matches('"'));
        let lease = lease(mac, address.trim(), name).filter(|_| active);
        last.insert(address.trim(), lease);
    }
    let mut leases: Vec<Lease> = last.into_values().flatten().collect();
    leases.sort_by_key(|lease| lease.address);
    leases
}

/// A line each, in the columns that the first line names; commas in values are written `&#x2c`
/// (Kea's administrator's reference manual, memfile). The last line of an address counts.
fn kea(text: &str) -> Vec<Lease> {
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let (Some(address), Some(mac), Some(name)) =
        (column("address"), column("hwaddr"), column("hostname"))
    else {
        return Vec::new();
    };
    let state = column("state");
    let mut last = HashMap::new();
    for line in lines {
        let values: Vec<&str> = line.split(',').collect();
        let value = |at: usize| values.get(at).copied().unwrap_or_default();
        // 0 is a lease in use; others are declined or have expired.
        let in_use = state.is_none_or(|state| value(state) == "0");
        let lease = lease(value(mac), value(address), Some(value(name))).filter(|_| in_use);
        last.insert(value(address), lease);
    }
    let mut leases: Vec<Lease> = last.into_values().flatten().collect();
    leases.sort_by_key(|lease| lease.address);
    leases
}

/// An array of objects, in newer versions below `Leases` (systemd, `sd-dhcp-server-lease.c`).
fn networkd(text: &str) -> Vec<Lease> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Document {
        Array(Vec<Entry>),
        Object {
            #[serde(rename = "Leases")]
            leases: Vec<Entry>,
        },
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        client_id: Vec<u8>,
        address: [u8; 4],
        hostname: Option<String>,
        #[serde(default)]
        hardware_address: Vec<u8>,
    }

    let entries = match serde_json::from_str(text) {
        Ok(Document::Array(entries) | Document::Object { leases: entries }) => entries,
        Err(_) => return Vec::new(),
    };
    let lease = |entry: Entry| {
        // A client identifier of type 1 is the MAC address (RFC 2132, 9.14).
        let mac = mac_of(&entry.hardware_address)
            .or_else(|| mac_of(entry.client_id.strip_prefix(&[1])?))?;
        let name = entry.hostname.as_deref().and_then(clean);
        Some(Lease { mac, address: Ipv4Addr::from(entry.address).into(), name })
    };
    entries.into_iter().filter_map(lease).collect()
}

fn lease(mac: &str, address: &str, name: Option<&str>) -> Option<Lease> {
    let Mac(octets) = mac.parse().ok()?;
    Some(Lease {
        mac: mac_of(&octets)?,
        address: address.parse().ok()?,
        name: name.and_then(clean),
    })
}

/// The name as a host name would be written: everything else becomes `-`.
fn clean(name: &str) -> Option<String> {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let kept: String = name.chars().take(MAX_NAME).map(keep).collect();
    let kept = kept.trim_matches(['-', '_', '.']);
    (!kept.is_empty()).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: Mac = Mac([0x64, 0x09, 0x80, 0x4e, 0x6f, 0x01]);

    fn phone(name: Option<&str>) -> Vec<Lease> {
        let address = "192.168.77.11".parse().unwrap();
        vec![Lease { mac: PHONE, address, name: name.map(str::to_owned) }]
    }

    #[test]
    fn each_server_s_file() {
        let line = "1764000000 64:09:80:4e:6f:01 192.168.77.11 Redmi-Note 01:64:09:80:4e:6f:01\n\
                    duid 00:01:00:01\n1764000000 123 fd00::1 * 00:01\n";
        assert_eq!(dnsmasq(line), phone(Some("Redmi-Note")));
        assert_eq!(dnsmasq("0 64:09:80:4e:6f:01 192.168.77.11 * *"), phone(None));

        let block = |state: &str, name: &str| {
            format!(
                "lease 192.168.77.11 {{\n  starts 1 2026/11/16;\n  binding state {state};\n  next \
                 binding state free;\n  hardware ethernet 64:09:80:4e:6f:01;\n  client-hostname \
                 \"{name}\";\n}}\n"
            )
        };
        let file =
            format!("# comment\nauthoring-byte-order little-endian;\n\n{}", block("active", "a"));
        assert_eq!(isc(&file), phone(Some("a")));
        assert_eq!(isc(&(file.clone() + &block("active", "b}"))), phone(Some("b")));
        assert_eq!(isc(&(file + &block("free", "a"))), []);
        assert_eq!(isc(&block("active", "first")), phone(Some("first")));

        let header = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,\
                      hostname,state,user_context,pool_id\n";
        let row = |name: &str, state: &str| {
            format!("192.168.77.11,64:09:80:4e:6f:01,,4000,1764000000,1,0,0,{name},{state},,0\n")
        };
        assert_eq!(
            kea(&(header.to_owned() + &row("old", "0") + &row("new", "0"))),
            phone(Some("new"))
        );
        assert_eq!(kea(&(header.to_owned() + &row("old", "0") + &row("", "2"))), []);
        assert_eq!(kea(&row("no-header", "0")), []);

        let entry =
            r#"{"ClientId":[1,100,9,128,78,111,1],"Address":[192,168,77,11],"Hostname":"x"}"#;
        assert_eq!(networkd(&format!("[{entry}]")), phone(Some("x")));
        let newer = r#"{"ClientId":[255,0],"Address":[192,168,77,11],"HardwareAddress":[100,9,128,78,111,1]}"#;
        assert_eq!(networkd(&format!(r#"{{"BootID":"b","Leases":[{newer}]}}"#)), phone(None));
        assert_eq!(networkd("[{}]"), []);
    }

    #[test]
    fn hostile_names_are_cut_to_host_names() {
        assert_eq!(clean("a: b # c\n  - name: x").as_deref(), Some("a--b---c-----name--x"));
        assert_eq!(clean("\u{202e}\u{1b}[31m\"'{}"), Some("31m".to_owned()));
        assert_eq!(clean("\"\n#"), None);
        assert_eq!(clean(&"é".repeat(100)), None);
        assert_eq!(clean(&"x".repeat(100)).unwrap().len(), 63);
        let name = dnsmasq("0 64:09:80:4e:6f:01 192.168.77.11 {evil:\u{7f}name *");
        assert_eq!(name, phone(Some("evil--name")));
        assert_eq!(dnsmasq("0 65:09:80:4e:6f:01 192.168.77.11 group *"), []);
    }

    #[test]
    fn files_are_found_and_bounded_and_pipes_do_not_block() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(leases(root.path()), (Vec::new(), Vec::new()));
        for directory in ["var/lib/misc", "var/lib/dhcp", NETWORKD[0]] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let line = "0 64:09:80:4e:6f:01 192.168.77.11 a *\n";
        let long = line.repeat(100_000);
        fs::write(root.path().join(FILES[0].0), &long).unwrap();
        let pipe = root.path().join("var/lib/dhcp/dhcpd.leases");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let file = root.path().join(NETWORKD[0]).join("lan0");
        fs::write(&file, r#"[{"ClientId":[1,100,9,128,78,111,1],"Address":[1,2,3,4]}]"#).unwrap();
        let (found, files) = leases(root.path());
        assert!(found.len() < 100_000 / 2 && found.len() > 10_000, "{}", found.len());
        assert_eq!(files, [root.path().join(FILES[0].0), file]);
    }
}

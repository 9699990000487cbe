//! The lease files of dnsmasq.
//!
//! One lease a line: when it expires (Unix time in seconds, 0 for never), MAC address, IPv4 address,
//! host name or `*`, client identifier or `*`. After a line `duid ...` with the server's own follow those
//! of DHCPv6: expiry, IAID (with a `T` before it for a temporary address), IPv6 address, host name or `*`,
//! the client's DUID (dnsmasq 2.90, `lease_update_file` in src/lease.c).

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{files, model::Mac};

/// Of a file; some 50,000 leases.
const MAX_BYTES: u64 = 4 << 20;
/// Leases of all files together. dnsmasq itself gives out 1000 unless told otherwise.
const MAX_LEASES: usize = 16_384;
/// Longest host name that is shown; a DNS label has 63 octets at most.
const MAX_NAME: usize = 64;
/// Where dnsmasq is built for machines without a clock the expiry is a duration. None is so long.
const CLOCKLESS: u64 = 1_000_000_000;

/// An address that was given to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: IpAddr,
    /// The client's, by DHCPv6 only as far as its identifier tells.
    pub(super) mac: Option<Mac>,
    /// As the client gave it; made printable, and cut.
    pub(super) host_name: Option<Arc<str>>,
}

/// The files.
#[derive(Debug)]
pub(super) struct Leases {
    /// Each with the last failure, so that it is told once.
    files: Vec<(PathBuf, Option<String>)>,
}

impl Leases {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        Self { files: files.into_iter().map(|file| (file, None)).collect() }
    }

    /// What stands in them now. dnsmasq writes a file in place: one that is read meanwhile lacks its end
    /// until the next look.
    pub(super) fn read(&mut self) -> Vec<Lease> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut leases = Vec::new();
        for (path, failure) in &mut self.files {
            let outcome = bytes(path);
            let failed = outcome.as_ref().err().map(ToString::to_string);
            if let Some(reason) = failed.as_ref().filter(|_| failed != *failure) {
                tracing::warn!("can't read the leases in {}: {reason}", path.display());
            }
            *failure = failed;
            let room = MAX_LEASES - leases.len();
            leases.extend(parse(&outcome.unwrap_or_default(), now).take(room));
        }
        leases
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    files::read_start(path, MAX_BYTES)
}

/// The leases that hold at Unix time `now` in seconds; lines that are none are left out.
fn parse(bytes: &[u8], now: u64) -> impl Iterator<Item = Lease> + '_ {
    bytes.split(|byte| *byte == b'\n').filter_map(move |line| lease(line, now))
}

fn lease(line: &[u8], now: u64) -> Option<Lease> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let [expires, hardware, address, name, client] = std::array::from_fn(|_| words.next());
    let (hardware, client) = (hardware?, client?);
    let expires: u64 = ascii(expires?)?.parse().ok()?;
    if expires > CLOCKLESS && expires <= now {
        return None;
    }
    let address: IpAddr = ascii(address?)?.parse().ok()?;
    let mac = match address {
        // Without an address family before it, as in `06-02:...`, it is Ethernet.
        IpAddr::V4(_) => ascii(hardware)?.parse().ok(),
        IpAddr::V6(_) => mac_of_duid(client),
    };
    let host_name = (name? != b"*").then(|| printable(name?)).flatten();
    Some(Lease { address, mac, host_name })
}

fn ascii(word: &[u8]) -> Option<&str> {
    str::from_utf8(word).ok()
}

/// The Ethernet address in a DUID of type 1 (DUID-LLT) or 3 (DUID-LL), RFC 8415, 11.2 and 11.4.
fn mac_of_duid(duid: &[u8]) -> Option<Mac> {
    let mac = match duid {
        [b'0', b'0', b':', b'0', b'1', b':', b'0', b'0', b':', b'0', b'1', b':', rest @ ..] => {
            // After four octets of time.
            rest.get(12..)?
        }
        [b'0', b'0', b':', b'0', b'3', b':', b'0', b'0', b':', b'0', b'1', b':', rest @ ..] => rest,
        _ => return None,
    };
    ascii(mac)?.parse().ok().filter(|mac: &Mac| !mac.is_group())
}

/// All but letters, digits and other visible ASCII as `\x1b`, and cut.
fn printable(name: &[u8]) -> Option<Arc<str>> {
    let mut text = name[..name.len().min(MAX_NAME)].escape_ascii().to_string();
    text.truncate(MAX_NAME);
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const FILE: &str = "\
        1800000600 da:1b:2c:3d:4e:05 192.168.77.15 Annas-iPhone 01:da:1b:2c:3d:4e:05\n\
        0 10:d5:61:7b:0c:06 192.168.78.21 * *\n\
        1799999999 64:09:80:4e:6f:01 192.168.77.11 too-late *\n\
        43200 64:09:80:4e:6f:01 192.168.77.12 clockless *\n\
        1800000600 06-da:1b:2c:3d:4e:09 192.168.77.19 wifi *\n\
        duid 00:01:00:01:30:f1:8d:0a:02:1a:b0:00:00:01\n\
        1800000600 1043219461 fd4c::15 Annas-iPhone 00:01:00:01:2d:11:22:33:da:1b:2c:3d:4e:05\n\
        1800000600 T7 fd4c::16 * 00:03:00:01:10:d5:61:7b:0c:06\n\
        1800000600 8 fd4c::17 tv 00:04:11:22:33\n";

    fn parsed(text: impl AsRef<[u8]>) -> Vec<(String, String, String)> {
        let text = text.as_ref().to_vec();
        let show = |lease: Lease| {
            let mac = lease.mac.map(|mac| mac.to_string()).unwrap_or_default();
            (lease.address.to_string(), mac, lease.host_name.unwrap_or_default().to_string())
        };
        parse(&text, NOW).map(show).collect()
    }

    #[test]
    fn both_families_as_dnsmasq_writes_them() {
        let expected = [
            ("192.168.77.15", "da:1b:2c:3d:4e:05", "Annas-iPhone"),
            ("192.168.78.21", "10:d5:61:7b:0c:06", ""),
            ("192.168.77.12", "64:09:80:4e:6f:01", "clockless"),
            ("192.168.77.19", "", "wifi"),
            ("fd4c::15", "da:1b:2c:3d:4e:05", "Annas-iPhone"),
            ("fd4c::16", "10:d5:61:7b:0c:06", ""),
            ("fd4c::17", "", "tv"),
        ];
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(parsed(FILE), expected);
    }

    #[test]
    fn names_are_cut_and_made_printable() {
        let name = |name: &[u8]| {
            let line = [b"0 02:00:00:00:00:01 10.0.0.1 ".as_slice(), name, b" *"].concat();
            parsed(line).pop().unwrap().2
        };
        assert_eq!(name(b"\x1b[2J\x07"), "\\x1b[2J\\x07");
        assert_eq!(name("caf\u{e9}\u{202e}".as_bytes()), "caf\\xc3\\xa9\\xe2\\x80\\xae");
        assert_eq!(name(b"\"'<b>"), "\\\"\\'<b>");
        assert_eq!(name(&[b'a'; 70_000]).len(), MAX_NAME);
        assert_eq!(name(&[0xff; 300]).len(), MAX_NAME);
    }

    #[test]
    fn what_is_no_lease_is_left_out() {
        for line in [
            "",
            "\0",
            "duid 00:01",
            "1800000600 02:00:00:00:00:01 10.0.0.1 short",
            "-1 02:00:00:00:00:01 10.0.0.1 * *",
            "99999999999999999999999 02:00:00:00:00:01 10.0.0.1 * *",
            "0 02:00:00:00:00:01 10.0.0.256 * *",
            "0 02:00:00:00:00:01 * * *",
        ] {
            assert_eq!(parsed(line), [], "{line}");
        }
        let unknown = [("10.0.0.1".to_owned(), String::new(), String::new())];
        assert_eq!(parsed("0 nonsense 10.0.0.1 * *"), unknown);
        assert_eq!(parsed(b"0 \xff\xfe 10.0.0.1 * *"), []);
    }

    /// Whatever a client makes dnsmasq write, and however the file is torn.
    #[test]
    fn any_bytes_are_read_within_bounds() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        let mut read = 0;
        for _ in 0..10_000 {
            let mut bytes = FILE.as_bytes().to_vec();
            for _ in 0..=next(6) {
                let at = next(bytes.len());
                match next(5) {
                    0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                    1 => bytes.truncate(at + 1),
                    2 => drop(bytes.remove(at)),
                    3 => drop(bytes.splice(at..at, vec![0x1b; next(300)])),
                    _ => bytes.insert(at, b" \n:\0*T9"[next(7)]),
                }
                if bytes.is_empty() {
                    bytes.push(b'0');
                }
            }
            for lease in parse(&bytes, NOW) {
                read += 1;
                let name = lease.host_name.unwrap_or_default();
                assert!(name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
        assert!(read > 10_000, "most lines stay what they are: {read}");
    }

    #[test]
    fn a_file_that_is_missing_or_none_has_no_leases() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("leases");
        let mut leases = Leases::new(vec![file.clone(), directory.path().to_owned()]);
        assert_eq!(leases.read(), []);
        std::fs::write(&file, "0 02:00:00:00:00:01 10.0.0.1 tv *\n").unwrap();
        assert_eq!(leases.read().len(), 1);
        let line = "0 02:00:00:00:00:01 10.0.0.1 tv *\n";
        std::fs::write(&file, line.repeat(MAX_LEASES + 9)).unwrap();
        assert_eq!(leases.read().len(), MAX_LEASES);
    }
}

//! Geo databases: any octets are such a file.

use std::{fs, net::IpAddr, panic::resume_unwind, thread};

use ipnet::IpNet;
use labgate::{
    join::geo::{GeoDb, STACK, Source},
    model::{Attribution, Country},
};

/// In every kind of range, and where trees have their corners.
const ADDRESSES: [&str; 12] = [
    "0.0.0.0",
    "1.1.1.1",
    "5.6.7.8",
    "42.62.48.9",
    "192.168.1.1",
    "255.255.255.255",
    "::",
    "::ffff:42.62.48.9",
    "64:ff9b::5.6.7.8",
    "2002:506:708::1",
    "2400::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];
/// Longest name of an operator, in bytes.
const LONGEST_OPERATOR: usize = 128;

/// Opens octets as both databases, and looks addresses and networks up, on a thread as the daemon's are.
pub fn check(octets: &[u8]) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK);
        if let Err(panic) = thread.spawn_scoped(scope, || look(octets)).unwrap().join() {
            resume_unwind(panic);
        }
    });
}

fn look(octets: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fuzz.mmdb");
    fs::write(&path, octets).unwrap();
    let source = Source::File(path);
    let watched = "42.62.48.0/24".parse().unwrap();
    let geo = match GeoDb::open(&source, &source, &[watched], &[]) {
        Ok(geo) => geo,
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("fuzz.mmdb") && error.len() < 4096, "{error}");
            assert!(!error.contains(char::is_control), "{error:?}");
            return;
        }
    };
    for address in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        let found = geo.lookup(address);
        is_sound(&found);
        let wire = address.to_canonical();
        assert!(found.prefix.is_some_and(|prefix| prefix.contains(&wire)), "{address}: {found:?}");
        let length = if wire.is_ipv4() { 24 } else { 48 };
        is_sound(&geo.lookup_network(IpNet::new_assert(wire, length).trunc()));
    }
    assert_eq!(geo.databases()[0].sha256.len(), 64);
    geo.attribution();
}

fn is_sound(found: &Attribution) {
    if let Country::Iso(code) = found.country {
        assert!(code.iter().all(u8::is_ascii_uppercase), "{found:?}");
    }
    assert!(found.prefix.is_none_or(|prefix| prefix.trunc() == prefix), "{found:?}");
    assert!(found.operator.len() <= LONGEST_OPERATOR, "{found:?}");
    assert!(!found.operator.contains(char::is_control), "{found:?}");
}

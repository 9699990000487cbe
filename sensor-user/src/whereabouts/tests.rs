use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::host::Doubt;

const PHONE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TABLET: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn known(id: u32, macs: &[Mac], configured: bool) -> Known {
    Known { id: DeviceId(id), macs: macs.to_vec(), configured }
}

fn v4(number: u16) -> IpAddr {
    let [c, d] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, c, d).into()
}

fn v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0xfd4c, 0, 0, 0, 0, 0, 0, number).into()
}

fn neighbour(mac: Mac, address: IpAddr, stale: bool, ticks: u32) -> Neighbour {
    Neighbour { interface: 1, mac, address, doubt: Doubt { stale, ticks } }
}

fn lease(address: IpAddr, mac: Option<Mac>, name: &str) -> Lease {
    Lease { address, mac, host_name: (!name.is_empty()).then(|| name.into()) }
}

#[test]
fn addresses_and_names_of_all_mac_addresses_of_a_device() {
    let devices = [known(5, &[PHONE, TABLET], true), known(6, &[Mac([2; 6])], false)];
    let neighbours = vec![
        neighbour(TABLET, v6(1), true, 5),
        neighbour(PHONE, v4(1), false, 5),
        neighbour(Mac([4; 6]), v4(9), false, 1),
    ];
    let leases = [
        lease(v4(1), Some(PHONE), "phone"),
        lease(v4(2), Some(TABLET), ""),
        // Who answers for it, not whom its client says it is.
        lease(v6(1), Some(Mac([2; 6])), "tablet"),
        lease(v6(2), None, "nobody"),
    ];
    let table = locate(&devices, neighbours, &leases);
    assert_eq!(table.len(), 1);
    let found = &table[&DeviceId(5)];
    assert_eq!(found.addresses, [v4(1), v4(2), v6(1)]);
    assert_eq!(
        found.host_names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["phone", "tablet"]
    );
}

#[test]
fn a_device_that_answers_for_everything_shows_the_last_ones() {
    let neighbours = (0..500).map(|n| neighbour(PHONE, v4(n), n % 2 == 0, u32::from(n))).collect();
    let table = locate(&[known(1, &[PHONE], false)], neighbours, &[]);
    let odd: Vec<IpAddr> = (0..16).map(|n| v4(2 * n + 1)).collect();
    assert_eq!(table[&DeviceId(1)].addresses, odd);
    let leases: Vec<Lease> =
        (0..500).map(|n| lease(v4(n), Some(PHONE), &format!("n{n}"))).collect();
    let table = locate(&[known(1, &[PHONE], false)], Vec::new(), &leases);
    let found = &table[&DeviceId(1)];
    assert_eq!((found.addresses.len(), found.host_names.len()), (MAX_ADDRESSES, MAX_NAMES));
}

#[test]
fn a_flood_of_devices_takes_no_configured_ones_place() {
    let mac = |n: u16| {
        let [a, b] = n.to_be_bytes();
        Mac([2, 1, 0, 0, a, b])
    };
    let mut devices: Vec<Known> =
        (0..2000).map(|n| known(u32::from(n), &[mac(n)], false)).collect();
    devices.push(known(9999, &[PHONE], true));
    let mut neighbours: Vec<Neighbour> = (0..2000)
        .flat_map(|n| (0..16).map(move |i| neighbour(mac(n), v4(16 * n + i), false, 0)))
        .collect();
    neighbours.push(neighbour(PHONE, v6(1), true, 1000));
    let table = locate(&devices, neighbours, &[]);
    assert_eq!(table[&DeviceId(9999)].addresses, [v6(1)]);
    assert_eq!(table.values().map(|found| found.addresses.len()).sum::<usize>(), MAX_IN_ALL);
}

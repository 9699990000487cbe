//! No packet is lost when a level is full: detail degrades, sums stay.

use labgate::{
    kernel::{RawEpoch, Sizes},
    model::Mac,
};
use sensor_common::layout::Outcome;

use crate::{
    bed::{Bed, SMALL, counted, seen},
    frames::*,
};

/// An upload of `device` to the `n`th far address, each in a /24 of its own.
fn upload(device: [u8; 6], n: u32) -> Vec<u8> {
    let mut frame = ethernet(ETH_IPV4, &ipv4(17, &udp(b"")));
    frame[6..12].copy_from_slice(&device);
    let [_, a, b, c] = n.to_be_bytes();
    frame[30..34].copy_from_slice(&[20 + a, b, c, 1]);
    frame
}

fn outcome(raw: &RawEpoch, outcome: Outcome) -> u64 {
    raw.totals.outcomes[outcome as usize]
}

/// Entries and capacity of a table.
fn table(raw: &RawEpoch, table: &str) -> (u64, u64) {
    let found = raw.tables.iter().find(|found| found.table == table).unwrap();
    (found.entries, found.capacity)
}

fn packets(rows: &[(sensor_common::layout::FlowKey, sensor_common::layout::Counters)]) -> u64 {
    rows.iter().map(|(_, counters)| counters.tally.packets).sum()
}

#[test]
fn a_flood_of_destinations_falls_through_the_levels() {
    if !xtask::require_root("a_flood_of_destinations_falls_through_the_levels") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let packets_sent = 3000;
    for n in 0..packets_sent {
        bed.xdp(&upload(DEVICE, n));
    }
    let raw = bed.drain();
    assert_eq!(seen(&raw).0, u64::from(packets_sent));
    assert_eq!(counted(&raw), seen(&raw));
    assert!(packets(&raw.flows) > 0 && packets(&raw.coarse) > 0);
    assert_eq!(raw.overflow.len(), 1);
    assert_eq!(raw.overflow[0].0, Mac(DEVICE));
    assert!(raw.overflow[0].1[0].packets > 0);
    // The quota left room for others.
    let slots = u64::from(SMALL.flow_slots_per_cpu);
    assert_eq!(outcome(&raw, Outcome::Claim), raw.flows.len() as u64);
    assert!(raw.flows.len() as u64 <= 2 * slots / 8 * 5, "{} slots claimed", raw.flows.len());
    assert!(outcome(&raw, Outcome::SlotQuota) > 0);
    assert!(outcome(&raw, Outcome::CoarseFull) > 0);

    // The tables say how full they were, per CPU and in all.
    let (entries, capacity) = table(&raw, "flow");
    assert_eq!(entries, raw.flows.len() as u64);
    assert!(capacity >= slots && capacity.is_multiple_of(slots));
    let (fullest, capacity) = table(&raw, "flow_fullest_cpu");
    assert!((1..=entries).contains(&fullest) && fullest >= entries * slots / table(&raw, "flow").1);
    assert_eq!(capacity, slots);
    let (entries, capacity) = table(&raw, "coarse");
    assert!(entries > 0 && entries <= raw.coarse.len() as u64);
    assert_eq!(capacity, u64::from(SMALL.coarse_entries));

    // And the next epoch has all its room back.
    bed.xdp(&upload(DEVICE, 0));
    bed.xdp(&upload([2, 0, 0, 0, 0, 77], 0));
    let raw = bed.drain();
    assert_eq!((packets(&raw.flows), raw.coarse.len(), raw.overflow.len()), (2, 0, 0));
    assert_eq!((table(&raw, "flow").0, table(&raw, "coarse").0), (2, 0));
    // Devices are counted when a half is cleared, so they show an epoch later.
    assert_eq!((table(&raw, "known_devices").0, table(&raw, "unknown_devices")), (1, (0, 4)));
    assert_eq!(table(&bed.drain(), "unknown_devices"), (1, 4));
}

#[test]
fn coarse_rows_keep_the_network() {
    if !xtask::require_root("coarse_rows_keep_the_network") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let sent = 1400;
    for n in 0..sent {
        bed.xdp(&upload(DEVICE, n));
    }
    let raw = bed.drain();
    assert!(!raw.coarse.is_empty());
    for (key, counters) in &raw.coarse {
        assert_eq!((key.mac(), key.port(), key.protocol()), (DEVICE, 0, 17));
        let [_, _, _, last] = key.ipv4();
        assert_eq!(last, 0);
        assert_eq!(counters.tally.packets, 1);
        assert!(counters.first_seen > 0);
    }
    // Together the two levels name each /24 once.
    let mut networks: Vec<[u8; 4]> = raw.coarse.iter().map(|(key, _)| key.ipv4()).collect();
    networks.extend(raw.flows.iter().map(|(key, _)| {
        let [a, b, c, _] = key.ipv4();
        [a, b, c, 0]
    }));
    networks.sort_unstable();
    networks.dedup();
    let overflow: u64 = raw.overflow.iter().map(|(_, tallies)| tallies[0].packets).sum();
    assert_eq!(networks.len() as u64 + overflow, u64::from(sent));
}

#[test]
fn while_there_is_room_nobody_is_held_to_a_quota() {
    if !xtask::require_root("while_there_is_room_nobody_is_held_to_a_quota") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    // More than its quota, less than what is free to all.
    let stranger = [2, 0, 0, 0, 0, 1];
    let flows = SMALL.flow_slots_per_cpu / 2;
    for n in 0..flows {
        bed.xdp(&upload(stranger, n));
    }
    let raw = bed.drain();
    assert_eq!(outcome(&raw, Outcome::SlotQuota), 0);
    // All groups of a key are full once in a hundred thousand keys, in one run of this in two hundred.
    let crowded_out = outcome(&raw, Outcome::TableFull);
    assert!(crowded_out <= 3, "{crowded_out} of {flows} keys found no slot");
    assert_eq!(raw.flows.len() as u64 + crowded_out, u64::from(flows));
}

#[test]
fn a_flooding_stranger_takes_no_slot_from_a_configured_device() {
    if !xtask::require_root("a_flooding_stranger_takes_no_slot_from_a_configured_device") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    for n in 0..4000 {
        let [_, _, high, low] = (n % 64_u32).to_be_bytes();
        bed.xdp(&upload([2, 0, 0, 0, high, low], n));
    }
    for n in 0..100 {
        bed.xdp(&upload(DEVICE, n));
    }
    let raw = bed.drain();
    assert_eq!(counted(&raw), seen(&raw));
    let own = raw.flows.iter().filter(|(key, _)| key.mac() == DEVICE).count();
    // All groups of a key are full once in ten thousand keys.
    assert!(own >= 99, "the well-behaved device keeps the full key of {own} of 100 flows");
    assert!(outcome(&raw, Outcome::PoolFull) > 0);
    let strangers: std::collections::HashSet<[u8; 6]> =
        raw.flows.iter().map(|(key, _)| key.mac()).filter(|mac| *mac != DEVICE).collect();
    assert!(strangers.len() <= 8, "{strangers:?}");
}

#[test]
fn unknown_devices_without_an_entry_share_one_total() {
    if !xtask::require_root("unknown_devices_without_an_entry_share_one_total") {
        return;
    }
    let sizes = Sizes { device_macs: 0, unknown_devices: 1, ..SMALL };
    let mut bed = Bed::new(sizes);
    for last in 0..50 {
        bed.xdp(&upload([2, 0, 0, 0, 0, last], 1));
    }
    let raw = bed.drain();
    let pool = raw.totals.pool[0];
    assert!(pool.packets > 0);
    assert_eq!(pool.bytes, pool.packets * 42);
    assert_eq!(outcome(&raw, Outcome::PoolFull), pool.packets);
    assert_eq!(counted(&raw), (50, 50 * 42));
    assert_eq!(seen(&raw), counted(&raw));
}

/// As when somebody gives it a name while the sensor runs.
#[test]
fn a_device_of_the_pool_gets_an_entry_of_its_own() {
    if !xtask::require_root("a_device_of_the_pool_gets_an_entry_of_its_own") {
        return;
    }
    const LATE: [u8; 6] = [2, 0, 0, 0, 9, 9];
    let mut bed = Bed::new(Sizes { device_macs: 0, unknown_devices: 1, ..SMALL });
    let own = |raw: &RawEpoch| raw.flows.iter().filter(|(key, _)| key.mac() == LATE).count();
    for reserved in [false, true] {
        // Those who talk first take what entries there are, until the epoch ends.
        for last in 0..50 {
            bed.xdp(&upload([2, 0, 0, 0, 0, last], 1));
        }
        if reserved {
            bed.reserve(LATE);
        }
        bed.xdp(&upload(LATE, 1));
        let raw = bed.drain();
        assert_eq!(own(&raw), usize::from(reserved));
        assert_eq!(counted(&raw), (51, 51 * 42));
        assert_eq!(seen(&raw), counted(&raw));
    }
}

#[test]
fn a_flood_by_known_and_unknown_devices_keeps_the_sums() {
    if !xtask::require_root("a_flood_by_known_and_unknown_devices_keeps_the_sums") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    for n in 0..20_000 {
        bed.xdp(&upload(DEVICE, n));
        let [.., last] = (n % 3).to_be_bytes();
        bed.xdp(&upload([2, 0, 0, 0, 0, last], n));
    }
    let raw = bed.drain();
    assert_eq!(counted(&raw), seen(&raw));
    assert_eq!(seen(&raw).0, 40_000);
}

//! The grace period: one key, counted at full speed, flipped back to back.
//!
//! This is the test that can fail. A full table shows nothing without the barrier; here a program
//! that still writes the half that was just read loses packets within seconds.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

#[path = "../../sensor-common/tests/frames/mod.rs"]
#[expect(dead_code, reason = "each test crate uses some of the builders")]
mod frames;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use frames::*;
use labgate::{
    config::{AttachMode, InterfaceConfig, TcAttach},
    kernel::{
        Attached, GracePeriod, IngressMode, Sensor, Sizes, ethernet_link, interface_counters,
    },
    model::Mac,
};
use xtask::bench::{Namespace, RawSocket};

/// How long the flips go on.
const DURATION: Duration = Duration::from_secs(8);
/// Frames between two looks at the clock.
const BATCH: usize = 64;

#[test]
fn back_to_back_flips_of_one_key_lose_nothing() {
    if !xtask::require_root("back_to_back_flips_of_one_key_lose_nothing") {
        return;
    }
    let logs = tempfile::tempdir().unwrap();
    let gateway = Namespace::new("gateway", logs.path()).unwrap();
    gateway
        .ip("link add lan0 type veth peer name phone0\nlink set phone0 addrgenmode none\n\
             link set lan0 addrgenmode none")
        .unwrap();
    let sizes = Sizes {
        flow_slots_per_cpu: 1024,
        coarse_entries: 1024,
        device_macs: 1,
        unknown_devices: 1,
    };
    let (mut sensor, mut table) = Sensor::load(&sizes, &[Mac(DEVICE)]).unwrap();
    let grace = GracePeriod::new().unwrap();
    let config = InterfaceConfig { attach: AttachMode::Xdp, ..InterfaceConfig::default() };
    // Attached while the link is down, so that both sides count from zero.
    let attached = gateway.enter(|| {
        let link = ethernet_link("lan0").unwrap();
        Attached::new(&mut sensor, &link, &config, TcAttach::Auto).unwrap()
    });
    let attached = attached.unwrap();
    assert_eq!(attached.ingress, IngressMode::Xdp);
    gateway.ip("link set lan0 up\nlink set phone0 up").unwrap();

    let phone = RawSocket::open(&gateway, "phone0").unwrap();
    let stop = AtomicBool::new(false);
    let (mut counted, mut seen, mut epochs) = (0, 0, 0_u32);
    let mut drain = |epochs: &mut u32| {
        let raw = table.drain(grace).unwrap();
        counted += raw.flows.iter().map(|(_, counters)| counters.tally.packets).sum::<u64>();
        seen += raw.totals.seen[0].packets;
        table.clear().unwrap();
        *epochs += 1;
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let frames = vec![ethernet(ETH_IPV4, &ipv4(17, &udp(&[0; 18]))); BATCH];
            while !stop.load(Ordering::Relaxed) {
                phone.send(&frames).unwrap();
            }
        });
        let end = Instant::now() + DURATION;
        while Instant::now() < end {
            drain(&mut epochs);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // What was still on its way through the veth's ring.
    thread::sleep(Duration::from_millis(200));
    drain(&mut epochs);
    drain(&mut epochs);

    let received = gateway.enter(|| interface_counters("lan0").unwrap()).unwrap();
    let received = received.rx_packets;
    println!("{received} packets in {epochs} epochs");
    assert!(received > 100_000, "only {received} packets: too few to meet a flip");
    assert_eq!((counted, seen), (received, received), "after {epochs} epochs");
    drop(attached);
}

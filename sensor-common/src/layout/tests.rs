//! What goes into a key comes out of it.

use super::*;

#[test]
fn key_fields_come_back_as_they_went_in() {
    let key = FlowKey {
        mac_vlan: u64::from_le_bytes([1, 2, 3, 4, 5, 6, 0x64, 0x10]),
        addr: [u64::from_le_bytes([8, 8, 4, 4, 0, 0, 0, 0]), 0],
        rest: FlowKey::rest(u16::to_be(443), 17, Class::Ipv4, Direction::Rx, 7),
    };
    assert_eq!(key.mac(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(key.vlan(), Some(100));
    assert_eq!(key.ipv4(), [8, 8, 4, 4]);
    assert_eq!((key.port(), key.protocol(), key.ifindex()), (443, 17, 7));
    assert_eq!((key.class(), key.direction()), (Class::Ipv4, Direction::Rx));
}

#[test]
fn coarse_key_keeps_the_24_and_drops_the_port() {
    let key = FlowKey {
        mac_vlan: u64::from_le_bytes([1, 2, 3, 4, 5, 6, 0x64, 0x10]),
        addr: [u64::from_le_bytes([42, 62, 48, 9, 0, 0, 0, 0]), 0],
        rest: FlowKey::rest(u16::to_be(443), 6, Class::Ipv4, Direction::Tx, 7),
    };
    let coarse = key.coarse(1);
    assert_eq!(coarse.half(), 1);
    let wide = coarse.widen();
    assert_eq!(wide.ipv4(), [42, 62, 48, 0]);
    assert_eq!((wide.mac(), wide.vlan()), ([1, 2, 3, 4, 5, 6], None));
    assert_eq!((wide.port(), wide.protocol(), wide.ifindex()), (0, 6, 0));
    assert_eq!((wide.class(), wide.direction()), (Class::Ipv4, Direction::Tx));
}

#[test]
fn coarse_key_keeps_the_48_of_ipv6() {
    let addr: [u8; 16] = [0x24, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let wide = u128::from_le_bytes(addr);
    let key = FlowKey {
        mac_vlan: 1,
        addr: [wide as u64, (wide >> 64) as u64],
        rest: FlowKey::rest(u16::to_be(1), 58, Class::Ipv6, Direction::Rx, 2),
    };
    assert_eq!(key.ipv6(), addr);
    let coarse = key.coarse(0).widen();
    assert_eq!(coarse.ipv6()[..8], [0x24, 1, 2, 3, 4, 5, 0, 0]);
    assert_eq!(coarse.ipv6()[8..], [0; 8]);
    assert_eq!((coarse.class(), coarse.direction()), (Class::Ipv6, Direction::Rx));
}

#[test]
fn device_key_separates_the_halves() {
    let key = DeviceKey::new([1, 2, 3, 4, 5, 6], 1);
    assert_eq!((key.mac(), key.half()), ([1, 2, 3, 4, 5, 6], 1));
    assert_ne!(key, DeviceKey::new([1, 2, 3, 4, 5, 6], 0));
    // The kernel side forms it from a flow's key and the half.
    assert_eq!(
        key.mac_half,
        FlowKey { mac_vlan: key.mac_half, ..FlowKey::default() }.coarse(1).mac_half
    );
}

#[test]
fn the_largest_state_is_within_the_verifiers_reach() {
    let two = Geometry::max_slots(2).unwrap();
    assert_eq!(two, 1 << 20);
    for cpus in [1, 2, 60, 64, 1024] {
        let slots = Geometry::max_slots(cpus).unwrap();
        assert!(Geometry { cpus, slots }.state_bytes() <= MAX_STATE_BYTES);
        assert!(Geometry { cpus, slots: 2 * slots }.state_bytes() > MAX_STATE_BYTES);
    }
    assert_eq!(Geometry::max_slots(8192), None);
}

#[test]
fn the_parts_of_the_state_follow_one_another() {
    let geometry = Geometry { cpus: 3, slots: MIN_SLOTS };
    assert_eq!(geometry.stripes(), 6);
    assert_eq!((Geometry::stripe(0, 1), Geometry::stripe(2, 1)), (1, 5));
    assert_eq!(geometry.list_at(), 192 + 1024 * 64);
    assert_eq!(geometry.stripe_bytes(), 192 + 1024 * 68);
    assert_eq!(geometry.state_bytes(), 128 + 6 * geometry.stripe_bytes());
}

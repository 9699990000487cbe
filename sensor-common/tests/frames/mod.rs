//! Frames for tests, built layer by layer from the inside out.

/// The device in every frame built here.
pub(crate) const DEVICE: [u8; 6] = [0x64, 0x09, 0x80, 0x12, 0x34, 0x56];
/// The gateway's side of the link.
pub(crate) const GATEWAY: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The far IPv4 address.
pub(crate) const FAR_V4: [u8; 4] = [42, 62, 48, 9];
/// The device's IPv4 address.
pub(crate) const NEAR_V4: [u8; 4] = [192, 168, 1, 20];
/// The far IPv6 address.
pub(crate) const FAR_V6: [u8; 16] = [0x24, 0x0e, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
/// The device's IPv6 address.
pub(crate) const NEAR_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20];

pub(crate) const ETH_IPV4: u16 = 0x0800;
pub(crate) const ETH_IPV6: u16 = 0x86dd;

/// An upload: from the device to the gateway.
pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&GATEWAY[..], &DEVICE, &ethertype.to_be_bytes(), payload].concat()
}

/// The same frame in the other direction, MAC addresses only.
pub(crate) fn turned(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&DEVICE);
    frame[6..12].copy_from_slice(&GATEWAY);
    frame
}

/// What follows the EtherType `tpid`: tag control information, inner EtherType, payload.
pub(crate) fn vlan(tci: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&tci.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat()
}

/// PPPoE session header and PPP protocol number.
pub(crate) fn pppoe(ppp: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 2).unwrap();
    [&[0x11, 0, 0, 7][..], &len.to_be_bytes(), &ppp.to_be_bytes(), payload].concat()
}

/// A stack of MPLS labels, from 16 on.
pub(crate) fn mpls(labels: usize, payload: &[u8]) -> Vec<u8> {
    let entry = |index| {
        let label = u32::try_from(16 + index).unwrap() << 12;
        let bottom = u32::from(index + 1 == labels) << 8;
        (label | bottom | 64).to_be_bytes()
    };
    [(0..labels).flat_map(entry).collect(), payload.to_vec()].concat()
}

/// LLC and SNAP with Ethernet's OUI; the caller's EtherType field is the length.
pub(crate) fn snap(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xaa, 0xaa, 3, 0, 0, 0][..], &ethertype.to_be_bytes(), payload].concat()
}

/// IPv4 without options, an upload.
pub(crate) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, 0, &[], payload)
}

/// IPv4 with a fragment field and options (a multiple of four octets).
pub(crate) fn ipv4_with(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total = u16::try_from(header_len + payload.len()).unwrap();
    let mut header = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
    header.extend(total.to_be_bytes());
    header.extend([0, 1]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(NEAR_V4);
    header.extend(FAR_V4);
    header.extend(options);
    header.extend(payload);
    header
}

/// IPv6, an upload; `payload` begins with the extension headers, if any.
pub(crate) fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    header.extend([next_header, 64]);
    header.extend(NEAR_V6);
    header.extend(FAR_V6);
    header.extend(payload);
    header
}

/// An IPv6 extension header of `units` times eight octets (at least one).
pub(crate) fn extension(next_header: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; usize::from(units) * 8];
    header[0] = next_header;
    header[1] = units - 1;
    header.extend(payload);
    header
}

/// An IPv6 fragment header; `offset` in units of eight octets.
pub(crate) fn fragment(next_header: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let field = offset << 3 | u16::from(more);
    [&[next_header, 0][..], &field.to_be_bytes(), &[0, 0, 0, 9], payload].concat()
}

/// TCP from 40000 to 443, `words` times four octets of header.
pub(crate) fn tcp(words: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; usize::from(words) * 4];
    header[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
    header[12] = words << 4;
    header.extend(payload);
    header
}

/// UDP from 40000 to 53.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    [&[0x9c, 0x40, 0, 53][..], &len.to_be_bytes(), &[0, 0], payload].concat()
}

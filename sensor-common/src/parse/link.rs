//! From the Ethernet header to the IP header: VLAN tags, SNAP, PPPoE, MPLS.

use super::{
    Cut, Frame, MAX_MPLS_LABELS, MAX_VLAN_TAGS, Octets as _, Origin, Parsed, VLAN_TAG,
    ip::{IPV4_HEADER, IPV6_HEADER, min},
};
use crate::layout::{MAC_MASK, NonIp, Reason, VLAN_TAGGED};

/// EtherTypes below this are lengths of 802.3 frames (IEEE 802.3, 3.2.6).
const ETHERTYPE_MIN: u16 = 0x0600;
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_VLAN: u16 = 0x8100;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// A label stack (RFC 3032), which may also go to a group (RFC 5332).
const ETHERTYPE_MPLS: u16 = 0x8847;
const ETHERTYPE_MPLS_MULTICAST: u16 = 0x8848;
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;
const ETHERTYPE_EAPOL: u16 = 0x888e;
const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8;
const ETHERTYPE_LLDP: u16 = 0x88cc;
/// QinQ as built before 802.1ad.
const ETHERTYPE_OLD_QINQ: [u16; 2] = [0x9100, 0x9200];

/// LLC and SNAP header: DSAP, SSAP, control, OUI. An EtherType follows those of Ethernet (RFC 1042)
/// and of bridge tunnels (IEEE 802.1H), between which bridges from Wi-Fi choose by EtherType.
const SNAP: [u8; 4] = [0xaa, 0xaa, 0x03, 0];
const SNAP_ETHERNET: [u8; 2] = [0, 0];
const SNAP_BRIDGE_TUNNEL: [u8; 2] = [0, 0xf8];
const SNAP_HEADER: usize = 8;
/// PPPoE header (RFC 2516), and the PPP protocol number behind it.
const PPPOE_HEADER: usize = 6;
const PPP_PROTOCOL: usize = 2;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;
const PPP_MPLS: u16 = 0x0281;

/// An entry of a label stack (RFC 3032, 2.1), and the bit of its third octet that ends the stack.
const MPLS_LABEL: usize = 4;
const MPLS_BOTTOM: u8 = 1;

/// What an outer header carries.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    pub(super) ethertype: u16,
    pub(super) at: usize,
    /// Where it ends by the outer headers' lengths, at most the frame's: what follows is padding.
    pub(super) end: usize,
}

/// Follows VLAN tags, SNAP, PPPoE and MPLS to the IP header, or says the frame's final count where
/// there is none.
#[inline(always)]
pub(super) fn encapsulation<F: Frame>(
    frame: &F,
    origin: &mut Origin,
    outer: Inner,
) -> Result<Inner, Parsed> {
    let Inner { mut ethertype, mut at, mut end } = outer;
    let mut tags = 0;
    while is_vlan(ethertype) {
        if tags == MAX_VLAN_TAGS {
            return Err(origin.unparsed(Reason::VlanDepth));
        }
        let Some(tag) = frame.octets::<VLAN_TAG>(at) else {
            return Err(origin.unparsed(Reason::VlanTruncated));
        };
        if origin.mac_vlan & !MAC_MASK == 0 {
            let vlan = (u16::from_be(tag.u16(0)) & 0x0fff) | VLAN_TAGGED;
            origin.mac_vlan |= (vlan as u64) << 48;
        }
        ethertype = u16::from_be(tag.u16(2));
        at += VLAN_TAG;
        tags += 1;
    }
    at = frame.opaque(at);
    if ethertype < ETHERTYPE_MIN {
        match snap(frame, at) {
            Ok(Some(inner)) => {
                end = min(end, at + ethertype as usize);
                ethertype = inner;
                at += SNAP_HEADER;
            }
            Ok(None) => return Err(origin.non_ip(NonIp::Other, false)),
            Err(Cut) => return Err(origin.non_ip(NonIp::Other, true)),
        }
    }
    if ethertype == ETHERTYPE_PPPOE_SESSION {
        let Some(pppoe) = frame.octets::<{ PPPOE_HEADER + PPP_PROTOCOL }>(at) else {
            return Err(origin.unparsed(Reason::PppoeTruncated));
        };
        at += PPPOE_HEADER;
        end = min(end, at + u16::from_be(pppoe.u16(4)) as usize);
        // The first octet of two is even; an odd one is a number compressed to it (RFC 1661, 2).
        let number = if pppoe.u8(6) & 1 == 0 {
            at += PPP_PROTOCOL;
            u16::from_be(pppoe.u16(6))
        } else {
            at += 1;
            pppoe.u8(6) as u16
        };
        ethertype = match number {
            PPP_IPV4 => ETHERTYPE_IPV4,
            PPP_IPV6 => ETHERTYPE_IPV6,
            PPP_MPLS => ETHERTYPE_MPLS,
            _ => return Err(origin.non_ip(NonIp::Other, false)),
        };
    }
    (at, end) = (frame.opaque(at), frame.opaque(end));
    if ethertype == ETHERTYPE_MPLS || ethertype == ETHERTYPE_MPLS_MULTICAST {
        match mpls(frame, at) {
            Ok(Some(inner)) => (ethertype, at) = inner,
            Ok(None) => return Err(origin.non_ip(NonIp::Other, false)),
            Err(Cut) => return Err(origin.non_ip(NonIp::Other, true)),
        }
        at = frame.opaque(at);
    }
    match ethertype {
        // What lies in the padding is no header.
        ETHERTYPE_IPV4 if at + IPV4_HEADER > end => Err(origin.unparsed(Reason::Ipv4Truncated)),
        ETHERTYPE_IPV6 if at + IPV6_HEADER > end => Err(origin.unparsed(Reason::Ipv6Truncated)),
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(Inner { ethertype, at, end }),
        ETHERTYPE_ARP => Err(origin.non_ip(NonIp::Arp, false)),
        ETHERTYPE_LLDP => Err(origin.non_ip(NonIp::Lldp, false)),
        ETHERTYPE_EAPOL => Err(origin.non_ip(NonIp::Eapol, false)),
        _ => Err(origin.non_ip(NonIp::Other, false)),
    }
}

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN
        || ethertype == ETHERTYPE_PROVIDER_VLAN
        || ethertype == ETHERTYPE_OLD_QINQ[0]
        || ethertype == ETHERTYPE_OLD_QINQ[1]
}

/// EtherType behind an LLC/SNAP header that has one; `None` for other LLC frames.
#[inline(always)]
fn snap<F: Frame>(frame: &F, at: usize) -> Result<Option<u16>, Cut> {
    let Some(llc) = frame.octets::<SNAP_HEADER>(at) else { return Err(Cut) };
    let oui = llc.u16(4);
    if llc.u32(0) == u32::from_ne_bytes(SNAP)
        && (oui == u16::from_ne_bytes(SNAP_ETHERNET)
            || oui == u16::from_ne_bytes(SNAP_BRIDGE_TUNNEL))
    {
        Ok(Some(u16::from_be(llc.u16(6))))
    } else {
        Ok(None)
    }
}

/// EtherType and offset of the IP header behind an MPLS label stack; `None` for other payloads and
/// for stacks deeper than [`MAX_MPLS_LABELS`].
///
/// The stack does not name its payload. As in routers, the first four bits decide (RFC 4928, 2):
/// they are the IP version, and a pseudowire begins with zero unless it has no control word.
#[inline(always)]
fn mpls<F: Frame>(frame: &F, mut at: usize) -> Result<Option<(u16, usize)>, Cut> {
    let mut labels = 0;
    while labels < MAX_MPLS_LABELS {
        // With one octet of what follows the label.
        let Some(label) = frame.octets::<{ MPLS_LABEL + 1 }>(at) else { return Err(Cut) };
        at += MPLS_LABEL;
        labels += 1;
        if label.u8(2) & MPLS_BOTTOM != 0 {
            return Ok(match label.u8(MPLS_LABEL) >> 4 {
                4 => Some((ETHERTYPE_IPV4, at)),
                6 => Some((ETHERTYPE_IPV6, at)),
                _ => None,
            });
        }
    }
    Ok(None)
}

//! From the Ethernet header to the IP header: VLAN tags, SNAP, PPPoE, MPLS.

use super::{
    Cut, Frame, MAX_MPLS_LABELS, MAX_PRIORITY_TAGS, MAX_VLAN_TAGS, Octets as _, Origin, Parsed,
    VLAN_TAG,
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
pub(super) const ETHERTYPE_MPLS: u16 = 0x8847;
pub(super) const ETHERTYPE_MPLS_MULTICAST: u16 = 0x8848;
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
pub(super) const MPLS_LABEL: usize = 4;
pub(super) const MPLS_BOTTOM: u8 = 1;

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
    while is_vlan(ethertype) && tags < MAX_VLAN_TAGS {
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
    if is_vlan(ethertype) {
        let stack = frame.behind_tags(TagStack::new(outer.ethertype, outer.at));
        if stack.is_cut() {
            return Err(origin.unparsed(Reason::VlanTruncated));
        }
        (ethertype, at) = (stack.ethertype, frame.opaque(stack.at()));
        if is_vlan(ethertype) {
            return Err(origin.unparsed(Reason::VlanDepth));
        }
    }
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
pub(super) const fn is_vlan(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN
        || ethertype == ETHERTYPE_PROVIDER_VLAN
        || ethertype == ETHERTYPE_OLD_QINQ[0]
        || ethertype == ETHERTYPE_OLD_QINQ[1]
}

/// A stack of VLAN tags that is longer than most, while it is followed from the first one on.
///
/// Linux takes off any number of priority tags (VLAN 0), in bridges as in routers, so they hide nothing here;
/// of other tags it takes off those that somebody has configured.
#[derive(Debug, Clone, Copy)]
pub struct TagStack {
    /// Offset of the next header; no frame's headers reach further than 64 KiB.
    at: u16,
    /// Of the next header.
    ethertype: u16,
    tags: u16,
    /// Those of them that are no priority tags.
    vlans: u8,
    cut: bool,
}

impl TagStack {
    /// The stack from `at` on, behind an EtherType.
    #[inline(always)]
    pub const fn new(ethertype: u16, at: usize) -> Self {
        Self { at: at as u16, ethertype, tags: 0, vlans: 0, cut: false }
    }

    /// All of it in a register: offset, EtherType, counts of tags, and whether one is cut off.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        let counts = (self.tags as u64) << 32 | (self.vlans as u64) << 48;
        self.at as u64 | (self.ethertype as u64) << 16 | counts | (self.cut as u64) << 56
    }

    /// The reverse of [`TagStack::to_word`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            at: word as u16,
            ethertype: (word >> 16) as u16,
            tags: (word >> 32) as u16,
            vlans: (word >> 48) as u8,
            cut: word >> 56 != 0,
        }
    }

    /// Offset of the next header.
    #[inline(always)]
    pub const fn at(&self) -> usize {
        self.at as usize
    }

    /// Whether a tag was cut off.
    #[inline(always)]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Takes the next four octets, as they lie in memory, for the next tag. Says whether there may be one
    /// more: not behind the last one, nor where there are too many or the frame is cut off.
    #[inline(always)]
    pub const fn step(&mut self, tag: Option<u32>) -> bool {
        let Some(tag) = tag else {
            self.cut = true;
            return false;
        };
        let [a, b, c, d] = tag.to_ne_bytes();
        let is_priority = u16::from_be_bytes([a, b]) & 0x0fff == 0
            && (self.ethertype == ETHERTYPE_VLAN || self.ethertype == ETHERTYPE_PROVIDER_VLAN);
        if !is_priority {
            if self.vlans as usize >= MAX_VLAN_TAGS {
                return false;
            }
            self.vlans += 1;
        }
        self.ethertype = u16::from_be_bytes([c, d]);
        self.at = self.at.wrapping_add(VLAN_TAG as u16);
        self.tags = self.tags.wrapping_add(1);
        is_vlan(self.ethertype) && (self.tags as usize) < MAX_PRIORITY_TAGS
    }
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

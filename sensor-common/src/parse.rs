//! The frame parser: from an Ethernet header to a flow's key.
//!
//! Written once over [`Frame`], a bounded read, so that the very same code runs in the kernel, in
//! host tests and over captures. It moves one cursor; each step asks for the octets it needs,
//! reads them, and says what comes next. Each limit is a named constant.
//!
//! A sound IP header is enough to attribute a packet: an unreadable transport header costs the
//! port, not the packet. Only what has no usable address is [`Reason`]ed away, and even that is
//! counted for its device.

use crate::layout::{Class, Direction, FlowKey, MAC_MASK, NonIp, Reason, VLAN_TAGGED};

/// Most VLAN tags that are followed: single tags, QinQ, and deeper stacks of labs and carriers.
pub const MAX_VLAN_TAGS: usize = 8;

/// Most MPLS labels that are followed; networks use two to five.
pub const MAX_MPLS_LABELS: usize = 8;

/// Most IPv6 extension headers that are followed (RFC 8200 names each at most once, bar one).
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Length of the Ethernet header in octets.
pub const ETHERNET_HEADER: usize = 14;
/// Length of a VLAN tag in octets.
pub const VLAN_TAG: usize = 4;

/// EtherTypes below this are lengths of 802.3 frames (IEEE 802.3, 3.2.6).
const ETHERTYPE_MIN: u16 = 0x0600;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;
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

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const EXTENSION_HEADER: usize = 8;

const IP_HOP_BY_HOP: u8 = 0;
const IP_ICMP: u8 = 1;
const IP_TCP: u8 = 6;
const IP_UDP: u8 = 17;
const IP_DCCP: u8 = 33;
const IP_ROUTING: u8 = 43;
const IP_FRAGMENT: u8 = 44;
const IP_AUTHENTICATION: u8 = 51;
const IP_ICMPV6: u8 = 58;
const IP_DESTINATION_OPTIONS: u8 = 60;
const IP_SCTP: u8 = 132;
const IP_MOBILITY: u8 = 135;
const IP_UDP_LITE: u8 = 136;
const IP_HIP: u8 = 139;
const IP_SHIM6: u8 = 140;

const TCP_HEADER: usize = 20;

/// A frame that can be read within its bounds.
pub trait Frame {
    /// Octets that were found to be there.
    type Octets: Octets;

    /// Octets of the whole frame on the wire, which may be more than can be read.
    fn wire_len(&self) -> usize;

    /// The same value, as one about which nothing is known. The kernel's verifier walks what follows
    /// once for each value that it can tell apart; here it is made to walk it once for all.
    #[inline(always)]
    fn opaque(&self, value: usize) -> usize {
        value
    }

    /// The `LEN` octets from `offset`, or `None` where they are not all there.
    fn octets<const LEN: usize>(&self, offset: usize) -> Option<Self::Octets>;
}

/// Reads at constant offsets, in the machine's byte order, inside what [`Frame::octets`] granted.
pub trait Octets: Copy {
    /// One octet.
    fn u8(self, at: usize) -> u8;
    /// Two octets, as they lie in memory.
    fn u16(self, at: usize) -> u16;
    /// Four octets, as they lie in memory.
    fn u32(self, at: usize) -> u32;
    /// Eight octets, as they lie in memory.
    fn u64(self, at: usize) -> u64;
}

/// A frame in memory, possibly cut by a capture's snap length.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// What was captured.
    pub octets: &'a [u8],
    /// Octets on the wire.
    pub wire_len: usize,
}

impl<'a> Frame for Captured<'a> {
    type Octets = &'a [u8];

    fn wire_len(&self) -> usize {
        self.wire_len
    }

    fn octets<const LEN: usize>(&self, offset: usize) -> Option<&'a [u8]> {
        self.octets.get(offset..offset.checked_add(LEN)?)
    }
}

impl Octets for &[u8] {
    fn u8(self, at: usize) -> u8 {
        self[at]
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_ne_bytes([self[at], self[at + 1]])
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_ne_bytes([self[at], self[at + 1], self[at + 2], self[at + 3]])
    }

    fn u64(self, at: usize) -> u64 {
        let low = u64::from(Octets::u32(self, at));
        let high = u64::from(Octets::u32(self, at + 4));
        low | high << 32
    }
}

/// What is known about a frame besides its octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Index of the interface.
    pub ifindex: u32,
    /// VLAN tag control information that the NIC or the kernel took out of the frame; such a tag
    /// was the outermost.
    pub vlan_tci: Option<u16>,
}

/// What the parser found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Where to count the frame.
    pub key: FlowKey,
    /// Octets after the transport header by the IP length, at most what the frame has.
    pub payload: u32,
    /// Octets from the start of the Ethernet header to the end of the transport header: what each
    /// segment of a super-packet has of its own.
    pub headers: u32,
    /// Some header could not be read; where not all of the frame was at hand, a second look with
    /// another [`Frame`] may find more.
    pub cut: bool,
}

/// Parses a frame. Total: whatever the octets are, there is a key to count them under.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, direction: Direction, link: Link) -> Parsed {
    let Some(ethernet) = frame.octets::<ETHERNET_HEADER>(0) else {
        return Origin { mac_vlan: 0, direction, link }.unparsed(Reason::Runt);
    };
    let mut origin = Origin::of(ethernet, direction, link);
    let ethertype = u16::from_be(ethernet.u16(12));
    let mut ip = Inner { ethertype, at: ETHERNET_HEADER, end: frame.wire_len() };
    if ethertype != ETHERTYPE_IPV4 && ethertype != ETHERTYPE_IPV6 {
        match encapsulation(frame, &mut origin, ip) {
            Ok(inner) => ip = inner,
            Err(parsed) => return parsed,
        }
    }
    if ip.ethertype == ETHERTYPE_IPV4 {
        match ipv4(frame, origin, ip.at) {
            Ok(packet) => packet.within(ip.end).transport(frame, origin),
            Err(reason) => origin.unparsed(reason),
        }
    } else {
        match ipv6(frame, origin, ip.at) {
            Ok(packet) => packet.within(ip.end).behind_extensions(frame, origin),
            Err(reason) => origin.unparsed(reason),
        }
    }
}

/// What [`parse`] says of a frame as most are: IPv4 right behind the Ethernet header, whole and
/// sound. `None` for all others.
///
/// Constant offsets and few branches: less than half the instructions of `parse`.
#[inline(always)]
pub fn parse_plain_ipv4<F: Frame>(frame: &F, direction: Direction, link: Link) -> Option<Parsed> {
    let ethernet = frame.octets::<ETHERNET_HEADER>(0)?;
    if ethernet.u16(12) != ETHERTYPE_IPV4.to_be() {
        return None;
    }
    let origin = Origin::of(ethernet, direction, link);
    ipv4(frame, origin, ETHERNET_HEADER).ok()?.plain(frame, origin)
}

/// As [`parse_plain_ipv4`], of IPv6 without extension headers. Two functions, because the families
/// share no value that a register could keep.
#[inline(always)]
pub fn parse_plain_ipv6<F: Frame>(frame: &F, direction: Direction, link: Link) -> Option<Parsed> {
    let ethernet = frame.octets::<ETHERNET_HEADER>(0)?;
    if ethernet.u16(12) != ETHERTYPE_IPV6.to_be() {
        return None;
    }
    let origin = Origin::of(ethernet, direction, link);
    let packet = ipv6(frame, origin, ETHERNET_HEADER).ok()?;
    if is_extension(packet.upper.protocol) { None } else { packet.plain(frame, origin) }
}

/// Whose frame it is, and whence.
#[derive(Clone, Copy)]
struct Origin {
    mac_vlan: u64,
    direction: Direction,
    link: Link,
}

impl Origin {
    /// The device is the sender of an upload and the receiver of a download.
    #[inline(always)]
    fn of<O: Octets>(ethernet: O, direction: Direction, link: Link) -> Self {
        // Two octets more than the MAC address are read with it and masked away.
        let mac = match direction {
            Direction::Tx => ethernet.u64(6),
            Direction::Rx => ethernet.u64(0),
        } & MAC_MASK;
        let vlan = match link.vlan_tci {
            Some(tci) => (tci & 0x0fff) | VLAN_TAGGED,
            None => 0,
        };
        Self { mac_vlan: mac | (vlan as u64) << 48, direction, link }
    }

    #[inline(always)]
    fn key(self, class: Class, protocol: u8, port: u16, addr: [u64; 2]) -> FlowKey {
        let rest = FlowKey::rest(port, protocol, class, self.direction, self.link.ifindex);
        FlowKey { mac_vlan: self.mac_vlan, addr, rest }
    }

    #[inline(always)]
    fn unparsed(self, reason: Reason) -> Parsed {
        let key = self.key(Class::Unparsed, reason as u8, 0, [0; 2]);
        Parsed { key, payload: 0, headers: ETHERNET_HEADER as u32, cut: true }
    }

    #[inline(always)]
    fn non_ip(self, kind: NonIp, cut: bool) -> Parsed {
        let key = self.key(Class::NonIp, kind as u8, 0, [0; 2]);
        Parsed { key, payload: 0, headers: ETHERNET_HEADER as u32, cut }
    }

    /// The far address of an upload is the destination, of a download the source.
    #[inline(always)]
    const fn far(self, source: usize, destination: usize) -> usize {
        match self.direction {
            Direction::Tx => destination,
            Direction::Rx => source,
        }
    }
}

/// What an outer header carries.
#[derive(Clone, Copy)]
struct Inner {
    ethertype: u16,
    at: usize,
    /// Where it ends by the outer headers' lengths, at most the frame's: what follows is padding.
    end: usize,
}

/// Follows VLAN tags, SNAP, PPPoE and MPLS to the IP header, or says the frame's final count where
/// there is none.
#[inline(always)]
fn encapsulation<F: Frame>(frame: &F, origin: &mut Origin, outer: Inner) -> Result<Inner, Parsed> {
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

/// A header lies beyond what can be read.
struct Cut;

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

/// A packet whose IP header is sound.
#[derive(Clone, Copy)]
struct Packet {
    class: Class,
    /// The far address.
    addr: [u64; 2],
    upper: Upper,
}

/// What lies behind the IP header.
#[derive(Clone, Copy)]
struct Upper {
    protocol: u8,
    at: usize,
    /// Octets from `at` on by the IP length, or [`REST_OF_FRAME`].
    len: usize,
    /// Not a later fragment.
    first: bool,
}

/// The IP header gives no length: more than any frame has.
const REST_OF_FRAME: usize = 1 << 30;

/// IPv4 (RFC 791) from `at`.
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, origin: Origin, at: usize) -> Result<Packet, Reason> {
    let header = frame.octets::<IPV4_HEADER>(at).ok_or(Reason::Ipv4Truncated)?;
    let version_ihl = header.u8(0);
    if version_ihl >> 4 != 4 {
        return Err(Reason::Ipv4Version);
    }
    let header_len = (version_ihl & 0x0f) as usize * 4;
    if header_len < IPV4_HEADER {
        return Err(Reason::Ipv4HeaderLength);
    }
    let total_len = u16::from_be(header.u16(2)) as usize;
    // Zero is how super-packets above 64 KiB say that the frame's own length counts.
    if total_len != 0 && total_len < header_len {
        return Err(Reason::Ipv4TotalLength);
    }
    let payload_at = at + header_len;
    let len = if total_len == 0 { REST_OF_FRAME } else { total_len - header_len };
    let addr = [header.u32(origin.far(12, 16)) as u64, 0];
    let first = u16::from_be(header.u16(6)) & 0x1fff == 0;
    let upper = Upper { protocol: header.u8(9), at: payload_at, len, first };
    Ok(Packet { class: Class::Ipv4, addr, upper })
}

/// The fixed IPv6 header (RFC 8200) from `at`.
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, origin: Origin, at: usize) -> Result<Packet, Reason> {
    let header = frame.octets::<IPV6_HEADER>(at).ok_or(Reason::Ipv6Truncated)?;
    if header.u8(0) >> 4 != 6 {
        return Err(Reason::Ipv6Version);
    }
    let far = origin.far(8, 24);
    let addr = [header.u64(far), header.u64(far + 8)];
    let payload_at = at + IPV6_HEADER;
    let payload_len = u16::from_be(header.u16(4)) as usize;
    // Zero: a jumbogram (RFC 2675) or a super-packet above 64 KiB.
    let len = if payload_len == 0 { REST_OF_FRAME } else { payload_len };
    let upper = Upper { protocol: header.u8(6), at: payload_at, len, first: true };
    Ok(Packet { class: Class::Ipv6, addr, upper })
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        IP_HOP_BY_HOP
            | IP_ROUTING
            | IP_FRAGMENT
            | IP_AUTHENTICATION
            | IP_DESTINATION_OPTIONS
            | IP_MOBILITY
            | IP_HIP
            | IP_SHIM6
    )
}

/// Moves `upper` behind the extension headers; past [`MAX_EXTENSION_HEADERS`], or where one is cut
/// off, it stays at that header, whose number then is the protocol.
#[inline(always)]
fn extension_headers<F: Frame>(frame: &F, upper: &mut Upper) -> Result<(), Cut> {
    let mut headers = 0;
    while headers < MAX_EXTENSION_HEADERS && is_extension(upper.protocol) && upper.first {
        let Some(header) = frame.octets::<EXTENSION_HEADER>(upper.at) else { return Err(Cut) };
        let units = header.u8(1) as usize;
        let len = match upper.protocol {
            IP_FRAGMENT => {
                upper.first = u16::from_be(header.u16(2)) & 0xfff8 == 0;
                EXTENSION_HEADER
            }
            // RFC 4302: in units of four octets, minus two.
            IP_AUTHENTICATION => (units + 2) * 4,
            // RFC 8200: in units of eight octets, the first not counted.
            _ => (units + 1) * 8,
        };
        upper.protocol = header.u8(0);
        upper.at = frame.opaque(upper.at + len);
        upper.len = frame.opaque(excess(upper.len, len));
        headers += 1;
    }
    Ok(())
}

impl Packet {
    /// Bounds the IP length by the end of what carries the packet.
    #[inline(always)]
    fn within(mut self, end: usize) -> Self {
        self.upper.len = min(self.upper.len, excess(end, self.upper.at));
        self
    }

    /// The packet, if it is whole.
    #[inline(always)]
    fn plain<F: Frame>(self, frame: &F, origin: Origin) -> Option<Parsed> {
        if self.upper.at + self.upper.len > frame.wire_len() {
            return None;
        }
        let parsed = self.transport(frame, origin);
        if parsed.cut { None } else { Some(parsed) }
    }

    /// As [`Packet::transport`], behind IPv6's extension headers.
    #[inline(always)]
    fn behind_extensions<F: Frame>(mut self, frame: &F, origin: Origin) -> Parsed {
        let cut = extension_headers(frame, &mut self.upper).is_err();
        let mut parsed = self.transport(frame, origin);
        parsed.cut |= cut;
        parsed
    }

    /// Ports and the length of the transport header.
    #[inline(always)]
    fn transport<F: Frame>(self, frame: &F, origin: Origin) -> Parsed {
        let Self { class, addr, upper } = self;
        let mut port = 0;
        let mut cut = false;
        let mut header_len = 0;
        if upper.first {
            let far_port = origin.far(0, 2);
            match upper.protocol {
                // Padding behind the IP packet is no header of it: the IP length decides first.
                IP_TCP => {
                    header_len = TCP_HEADER;
                    if upper.len < TCP_HEADER {
                    } else if let Some(tcp) = frame.octets::<TCP_HEADER>(upper.at) {
                        port = u16::from_be(tcp.u16(far_port));
                        let data_offset = (tcp.u8(12) >> 4) as usize * 4;
                        if data_offset > header_len {
                            header_len = data_offset;
                        }
                    } else {
                        cut = true;
                    }
                }
                IP_UDP | IP_UDP_LITE | IP_SCTP | IP_DCCP => {
                    header_len = match upper.protocol {
                        IP_UDP | IP_UDP_LITE => 8,
                        _ => 12,
                    };
                    if upper.len < 4 {
                    } else if let Some(ports) = frame.octets::<4>(upper.at) {
                        port = u16::from_be(ports.u16(far_port));
                    } else {
                        cut = true;
                    }
                }
                IP_ICMP | IP_ICMPV6 => header_len = 8,
                _ => {}
            }
        }
        Parsed {
            key: origin.key(class, upper.protocol, port, addr),
            payload: excess(upper.len, header_len) as u32,
            headers: (upper.at + header_len) as u32,
            cut,
        }
    }
}

/// `a - b`, or 0 where that is negative. Both are lengths within a frame. (The compiler makes twice
/// the instructions of `saturating_sub` on the programs' target.)
#[inline(always)]
const fn excess(a: usize, b: usize) -> usize {
    let difference = a.cast_signed() - b.cast_signed();
    if difference > 0 { difference.cast_unsigned() } else { 0 }
}

#[inline(always)]
const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

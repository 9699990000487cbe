//! What a driver does and can do: ethtool's features and XDP support, and which interfaces are
//! wireless. All by generic netlink, which knows the network namespace.

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NlaBuffer, NlasIterator, ParseableParametrized,
};
use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::netlink::{Extent, ask, invalid};

/// What is known of an interface's driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Driver {
    /// Features that are on, as `ethtool -k` names them.
    pub active: Vec<String>,
    /// What it says of XDP; `None` where the kernel does not tell (before 6.3).
    pub xdp: Option<XdpSupport>,
}

/// A driver's word on XDP (`NETDEV_XDP_ACT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpSupport {
    /// It runs programs.
    pub native: bool,
    /// Also where a frame lies in several buffers, as jumbo frames do.
    pub fragments: bool,
}

impl Driver {
    /// Whether a feature is on.
    pub fn has(&self, feature: &str) -> bool {
        self.active.iter().any(|active| active == feature)
    }
}

/// What the kernel says of an interface's driver; what it does not say is left open.
pub fn driver(index: u32) -> Driver {
    Driver { active: active_features(index).unwrap_or_default(), xdp: xdp_support(index).ok() }
}

/// Linux, `Documentation/netlink/specs/ethtool.yaml`.
mod ethtool {
    pub(super) const FEATURES_GET: u8 = 11;
    pub(super) const HEADER: u16 = 1;
    pub(super) const HEADER_DEV_INDEX: u16 = 1;
    pub(super) const FEATURES_ACTIVE: u16 = 4;
    pub(super) const BITSET_BITS: u16 = 3;
    pub(super) const BIT_NAME: u16 = 2;
}

/// Linux, `Documentation/netlink/specs/netdev.yaml`.
mod netdev {
    pub(super) const DEV_GET: u8 = 1;
    pub(super) const IFINDEX: u16 = 1;
    pub(super) const XDP_FEATURES: u16 = 3;
    pub(super) const XDP_ACT_BASIC: u64 = 1;
    pub(super) const XDP_ACT_RX_SG: u64 = 32;
}

/// `linux/nl80211.h`.
mod nl80211 {
    pub(super) const GET_INTERFACE: u8 = 5;
    pub(super) const IFINDEX: u16 = 3;
}

fn active_features(index: u32) -> io::Result<Vec<String>> {
    let device = attribute(ethtool::HEADER_DEV_INDEX, &index.to_ne_bytes());
    let mut nested = vec![0; device.buffer_len()];
    device.emit(&mut nested);
    let header = attribute(ethtool::HEADER | NLA_F_NESTED, &nested);
    let answers = ask_family("ethtool", ethtool::FEATURES_GET, &[header], Extent::One)?;
    let mut names = Vec::new();
    for answer in &answers {
        names.extend(feature_names(answer).map_err(invalid)?);
    }
    Ok(names)
}

/// The names in the bit set of active features, which lists the bits that are set.
fn feature_names(attributes: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut names = Vec::new();
    let active = find(attributes, ethtool::FEATURES_ACTIVE)?.unwrap_or_default();
    let bits = find(&active, ethtool::BITSET_BITS)?.unwrap_or_default();
    for bit in NlasIterator::new(&bits[..]) {
        if let Some(name) = find(bit?.value(), ethtool::BIT_NAME)? {
            let name = name.strip_suffix(&[0]).unwrap_or(&name);
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

fn xdp_support(index: u32) -> io::Result<XdpSupport> {
    let interface = attribute(netdev::IFINDEX, &index.to_ne_bytes());
    let answers = ask_family("netdev", netdev::DEV_GET, &[interface], Extent::One)?;
    let features = answers.iter().find_map(|answer| {
        let value = find(answer, netdev::XDP_FEATURES).ok()??;
        Some(u64::from_ne_bytes(value.try_into().ok()?))
    });
    let features = features.ok_or_else(|| invalid("no XDP features in the kernel's answer"))?;
    Ok(XdpSupport {
        native: features & netdev::XDP_ACT_BASIC != 0,
        fragments: features & netdev::XDP_ACT_RX_SG != 0,
    })
}

/// Indexes of the wireless interfaces; none where the kernel knows no wireless networks.
pub(super) fn wireless() -> Vec<u32> {
    let answers = ask_family("nl80211", nl80211::GET_INTERFACE, &[], Extent::All);
    let index = |answer: &Vec<u8>| {
        let value = find(answer, nl80211::IFINDEX).ok()??;
        Some(u32::from_ne_bytes(value.try_into().ok()?))
    };
    answers.unwrap_or_default().iter().filter_map(index).collect()
}

pub(super) fn attribute(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

/// The value of the first attribute of a type.
pub(super) fn find(attributes: &[u8], kind: u16) -> Result<Option<Vec<u8>>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute: NlaBuffer<&[u8]> = attribute?;
        if attribute.kind() == kind {
            return Ok(Some(attribute.value().to_vec()));
        }
    }
    Ok(None)
}

/// Asks a family of generic netlink; each answer is its attributes as they lie.
fn ask_family(
    family: &str,
    command: u8,
    attributes: &[DefaultNla],
    extent: Extent,
) -> io::Result<Vec<Vec<u8>>> {
    let id = family_id(family)?;
    let header = GenlHeader { cmd: command, version: 1 };
    let mut octets = vec![0; attributes.buffer_len()];
    attributes.emit(&mut octets);
    let question = GenlMessage::new(header, Attributes { command, octets }, id);
    let mut answers = Vec::new();
    ask(NETLINK_GENERIC, question, extent, |answer| answers.push(answer.payload.octets))?;
    Ok(answers)
}

/// The number that the kernel gave a family.
fn family_id(name: &str) -> io::Result<u16> {
    let question = GenlMessage::from_payload(GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())],
    });
    let mut number = None;
    ask(NETLINK_GENERIC, question, Extent::One, |answer: GenlMessage<GenlCtrl>| {
        number = answer.payload.nlas.iter().find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(*id),
            _ => None,
        });
    })?;
    number.ok_or_else(|| invalid("no number in the kernel's answer"))
}

/// A message of any family, its attributes not taken apart.
#[derive(Debug, Clone)]
struct Attributes {
    command: u8,
    octets: Vec<u8>,
}

impl GenlFamily for Attributes {
    fn family_name() -> &'static str {
        // Each message carries the number of its family.
        ""
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Attributes {
    fn buffer_len(&self) -> usize {
        self.octets.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..self.octets.len()].copy_from_slice(&self.octets);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Attributes {
    fn parse_with_param(octets: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self { command: header.cmd, octets: octets.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(kind: u16, parts: &[DefaultNla]) -> DefaultNla {
        let mut octets = vec![0; parts.buffer_len()];
        parts.emit(&mut octets);
        attribute(kind, &octets)
    }

    #[test]
    fn names_of_the_features_that_are_on() {
        let bit = |name: &[u8]| {
            let index = attribute(1, &7_u32.to_ne_bytes());
            nested(1, &[index, attribute(ethtool::BIT_NAME, name)])
        };
        let bits = nested(ethtool::BITSET_BITS, &[bit(b"rx-lro\0"), bit(b"hw-tc-offload\0")]);
        let active = nested(ethtool::FEATURES_ACTIVE, &[attribute(2, &[0; 4]), bits]);
        // The ones that could be switched on come before.
        let wanted = nested(3, &[nested(ethtool::BITSET_BITS, &[bit(b"rx-fcs\0")])]);
        let answer = nested(0, &[wanted, active]);
        assert_eq!(feature_names(&answer_value(&answer)).unwrap(), ["rx-lro", "hw-tc-offload"]);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_refused() {
        let active = nested(ethtool::FEATURES_ACTIVE, &[attribute(2, &[0; 40])]);
        let octets = answer_value(&nested(0, &[active]));
        assert!(feature_names(&octets[..20]).is_err());
        assert_eq!(feature_names(&[]).unwrap(), Vec::<String>::new());
    }

    fn answer_value(answer: &DefaultNla) -> Vec<u8> {
        let mut octets = vec![0; answer.buffer_len()];
        answer.emit(&mut octets);
        octets[4..].to_vec()
    }
}

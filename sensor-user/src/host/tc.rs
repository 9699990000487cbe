//! What sits at an interface's TC hooks, in the kernel's own words: its ingress qdisc, and the filters.
//!
//! A filter's attributes mean something only beside its kind: what is the name of a program in a BPF filter is a
//! mask in a `flower` one. So options are read of BPF filters alone, and everything else is named and left alone.

use std::{fmt, io};

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NetlinkDeserializable, NetlinkHeader,
    NetlinkSerializable,
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{
    features::{attribute, find},
    netlink::{Extent, ask},
};

/// `linux/pkt_sched.h`: the parent of the `ingress` and `clsact` qdiscs, of which an interface has one at most.
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// Their handle, whose lower half names the hook.
const TC_H_CLSACT: u32 = 0xffff_0000;
/// `linux/if_ether.h`, in the order of the wire, as filters carry it.
const ETH_P_ALL: u16 = 3_u16.to_be();

/// `linux/rtnetlink.h`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const CHAIN: u16 = 11;
/// `linux/pkt_cls.h`, of the kind `bpf`.
const BPF_NAME: u16 = 7;
const BPF_ID: u16 = 11;
/// The kind of filters that are BPF programs.
const BPF: &str = "bpf";

/// A TC hook of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcHook {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl TcHook {
    /// The word in messages, as `tc filter` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// `TC_H_MIN_INGRESS` and `TC_H_MIN_EGRESS` of the qdisc.
    const fn parent(self) -> u32 {
        TC_H_CLSACT
            | match self {
                Self::Ingress => 0xfff2,
                Self::Egress => 0xfff3,
            }
    }
}

/// A filter at a TC hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcFilter {
    /// Its kind: `bpf`, `u32`, `flower`, ...; control characters left out.
    pub kind: String,
    /// Filters run by rising priority.
    pub priority: u16,
    /// Its number among those of its kind and priority.
    pub handle: u32,
    /// What a BPF filter runs; `None` for other kinds.
    pub program: Option<FilterProgram>,
}

/// The program of a BPF filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterProgram {
    /// The name that the filter was given; control characters left out.
    pub name: String,
    /// The kernel's number of the program; 0 where it names none.
    pub id: u32,
}

/// `the u32 filter of priority 10`, ``the bpf filter `x` of priority 1``
impl fmt::Display for TcFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} filter ", self.kind)?;
        if let Some(program) = self.program.as_ref().filter(|program| !program.name.is_empty()) {
            write!(f, "`{}` ", program.name)?;
        }
        write!(f, "of priority {}", self.priority)
    }
}

/// Kind of the qdisc that an interface's TC filters hang on, `ingress` or `clsact`; `None` where it has neither.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn ingress_qdisc(ifindex: u32) -> io::Result<Option<String>> {
    let mut kind = None;
    // The kernel lists those of all interfaces.
    let question = Message::new(libc::RTM_GETQDISC, ifindex, TC_H_INGRESS);
    ask(NETLINK_ROUTE, question, Extent::All, |answer: Message| {
        if (answer.ifindex, answer.parent) == (ifindex, TC_H_INGRESS) {
            kind = answer.text(KIND);
        }
    })?;
    Ok(kind)
}

/// The filters at a hook that every packet comes to (those of chain 0), in the order in which they run; none where
/// the interface has no qdisc for them.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn filters(ifindex: u32, hook: TcHook) -> io::Result<Vec<TcFilter>> {
    let mut filters = Vec::new();
    let question = Message::new(libc::RTM_GETTFILTER, ifindex, hook.parent());
    ask(NETLINK_ROUTE, question, Extent::All, |answer: Message| filters.extend(filter(&answer)))?;
    Ok(filters)
}

/// Removes a BPF filter for all protocols.
///
/// # Errors
///
/// When it is not there, or the kernel refuses.
pub fn remove_bpf_filter(ifindex: u32, hook: TcHook, priority: u16, handle: u32) -> io::Result<()> {
    let mut question = Message::new(libc::RTM_DELTFILTER, ifindex, hook.parent());
    question.handle = handle;
    question.info = u32::from(priority) << 16 | u32::from(ETH_P_ALL);
    question.attributes = octets(&[attribute(KIND, b"bpf\0")]);
    ask(NETLINK_ROUTE, question, Extent::One, |_: Message| {})
}

/// `None` for an entry that only announces the filters of a kind and priority, and for other chains.
fn filter(message: &Message) -> Option<TcFilter> {
    let chain = find(&message.attributes, CHAIN).ok().flatten().unwrap_or_default();
    if message.handle == 0 || chain.iter().any(|octet| *octet != 0) {
        return None;
    }
    let kind = message.text(KIND).unwrap_or_default();
    let program = (kind == BPF).then(|| {
        let options = find(&message.attributes, OPTIONS).ok().flatten().unwrap_or_default();
        let id = find(&options, BPF_ID).ok().flatten();
        let id = id.and_then(|id| id.try_into().ok()).map_or(0, u32::from_ne_bytes);
        FilterProgram { name: text(&options, BPF_NAME).unwrap_or_default(), id }
    });
    let priority = u16::try_from(message.info >> 16).unwrap_or_default();
    Some(TcFilter { kind, priority, handle: message.handle, program })
}

/// A text that somebody chose, for messages.
fn text(attributes: &[u8], kind: u16) -> Option<String> {
    let octets = find(attributes, kind).ok()??;
    let text = octets.split(|octet| *octet == 0).next().unwrap_or_default();
    let printable = |c: &char| !c.is_control() && *c != '`';
    Some(String::from_utf8_lossy(text).chars().filter(printable).collect())
}

fn octets(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut octets = vec![0; attributes.buffer_len()];
    attributes.emit(&mut octets);
    octets
}

/// A message about a qdisc or filter (`struct tcmsg`, linux/rtnetlink.h), its attributes not taken apart.
#[derive(Debug, Clone, Default)]
struct Message {
    message_type: u16,
    ifindex: u32,
    handle: u32,
    parent: u32,
    info: u32,
    attributes: Vec<u8>,
}

impl Message {
    /// Octets of the header.
    const HEADER: usize = 20;

    fn new(message_type: u16, ifindex: u32, parent: u32) -> Self {
        Self { message_type, ifindex, parent, ..Self::default() }
    }

    fn text(&self, kind: u16) -> Option<String> {
        text(&self.attributes, kind)
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.message_type
    }

    fn buffer_len(&self) -> usize {
        Self::HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        // The family, `AF_UNSPEC`, and padding come first.
        let words = [0, self.ifindex, self.handle, self.parent, self.info];
        let header = words.iter().flat_map(|word| word.to_ne_bytes());
        let all = header.chain(self.attributes.iter().copied());
        for (place, octet) in buffer.iter_mut().zip(all) {
            *place = octet;
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some((words, attributes)) = payload.split_at_checked(Self::HEADER) else {
            return Err(DecodeError::from("a message about TC is cut off"));
        };
        let (words, _) = words.as_chunks::<4>();
        let word = |at: usize| u32::from_ne_bytes(words[at]);
        Ok(Self {
            message_type: header.message_type,
            ifindex: word(1),
            handle: word(2),
            parent: word(3),
            info: word(4),
            attributes: attributes.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(kind: u16, parts: &[DefaultNla]) -> DefaultNla {
        attribute(kind, &octets(parts))
    }

    fn listed(kind: &[u8], options: &[DefaultNla]) -> Message {
        let attributes = octets(&[attribute(KIND, kind), nested(OPTIONS, options)]);
        let info = 10 << 16 | u32::from(ETH_P_ALL);
        Message { handle: 0x1ab, info, attributes, ..Message::default() }
    }

    #[test]
    fn a_bpf_filter_has_a_program() {
        let options =
            [attribute(BPF_NAME, b"labgate_egress\0"), attribute(BPF_ID, &77_u32.to_ne_bytes())];
        let filter = filter(&listed(b"bpf\0", &options)).unwrap();
        let program = FilterProgram { name: "labgate_egress".to_owned(), id: 77 };
        assert_eq!(
            filter,
            TcFilter { kind: BPF.to_owned(), priority: 10, handle: 0x1ab, program: Some(program) }
        );
        assert_eq!(filter.to_string(), "the bpf filter `labgate_egress` of priority 10");
    }

    /// Attribute 7 is an action of `u32` (`TCA_U32_ACT`), and a mask of a MAC address in `flower`.
    #[test]
    fn options_of_other_kinds_are_left_alone() {
        for (kind, value) in
            [(&b"u32\0"[..], &[0, 0, 1, 0, 9][..]), (b"flower\0", b"\xff\xff\xff\xff\xff\xff")]
        {
            let filter = filter(&listed(kind, &[attribute(7, value)])).unwrap();
            assert_eq!(filter.program, None);
            let kind = std::str::from_utf8(&kind[..kind.len() - 1]).unwrap();
            assert_eq!(filter.to_string(), format!("the {kind} filter of priority 10"));
        }
    }

    #[test]
    fn what_others_chose_is_printable() {
        let name = [attribute(BPF_NAME, b"\xff\x1b[2J`x\n")];
        let filter = filter(&listed(b"bpf\0", &name)).unwrap();
        assert_eq!(filter.to_string(), "the bpf filter `\u{fffd}[2Jx` of priority 10");
    }

    #[test]
    fn announcements_and_other_chains_are_no_filters() {
        assert_eq!(filter(&Message { handle: 0, ..listed(b"u32\0", &[]) }), None);
        let mut elsewhere = listed(b"u32\0", &[]);
        elsewhere.attributes.extend(octets(&[attribute(CHAIN, &5_u32.to_ne_bytes())]));
        assert_eq!(filter(&elsewhere), None);
        let mut here = listed(b"u32\0", &[]);
        here.attributes.extend(octets(&[attribute(CHAIN, &0_u32.to_ne_bytes())]));
        assert!(filter(&here).is_some());
    }

    #[test]
    fn a_message_says_the_same_both_ways_and_one_cut_off_is_refused() {
        let message = listed(b"bpf\0", &[]);
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        let header = NetlinkHeader::default();
        let read = Message::deserialize(&header, &octets).unwrap();
        assert_eq!(filter(&read), filter(&message));
        assert!(Message::deserialize(&header, &octets[..Message::HEADER - 1]).is_err());
    }
}

//! One question to the kernel over netlink, and its whole answer.

use std::{fmt::Debug, io};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// One thing; the kernel acknowledges when it has answered.
    One,
    /// All there are of a kind.
    All,
}

/// Hands over everything of a kind that this network namespace has. One by one, because a router may
/// have a million routes.
pub(super) fn list(
    question: RouteNetlinkMessage,
    each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    ask(NETLINK_ROUTE, question, Extent::All, each)
}

/// The answer about one thing.
pub(super) fn one(question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut answers = Vec::new();
    ask(NETLINK_ROUTE, question, Extent::One, |answer| answers.push(answer))?;
    Ok(answers)
}

/// Asks in the network namespace of the calling thread, and hands over each message of the answer.
///
/// # Errors
///
/// What the kernel refuses with, or `InvalidData` for an answer that makes no sense.
pub(super) fn ask<M>(
    protocol: isize,
    question: M,
    extent: Extent,
    mut each: impl FnMut(M),
) -> io::Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable + Debug,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | if extent == Extent::All { NLM_F_DUMP } else { NLM_F_ACK };
    let mut question = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
    question.finalize();
    let mut octets = vec![0; question.buffer_len()];
    question.serialize(&mut octets);
    socket.send(&octets, 0)?;

    loop {
        let (datagram, _sender) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest).map_err(invalid)?;
            // Messages begin at multiples of four (`NLMSG_ALIGN`).
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => each(answer),
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                other => return Err(invalid(format!("unexpected {other:?}"))),
            }
        }
    }
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

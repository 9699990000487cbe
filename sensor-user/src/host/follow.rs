//! The links of this network namespace, as they come, change and go.
//!
//! An event only says that something has changed; what there is, the dump says that follows it. So
//! nothing hangs on the order of events, and one that gets lost costs no more than time.

use std::{io, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkMessage},
    proto::sys::SocketAddr,
};
use tokio::time::timeout;

use super::{Host, Link};

/// Without an event the links are looked at this often: a program can be taken off a link without
/// one.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is no news of the links.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// The kernel gives no socket.
    #[error("can't ask the kernel about network interfaces: {0}")]
    Socket(#[from] io::Error),
    /// It refuses to list them.
    #[error("the kernel does not list the network interfaces: {0}")]
    Refused(#[from] rtnetlink::Error),
    /// It has closed the socket.
    #[error("the kernel says nothing more of network interfaces")]
    Ended,
}

/// Follows the links of the network namespace of the thread that opened it.
pub struct LinkFollower {
    handle: Handle,
    events: futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
}

impl LinkFollower {
    /// Opens it; nothing that happens from here on is missed. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, LinksError> {
        let (connection, handle, events) = new_multicast_connection(&[MulticastGroup::Link])?;
        tokio::spawn(connection);
        let events = events.map(|(message, _from): (_, SocketAddr)| message).boxed();
        Ok(Self { handle, events })
    }

    /// All links as they are.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn links(&mut self) -> Result<Host, LinksError> {
        let messages: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        Ok(Host { links: messages.iter().filter_map(Link::of).collect(), ..Host::default() })
    }

    /// Waits until something may have changed; returns the links that were deleted, as they were at
    /// their end.
    ///
    /// # Errors
    ///
    /// When there will be no more news.
    pub async fn change(&mut self) -> Result<Vec<Link>, LinksError> {
        let mut gone = Vec::new();
        match timeout(LOOK, self.events.next()).await {
            Err(_nothing_happened) => return Ok(gone),
            Ok(None) => return Err(LinksError::Ended),
            Ok(Some(first)) => gone.extend(deleted(first)),
        }
        // One dump for all that has happened so far.
        while let Ok(event) = timeout(Duration::ZERO, self.events.next()).await {
            gone.extend(deleted(event.ok_or(LinksError::Ended)?));
        }
        Ok(gone)
    }
}

fn deleted(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Link> {
    match message.payload {
        // A bridge says so too, in a family of its own, of a port that leaves it.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
            if message.header.interface_family == AddressFamily::Unspec =>
        {
            Link::of(&message)
        }
        _ => None,
    }
}

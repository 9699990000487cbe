//! Network interfaces by name.

use nix::{errno::Errno, ifaddrs::getifaddrs, net::if_::if_nametoindex, sys::socket::LinkAddr};

use crate::host::Link;

/// Why an interface can't be watched.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is none of that name in this network namespace.
    #[error(
        "interface {0} does not exist; `ip link` lists the ones that do, `interfaces:` in the \
         configuration names the ones to watch"
    )]
    Missing(String),
    /// Its packets have no Ethernet header, as on a tunnel.
    #[error(
        "interface {0} carries no Ethernet frames, so there are no MAC addresses to tell devices \
         by; watch the LAN interface that the devices are attached to"
    )]
    NotEthernet(String),
    /// The kernel does not say what it is.
    #[error("can't ask the kernel about interface {0}: {1}")]
    Unknown(String, Errno),
}

/// An interface whose packets begin with an Ethernet header: what attaching needs to know of it.
///
/// # Errors
///
/// When it is missing or of another kind.
pub fn ethernet_link(name: &str) -> Result<Link, InterfaceError> {
    let index =
        if_nametoindex(name).map_err(|_no_such_name| InterfaceError::Missing(name.to_owned()))?;
    match hardware_type(name) {
        // The loopback interface has the header too, with zeroes.
        Ok(Some(libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK)) => {
            Ok(Link { index, name: name.to_owned(), ethernet: true, ..Link::default() })
        }
        Ok(_) => Err(InterfaceError::NotEthernet(name.to_owned())),
        Err(error) => Err(InterfaceError::Unknown(name.to_owned(), error)),
    }
}

/// `ARPHRD_*` (linux/if_arp.h) of an interface that has a hardware address.
fn hardware_type(name: &str) -> nix::Result<Option<u16>> {
    Ok(getifaddrs()?
        .filter(|entry| entry.interface_name == name)
        .find_map(|entry| entry.address?.as_link_addr().map(LinkAddr::hatype)))
}

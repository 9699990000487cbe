//! Network interfaces by name.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::net::if_::if_nametoindex;

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
    Unknown(String, io::Error),
}

/// Index of an interface whose packets begin with an Ethernet header.
///
/// # Errors
///
/// When it is missing or of another kind.
pub fn ethernet_index(name: &str) -> Result<u32, InterfaceError> {
    let index =
        if_nametoindex(name).map_err(|_no_such_name| InterfaceError::Missing(name.to_owned()))?;
    match hardware_type(name) {
        // The loopback interface has the header too, with zeroes.
        Ok(libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) => Ok(index),
        Ok(_) => Err(InterfaceError::NotEthernet(name.to_owned())),
        Err(error) => Err(InterfaceError::Unknown(name.to_owned(), error)),
    }
}

/// `ARPHRD_*` (linux/if_arp.h) of an interface.
fn hardware_type(name: &str) -> io::Result<u16> {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays zero: the kernel takes the name as a string.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: takes three integers; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: reads and writes one ifreq.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled in this member.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

//! Frames as they are.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;

use super::Namespace;

/// Frames of one system call.
const BATCH: usize = 64;

/// A packet socket (packet(7)) that sends Ethernet frames over one interface. Any thread may send.
#[derive(Debug)]
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens one for an interface of a namespace.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace
            .enter(|| Self::bind(interface))?
            .with_context(|| format!("can't send frames over {interface} of {}", namespace.name()))
    }

    fn bind(interface: &str) -> io::Result<Self> {
        // Protocol 0: it receives nothing.
        // SAFETY: takes three integers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeroes is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
        address.sll_ifindex = if_nametoindex(interface)?.cast_signed();
        let length = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
        // SAFETY: the address is valid for the length given.
        match unsafe { libc::bind(fd, (&raw const address).cast(), length) } {
            0 => Ok(Self(socket)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends frames in their order, as fast as they go.
    ///
    /// # Errors
    /// When the kernel refuses one: it is longer than the MTU, or the interface is down.
    pub fn send(&self, frames: &[impl AsRef<[u8]>]) -> Result<()> {
        for frames in frames.chunks(BATCH) {
            let mut parts: Vec<libc::iovec> =
                frames.iter().map(|frame| part(frame.as_ref())).collect();
            let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
            let mut rest = &mut messages[..];
            while !rest.is_empty() {
                let count = u32::try_from(rest.len())?;
                // SAFETY: messages, parts and frames outlive the call.
                let sent =
                    unsafe { libc::sendmmsg(self.0.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
                match usize::try_from(sent) {
                    Ok(sent) => rest = &mut rest[sent..],
                    Err(_negative) => {
                        let error = io::Error::last_os_error();
                        // A full queue is part of full speed.
                        if error.raw_os_error() != Some(libc::ENOBUFS) {
                            return Err(error).context("can't send a frame");
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

const fn part(frame: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeroes is a valid message.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = ptr::from_mut(part);
    message.msg_hdr.msg_iovlen = 1;
    message
}

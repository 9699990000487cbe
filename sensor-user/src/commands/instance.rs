//! One sensor per network namespace.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
};

/// Name of the socket that a running sensor holds.
const NAME: &str = "labgate";

/// The lock: a socket in the abstract namespace, which is the network namespace's own, as the
/// interfaces are. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Instance(#[expect(dead_code, reason = "held for its drop")] UnixListener);

/// Why the lock can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstanceError {
    /// It is held.
    #[error("another labgate runs in this network namespace; stop it first")]
    Running,
    /// Something else.
    #[error("can't take the lock of this network namespace: {0}")]
    Other(#[source] io::Error),
}

impl Instance {
    pub(super) fn lock() -> Result<Self, InstanceError> {
        let address = SocketAddr::from_abstract_name(NAME).map_err(InstanceError::Other)?;
        UnixListener::bind_addr(&address).map(Self).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => InstanceError::Running,
            _ => InstanceError::Other(error),
        })
    }

    /// Whether a sensor runs in this network namespace, as far as `/proc` tells. Knocking at the socket
    /// would fill its queue: nobody answers there.
    pub(super) fn is_held() -> bool {
        let sockets = fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
        let name = format!("@{NAME}");
        sockets.lines().any(|line| line.split_whitespace().last() == Some(&name))
    }
}

//! Carries connections from the machine's own loopback to the daemon's, inside the gateway.
//!
//! Nothing links the bench to the host: one thread accepts outside and connects inside.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result};

use crate::bench::namespace::Handle;

/// Listens on 127.0.0.1, on the port of `target` where it is free, and carries each connection to
/// `target` in the namespace `inside`. Returns the address to tell the user. It works until the
/// process ends.
pub(super) fn start(inside: Handle, target: SocketAddr) -> Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match bind(target.port()) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => bind(0),
        result => result,
    }
    .context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("forward".to_owned()).spawn(move || -> Result<()> {
        // The listener was bound outside and stays there; what is opened from here on is inside.
        inside.join()?;
        for browser in listener.incoming() {
            // One failed connection is the browser's to report, and no reason to stop.
            let _failed: io::Result<()> = browser.and_then(|browser| carry(browser, target));
        }
        Ok(())
    })?;
    Ok(address)
}

fn carry(browser: TcpStream, target: SocketAddr) -> io::Result<()> {
    let daemon = TcpStream::connect(target)?;
    let back = (daemon.try_clone()?, browser.try_clone()?);
    pipe("request", browser, daemon)?;
    pipe("response", back.0, back.1)
}

fn pipe(name: &str, mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ended: io::Result<u64> = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write)
    })?;
    Ok(())
}

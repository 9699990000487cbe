//! Traffic of which it is known how much there is.

use std::{
    io::{self, Read, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Namespace, plan::GERMANY};

pub(super) const TCP_PORT: u16 = 5201;
pub(super) const UDP_PORT: u16 = 5202;
/// Octets of a datagram's payload: a frame of 142 with IPv4.
pub(super) const DATAGRAM: usize = 100;

const CHUNK: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// The far side of the traffic: for TCP a client says how many octets it will send and how many it
/// wants, each in eight octets; UDP is an echo. It goes on for the machine's life.
///
/// # Errors
/// When a port can't be had.
pub(super) fn serve(internet: &Namespace) -> Result<()> {
    let listener = internet.enter(|| TcpListener::bind(("::", TCP_PORT)))??;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    for host in hosts() {
        // Of one address, so that the answer comes from it.
        let socket = internet.enter(|| UdpSocket::bind((host, UDP_PORT)))??;
        thread::spawn(move || echo(&socket));
    }
    Ok(())
}

/// The host's addresses, one of each family.
pub(super) fn hosts() -> impl Iterator<Item = &'static str> {
    [GERMANY.ipv4].into_iter().chain(GERMANY.ipv6)
}

fn echo(socket: &UdpSocket) {
    let mut datagram = [0; DATAGRAM];
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        // One that is lost is missed at the other end.
        let _lost: io::Result<usize> = socket.send_to(&datagram[..length], from);
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut order = [0; 16];
    stream.read_exact(&mut order)?;
    let [upload, download] =
        [0, 8].map(|at| order[at..].first_chunk().map_or(0, |word| u64::from_be_bytes(*word)));
    receive(&mut stream, upload)?;
    send(&mut stream, download)
}

fn receive(stream: &mut TcpStream, octets: u64) -> io::Result<u64> {
    io::copy(&mut Read::by_ref(stream).take(octets), &mut io::sink())
}

fn send(stream: &mut TcpStream, octets: u64) -> io::Result<()> {
    let chunk = vec![0x4c; CHUNK];
    let mut left = octets;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(&chunk[..length])?;
        left -= length as u64;
    }
    Ok(())
}

/// Sends so many octets from a device over TCP, and then receives as many.
///
/// # Errors
/// When not all arrive.
pub(super) fn tcp(device: &Namespace, host: &str, octets: u64) -> Result<()> {
    let moved = device.enter(|| -> io::Result<u64> {
        let mut stream = TcpStream::connect((host, TCP_PORT))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[octets.to_be_bytes(), octets.to_be_bytes()].concat())?;
        send(&mut stream, octets)?;
        receive(&mut stream, octets)
    });
    let moved = moved?.with_context(|| format!("TCP with {host}"))?;
    ensure!(moved == octets, "TCP with {host}: {moved} octets of {octets} came back");
    Ok(())
}

/// Sends so many datagrams from a device, each when the one before has come back.
///
/// # Errors
/// When one does not.
pub(super) fn udp(device: &Namespace, host: &str, datagrams: u64) -> Result<()> {
    let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let all = device.enter(|| -> io::Result<()> {
        let socket = UdpSocket::bind(any)?;
        socket.connect((host, UDP_PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut datagram = [0x4c; DATAGRAM];
        for _ in 0..datagrams {
            socket.send(&datagram)?;
            socket.recv(&mut datagram)?;
        }
        Ok(())
    });
    all?.with_context(|| format!("UDP with {host}"))
}

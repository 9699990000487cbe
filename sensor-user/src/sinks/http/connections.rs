//! Connections: how many there are, whose, and which makes room for another.
//!
//! When all places are taken the next connection takes that of one that waits for its client: of the peer that has most,
//! the one that has been silent longest. So whoever opens connections and leaves them keeps nobody out. A connection whose
//! request is worked on keeps its place; all such work is bounded below the number of places.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// Connections open at once.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// A connection's ends, as far as they are known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// The address at which it arrived.
    pub(super) local: Option<IpAddr>,
    /// Who opened it.
    pub(super) peer: Option<Peer>,
}

/// Whom a connection is counted for: an IPv4 address, or the /64 that one host may fill with addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// All that are open.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_number: BTreeMap<u64, Arc<Connection>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Connection {
    peer: Option<Peer>,
    began: Instant,
    /// When octets moved last, in milliseconds since it began.
    moved: AtomicU64,
    /// Requests that are worked on.
    working: AtomicUsize,
    closing: Notify,
}

/// Its place, for as long as it is open.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Connections {
    /// A place for a connection, if need be another's.
    pub(super) fn enter(self: &Arc<Self>, peer: Option<Peer>) -> Option<Place> {
        let mut open = self.open();
        if open.by_number.len() >= MAX_CONNECTIONS {
            let number = open.dispensable()?;
            if let Some(connection) = open.by_number.remove(&number) {
                connection.closing.notify_one();
            }
        }
        open.last += 1;
        let number = open.last;
        let connection = Arc::new(Connection::new(peer));
        open.by_number.insert(number, Arc::clone(&connection));
        Some(Place { connections: Arc::clone(self), number, connection })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn dispensable(&self) -> Option<u64> {
        let mut of_peer: HashMap<Option<Peer>, usize> = HashMap::new();
        for connection in self.by_number.values() {
            *of_peer.entry(connection.peer).or_default() += 1;
        }
        let waits = self.by_number.iter().filter(|(_, connection)| !connection.is_worked_on());
        let longest = waits
            .max_by_key(|(_, connection)| (of_peer.get(&connection.peer), connection.silence()));
        longest.map(|(number, _)| *number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().by_number.remove(&self.number);
    }
}

impl Connection {
    pub(super) fn new(peer: Option<Peer>) -> Self {
        let (moved, working) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { peer, began: Instant::now(), moved, working, closing: Notify::new() }
    }

    /// Ends when the place is needed.
    pub(super) async fn is_dispensable(&self) {
        self.closing.notified().await;
    }

    /// For how long the client has neither sent nor taken anything.
    pub(super) fn silence(&self) -> Duration {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(moved)
    }

    pub(super) fn is_worked_on(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0
    }

    /// A request is worked on until the result is dropped.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        self.working.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(self))
    }

    fn moved(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }
}

/// See [`Connection::work`].
pub(super) struct Work(Arc<Connection>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.moved();
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's octets, which tell how long it has been silent.
pub(super) struct Observed<S> {
    pub(super) stream: S,
    pub(super) connection: Arc<Connection>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.connection.moved();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        if written.is_ready() {
            self.connection.moved();
        }
        written
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        if written.is_ready() {
            self.connection.moved();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Option<Peer> {
        Some(address.parse::<IpAddr>().unwrap().into())
    }

    #[test]
    fn the_place_is_taken_from_the_peer_that_has_most() {
        let connections = Arc::new(Connections::default());
        let modest = connections.enter(peer("192.0.2.1")).unwrap();
        let greedy: Vec<_> =
            (1..MAX_CONNECTIONS).map(|_| connections.enter(peer("192.0.2.2")).unwrap()).collect();
        greedy[0].connection.moved.store(u64::MAX, Ordering::Relaxed);
        // That one has just moved; the next has been silent for longest.
        let _one_more = connections.enter(peer("192.0.2.2")).unwrap();
        let open = connections.open();
        assert_eq!(open.by_number.len(), MAX_CONNECTIONS);
        assert!(open.by_number.contains_key(&modest.number));
        assert!(open.by_number.contains_key(&greedy[0].number));
        let gone = |place: &&Place| !open.by_number.contains_key(&place.number);
        assert_eq!(greedy.iter().filter(gone).count(), 1);
    }

    #[test]
    fn what_is_worked_on_keeps_its_place() {
        let connections = Arc::new(Connections::default());
        let places: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| connections.enter(peer("127.0.0.1")).unwrap()).collect();
        let mut work: Vec<_> = places.iter().map(|place| place.connection.work()).collect();
        assert!(connections.enter(peer("127.0.0.1")).is_none());
        work.pop();
        assert!(connections.enter(peer("127.0.0.1")).is_some());
        drop(places);
        assert_eq!(connections.open().by_number.len(), 0);
    }

    #[test]
    fn one_host_is_one_peer() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}

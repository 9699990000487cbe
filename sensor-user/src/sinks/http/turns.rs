//! Whose password is hashed next.
//!
//! bcrypt takes a CPU for as long as whoever made the hash chose, so there is one at a time. Whoever sends wrong
//! passwords must not keep the right one waiting: the peer with the fewest recent failures comes first, and of equals the
//! one that came last. So many wrong ones in advance cost a right one a single hash.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::connections::Peer;

/// Passwords that wait to be hashed; beyond, the last in turn is sent away.
pub(super) const MAX_WAITING: usize = 16;
/// How long one waits at most.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Peers whose failures are remembered.
const MAX_PEERS: usize = 1024;
/// After this time all failures are forgiven.
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    is_running: bool,
    /// Oldest first.
    waiting: Vec<(Option<Peer>, oneshot::Sender<Turn>)>,
    failures: HashMap<Option<Peer>, u32>,
    remembered_since: Option<Instant>,
}

/// The right to hash one password; dropped, it goes to the next.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    /// Waits for the turn; `None` when others came first for too long.
    pub(super) async fn wait(self: &Arc<Self>, peer: Option<Peer>) -> Option<Turn> {
        let turn = {
            let mut queue = self.queue();
            if !queue.is_running {
                queue.is_running = true;
                return Some(Turn(Arc::clone(self)));
            }
            let (sender, turn) = oneshot::channel();
            queue.waiting.push((peer, sender));
            queue.waiting.retain(|(_, sender)| !sender.is_closed());
            if queue.waiting.len() > MAX_WAITING
                && let Some(last) = queue.last()
            {
                queue.waiting.remove(last);
            }
            turn
        };
        timeout(MAX_WAIT, turn).await.ok()?.ok()
    }

    /// Remembers whether a peer's password was right.
    pub(super) fn was(&self, peer: Option<Peer>, right: bool) {
        let mut queue = self.queue();
        let now = Instant::now();
        let is_old = queue.remembered_since.is_none_or(|since| now - since >= MEMORY);
        if is_old || queue.failures.len() >= MAX_PEERS {
            queue.failures.clear();
            queue.remembered_since = Some(now);
        }
        if right {
            queue.failures.remove(&peer);
        } else {
            *queue.failures.entry(peer).or_default() += 1;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn failures(&self, index: usize) -> u32 {
        self.failures.get(&self.waiting[index].0).copied().unwrap_or(0)
    }

    fn first(&self) -> Option<usize> {
        // Of equals the first that is met: the newest.
        (0..self.waiting.len()).rev().min_by_key(|index| self.failures(*index))
    }

    fn last(&self) -> Option<usize> {
        // Of equals the last that is met: the oldest.
        (0..self.waiting.len()).rev().max_by_key(|index| self.failures(*index))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.queue();
            match queue.first() {
                Some(first) => queue.waiting.remove(first).1,
                None => {
                    queue.is_running = false;
                    return;
                }
            }
        };
        // One that is gone drops its turn, which goes to the next.
        let _gone = next.send(Self(Arc::clone(&self.0)));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::task::yield_now;

    use super::*;

    fn peer(last: u8) -> Option<Peer> {
        Some(IpAddr::from([192, 0, 2, last]).into())
    }

    /// Who gets which turn, where the peers came in this order while another had it.
    async fn order(turns: &Arc<Turns>, peers: &[u8]) -> Vec<u8> {
        let held = turns.wait(None).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in peers.iter().copied() {
            let (turns, order) = (Arc::clone(turns), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                if let Some(_turn) = turns.wait(peer(number)).await {
                    order.lock().unwrap().push(number);
                }
            }));
            yield_now().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        order.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn who_failed_waits_for_those_who_did_not() {
        let turns = Arc::new(Turns::default());
        assert_eq!(order(&turns, &[1, 2, 3]).await, [3, 2, 1]);
        turns.was(peer(3), false);
        assert_eq!(order(&turns, &[1, 2, 3]).await, [2, 1, 3]);
        turns.was(peer(3), true);
        assert_eq!(order(&turns, &[1, 2, 3]).await, [3, 2, 1]);
    }

    #[tokio::test]
    async fn what_is_too_much_sends_away_who_would_be_last() {
        let turns = Arc::new(Turns::default());
        let many: Vec<u8> = (0..=u8::try_from(MAX_WAITING).unwrap()).collect();
        turns.was(peer(5), false);
        let served = order(&turns, &many).await;
        assert_eq!(served.len(), MAX_WAITING);
        assert!(!served.contains(&5), "{served:?}");
        let served = order(&turns, &[&many[..5], &many[6..], &[99]].concat()).await;
        assert!(!served.contains(&0) && served[0] == 99, "{served:?}");
        // Nothing is left over.
        assert!(!turns.queue().is_running);
    }

    #[tokio::test]
    async fn a_turn_of_one_who_left_goes_on() {
        let turns = Arc::new(Turns::default());
        let held = turns.wait(None).await.unwrap();
        let left = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.wait(peer(1)).await.is_some() }
        });
        let stays = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.wait(peer(2)).await.is_some() }
        });
        yield_now().await;
        left.abort();
        assert!(left.await.is_err());
        drop(held);
        assert!(stays.await.unwrap());
    }
}

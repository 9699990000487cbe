//! Who may ask: users with passwords, and how many requests there may be.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::{connections::Peer, turns::Turns};
use crate::config::RateLimit;

/// The lowest cost that bcrypt knows.
const MIN_COST: u32 = 4;
/// Salt and hash of a password that nobody has, in bcrypt's form; a cost goes before it.
const NOBODY: &str = ".....................................................";

/// Users and the hashes of their passwords.
#[derive(Debug)]
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// The highest cost of all hashes: whoever is not admitted waits for as long as that takes, or the time would tell
    /// which users there are.
    cost: u32,
    /// A keyed digest of the password that was right last, by user. bcrypt is slow on purpose, and a
    /// scrape comes every few seconds. Only right ones are kept, so nobody can crowd them out.
    right: Mutex<HashMap<String, [u8; 32]>>,
    /// Makes the digests worthless outside of this process.
    key: [u8; 32],
    turns: Arc<Turns>,
}

impl Users {
    /// `None` where there are no users: then nobody is asked.
    pub(super) fn new(hashes: &BTreeMap<String, String>) -> std::io::Result<Option<Self>> {
        let costs = hashes.values().filter_map(|hash| cost_of(hash));
        let Some(cost) = costs.max() else { return Ok(None) };
        let mut key = [0; 32];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut key)?;
        Ok(Some(Self {
            hashes: hashes.clone(),
            cost,
            right: Mutex::default(),
            key,
            turns: Arc::default(),
        }))
    }

    /// Whether a request comes from one of them (RFC 7617); `peer` is who sent it.
    pub(super) async fn admit(&self, headers: &HeaderMap, peer: Option<Peer>) -> Admission {
        let Some((user, password)) = credentials(headers) else { return Admission::Refused };
        let known = self.hashes.get(&user).cloned();
        let digest = known.as_ref().map(|hash| self.digest(&user, hash, &password));
        if digest.is_some() && self.right().get(&user) == digest.as_ref() {
            return Admission::Admitted;
        }
        let Some(turn) = self.turns.wait(peer).await else { return Admission::Busy };
        let cost = self.cost;
        let compared = spawn_blocking(move || {
            let _turn = turn;
            is_right(&password, known.as_deref(), cost)
        });
        let is_right = compared.await.unwrap_or(false);
        self.turns.was(peer, is_right);
        match digest {
            Some(digest) if is_right => {
                self.right().insert(user, digest);
                Admission::Admitted
            }
            _ => Admission::Refused,
        }
    }

    fn right(&self) -> MutexGuard<'_, HashMap<String, [u8; 32]>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, user: &str, hash: &str, password: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is a user's.
    Admitted,
    /// It is nobody's.
    Refused,
    /// Too many passwords wait to be looked at.
    Busy,
}

/// Compares a password with a user's hash; where it is wrong, or there is no such user, this takes as long as a hash of the
/// given cost.
fn is_right(password: &[u8], hash: Option<&str>, cost: u32) -> bool {
    let right = hash.is_some_and(|hash| bcrypt::verify(password, hash).unwrap_or(false));
    if !right {
        for cost in rest(hash.and_then(cost_of), cost) {
            // It is right for nobody.
            let _wrong = bcrypt::verify(password, &nobody(cost));
        }
    }
    right
}

fn cost_of(hash: &str) -> Option<u32> {
    hash.parse::<bcrypt::HashParts>().ok().map(|parts| parts.get_cost())
}

fn nobody(cost: u32) -> String {
    format!("$2b${cost:02}${NOBODY}")
}

/// The costs that together take as long as `most`, after one of the cost `spent`: each doubles the time, and
/// 2^n + 2^n + 2^(n+1) + ... + 2^(m-1) = 2^m.
fn rest(spent: Option<u32>, most: u32) -> std::ops::Range<u32> {
    match spent {
        Some(spent) => spent.max(MIN_COST)..most,
        None => most..most + 1,
    }
}

/// User and password of the `Authorization` header, in the scheme `Basic`.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|octet| *octet == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

/// A token bucket over all requests.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: RateLimit,
    /// When the bucket was, or will have been, empty; each request moves it by an interval.
    empty_at: Mutex<Option<Instant>>,
}

impl Limiter {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, empty_at: Mutex::new(None) }
    }

    /// Takes a token, if there is one.
    pub(super) fn admit(&self, now: Instant) -> bool {
        let mut empty_at = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = self.limit.interval.saturating_mul(self.limit.burst);
        let since = empty_at.map_or(full, |at| now.saturating_duration_since(at)).min(full);
        let admitted = since >= self.limit.interval.max(Duration::from_nanos(1));
        if admitted {
            // As if it had been empty for one token less.
            *empty_at = now.checked_sub(since).map(|at| at + self.limit.interval).or(Some(now));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = format!("Basic {}", STANDARD.encode(text));
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    async fn admit(users: &Users, text: &str) -> Admission {
        users.admit(&ask(text), None).await
    }

    fn users() -> Users {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let other = bcrypt::hash("of another: with a colon", 5).unwrap();
        let users = [("lab".to_owned(), hash), ("other".to_owned(), other)];
        Users::new(&users.into()).unwrap().unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_of_the_user() {
        let users = users();
        for _ in 0..2 {
            assert_eq!(admit(&users, "lab:secret").await, Admission::Admitted);
            let other = "other:of another: with a colon";
            assert_eq!(admit(&users, other).await, Admission::Admitted);
            for wrong in
                ["lab:Secret", "lab:", "lab", ":secret", "other:secret", "nobody:secret", ""]
            {
                assert_eq!(admit(&users, wrong).await, Admission::Refused, "{wrong}");
            }
        }
        // Nothing but what was right is remembered.
        assert_eq!(users.right().len(), 2);
        assert!(Users::new(&BTreeMap::new()).unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_not_the_scheme_is_nobody() {
        let users = users();
        for header in ["", "Basic", "Basic !", "Bearer bGFiOnNlY3JldA==", "Basic bGFi"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header.parse().unwrap());
            assert_eq!(users.admit(&headers, None).await, Admission::Refused, "{header}");
        }
        assert_eq!(users.admit(&HeaderMap::new(), None).await, Admission::Refused);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "basic  bGFiOnNlY3JldA==".parse().unwrap());
        assert_eq!(users.admit(&headers, None).await, Admission::Admitted);
    }

    #[test]
    fn who_is_refused_has_waited_for_the_most_expensive_hash() {
        let work = |costs: std::ops::Range<u32>| costs.map(|cost| 1_u64 << cost).sum::<u64>();
        for spent in MIN_COST..=12 {
            assert_eq!((1 << spent) + work(rest(Some(spent), 12)), 1 << 12, "{spent}");
        }
        assert_eq!(work(rest(None, 12)), 1 << 12);
        // A cost of 4 takes a 32nd of one of 9; the best of three measurements, for a busy machine.
        let cheap = bcrypt::hash("secret", 4).unwrap();
        let time = |hash: Option<&str>| {
            let once = || {
                let began = Instant::now();
                assert!(!is_right(b"wrong", hash, 9));
                began.elapsed()
            };
            (0..3).map(|_| once()).min().unwrap()
        };
        let (known, unknown) = (time(Some(&cheap)), time(None));
        assert!(known < unknown * 3 && unknown < known * 3, "{known:?} {unknown:?}");
        assert!(is_right(b"secret", Some(&cheap), 9));
        assert!(!bcrypt::verify("secret", &nobody(4)).unwrap());
    }

    #[tokio::test]
    async fn a_right_password_does_not_wait_behind_wrong_ones() {
        const WRONG: usize = 24;
        let hash = bcrypt::hash("secret", 7).unwrap();
        let users = Users::new(&[("lab".to_owned(), hash)].into()).unwrap().unwrap();
        let users = Arc::new(users);
        let began = Instant::now();
        assert_eq!(admit(&users, "lab:wrong").await, Admission::Refused);
        let one = began.elapsed();
        let wrong: Vec<_> = (0..WRONG)
            .map(|number| {
                let users = Arc::clone(&users);
                tokio::spawn(async move { admit(&users, &format!("lab:{number}")).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let before = Instant::now();
        assert_eq!(admit(&users, "lab:secret").await, Admission::Admitted);
        let waited = before.elapsed();
        assert!(wrong.iter().any(|task| !task.is_finished()), "none of the wrong ones waits");
        assert!(waited < one * 12, "{waited:?}, where one takes {one:?}");
        let mut busy = 0;
        for task in wrong {
            match task.await.unwrap() {
                Admission::Busy => busy += 1,
                other => assert_eq!(other, Admission::Refused),
            }
        }
        assert!(busy >= WRONG - super::super::turns::MAX_WAITING - 1, "{busy}");
    }

    #[test]
    fn tokens_come_back_one_by_one() {
        let interval = Duration::from_secs(2);
        let limiter = Limiter::new(RateLimit { interval, burst: 3 });
        let start = Instant::now();
        let admitted = |seconds| limiter.admit(start + Duration::from_secs(seconds));
        assert_eq!([0, 0, 0, 0, 1].map(admitted), [true, true, true, false, false]);
        assert_eq!([2, 2, 4].map(admitted), [true, false, true]);
        assert_eq!([100, 100, 100, 100].map(admitted), [true, true, true, false]);
    }
}

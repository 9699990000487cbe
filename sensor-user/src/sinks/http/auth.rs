//! Who may ask: users with passwords, and how many requests there may be.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::config::RateLimit;

/// Salt and hash of a password that nobody has, in bcrypt's form; a cost goes before it.
const NOBODY: &str = ".....................................................";

/// Users and the hashes of their passwords.
#[derive(Debug)]
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// What an unknown user's password is compared with: it takes as long as with a known one.
    nobody: String,
    /// A keyed digest of the password that was right last, by user. bcrypt is slow on purpose, and a
    /// scrape comes every few seconds. Only right ones are kept, so nobody can crowd them out.
    right: Mutex<HashMap<String, [u8; 32]>>,
    /// Makes the digests worthless outside of this process.
    key: [u8; 32],
    /// Hashing takes a whole CPU: one at a time.
    hashing: Arc<Semaphore>,
}

impl Users {
    /// `None` where there are no users: then nobody is asked.
    pub(super) fn new(hashes: &BTreeMap<String, String>) -> std::io::Result<Option<Self>> {
        let costs = hashes.values().filter_map(|hash| hash.parse::<bcrypt::HashParts>().ok());
        let Some(cost) = costs.map(|parts| parts.get_cost()).max() else { return Ok(None) };
        let mut key = [0; 32];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut key)?;
        Ok(Some(Self {
            hashes: hashes.clone(),
            nobody: format!("$2b${cost:02}${NOBODY}"),
            right: Mutex::default(),
            key,
            hashing: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Whether a request comes from one of them (RFC 7617).
    pub(super) async fn admit(&self, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let known = self.hashes.get(&user);
        let hash = known.unwrap_or(&self.nobody).clone();
        let digest = self.digest(&user, &hash, &password);
        if known.is_some() && self.right().get(&user) == Some(&digest) {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.hashing).acquire_owned().await else { return false };
        let compared = spawn_blocking(move || {
            let _permit = permit;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let is_right = known.is_some() && compared.await.unwrap_or(false);
        if is_right {
            self.right().insert(user, digest);
        }
        is_right
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
            assert!(users.admit(&ask("lab:secret")).await);
            assert!(users.admit(&ask("other:of another: with a colon")).await);
            for wrong in
                ["lab:Secret", "lab:", "lab", ":secret", "other:secret", "nobody:secret", ""]
            {
                assert!(!users.admit(&ask(wrong)).await, "{wrong}");
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
            assert!(!users.admit(&headers).await, "{header}");
        }
        assert!(!users.admit(&HeaderMap::new()).await);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "basic  bGFiOnNlY3JldA==".parse().unwrap());
        assert!(users.admit(&headers).await);
    }

    /// Or the time would tell who exists.
    #[test]
    fn nobody_takes_as_long_as_the_slowest_user() {
        let users = users();
        assert_eq!(users.nobody.parse::<bcrypt::HashParts>().unwrap().get_cost(), 5);
        assert!(!bcrypt::verify("secret", &users.nobody).unwrap());
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

//! What served its one time already, in this process: hashes, each until its time is over.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Error;

/// More than a process is asked for in the minutes that a proof is good for; each takes some hundred bytes.
const CAPACITY_DEFAULT: usize = 100_000;
/// How often old ones are looked for while there is room.
const SWEEP_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Used {
    // Held for short map operations only, never across an await.
    seen: Mutex<Seen>,
    capacity: usize,
}

#[derive(Debug)]
struct Seen {
    until: HashMap<String, Instant>,
    swept: Option<Instant>,
}

impl Default for Used {
    fn default() -> Self {
        Self::with_capacity(CAPACITY_DEFAULT)
    }
}

impl Used {
    fn with_capacity(capacity: usize) -> Self {
        Self { seen: Mutex::new(Seen { until: HashMap::new(), swept: None }), capacity }
    }

    /// `false` if it was noted before and its time is not over.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing is forgotten early to make room, or a flood would let a replay through.
    pub(super) fn note(&self, what: &str, ttl: Duration, now: Instant) -> Result<bool, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let due = seen.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_AFTER);
        if due || seen.until.len() >= self.capacity {
            seen.until.retain(|_, until| *until > now);
            seen.swept = Some(now);
        }
        if seen.until.get(what).is_some_and(|until| *until > now) {
            return Ok(false);
        }
        if seen.until.len() >= self.capacity {
            return Err(Error::Full);
        }
        seen.until.insert(what.to_owned(), now + ttl);
        Ok(true)
    }

    /// What was noted served nobody after all.
    pub(super) fn forget(&self, what: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).until.remove(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn a_thing_serves_once_until_its_time_is_over() {
        let (used, now) = (Used::default(), Instant::now());
        assert!(used.note("a", TTL, now).expect("room"));
        assert!(!used.note("a", TTL, now + TTL / 2).expect("room"));
        assert!(used.note("b", TTL, now).expect("room"));
        assert!(used.note("a", TTL, now + TTL).expect("room"));
        used.forget("b");
        assert!(used.note("b", TTL, now).expect("room"), "it had served nobody");
    }

    #[test]
    fn a_flood_is_refused_and_nothing_is_forgotten_for_it() {
        let (used, now) = (Used::with_capacity(2), Instant::now());
        assert!(used.note("a", TTL, now).expect("room"));
        assert!(used.note("b", TTL * 2, now).expect("room"));
        assert!(matches!(used.note("c", TTL, now), Err(Error::Full)));
        assert!(!used.note("a", TTL, now).expect("known"), "still known");
        assert!(used.note("c", TTL, now + TTL).expect("room again"));
    }
}

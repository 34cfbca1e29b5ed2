//! Numbers that follow from a seed.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A stream of numbers; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Arc<Mutex<u64>>);

impl Chance {
    /// One stream of many that a seed has.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(Arc::new(Mutex::new(mix(seed ^ mix(stream)))))
    }

    pub(crate) fn number(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(*state)
    }

    pub(crate) fn below(&self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// A span of milliseconds.
    pub(crate) fn span(&self, millis: Range<u64>) -> Duration {
        Duration::from_millis(millis.start + self.number() % (millis.end - millis.start))
    }

    /// True so many times of a hundred.
    pub(crate) fn percent(&self, times: u64) -> bool {
        self.number() % 100 < times
    }
}

/// The finishing step of the generator known as SplitMix64: neighbours become strangers.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

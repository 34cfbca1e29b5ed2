//! Many runs, side by side; and how to see a failed one again.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use crate::world::Entry;

/// Runs of a test that is not told otherwise: about fifteen seconds of two processors.
const SEEDS: u64 = 40;

/// What was wrong with a run.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) ledger: Vec<Entry>,
}

/// One run for each seed: `USM_SIM_SEED` alone, or the first `USM_SIM_SEEDS`. Fails with the ledger of the first
/// that failed.
pub(crate) fn each(run: impl Fn(u64) -> Option<Failure> + Sync) {
    let seeds = match setting("USM_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("USM_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (next, end, begun) = (AtomicU64::new(seeds.start), seeds.end, Instant::now());
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return failures;
            }
            if let Some(failure) = run(seed) {
                eprintln!("seed {seed}: {}", failure.what);
                failures.push((seed, failure));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut failures: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a run does not panic")).collect()
    });
    let count = seeds.end - seeds.start;
    eprintln!("{count} runs, {:.1} a second", count as f64 / begun.elapsed().as_secs_f64());
    failures.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, failure)) = failures.first() {
        panic!("{} of {count} runs failed; with USM_SIM_SEED={seed}: {}", failures.len(), told(failure));
    }
}

fn told(failure: &Failure) -> String {
    let mut text = format!("{}\n", failure.what);
    for Entry { at, what } in &failure.ledger {
        writeln!(text, "{at:>7} ms  {what}").expect("text takes what is written");
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

//! Runs workers for a while and counts. Knows nothing of what they do.
//!
//! A closed loop tells how much is possible, an open one how long a turn takes at a load below that: its turns have times
//! at which they should begin, and take as long as from then to their end. So a server that stalls pays for all the turns
//! that were due meanwhile.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use crate::{say, worker::Worker};

/// Beyond it a turn counts as this long.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// How long after the measured time the last turns may end.
const DRAIN_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// When a worker begins its next turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as the last one ended.
    Closed,
    /// At fixed times, one worker after another with this interval; late if its last turn took longer.
    Open { interval: Duration },
}

/// What was measured.
pub(crate) struct Figures {
    latency: Histogram<u64>,
    /// Those of the warm-up too.
    all_turns: u64,
    measured: Duration,
    /// From the end of the measured time to the end of the last turn: a backlog, if it is long.
    drained: Duration,
}

impl Figures {
    pub(crate) fn to_json(&self) -> Value {
        let millis = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        json!({
            "turns": self.latency.len(),
            "all_turns": self.all_turns,
            "per_second": self.latency.len() as f64 / self.measured.as_secs_f64(),
            "mean_ms": self.latency.mean() / 1000.0,
            "p50_ms": millis(self.latency.value_at_quantile(0.50)),
            "p99_ms": millis(self.latency.value_at_quantile(0.99)),
            "p999_ms": millis(self.latency.value_at_quantile(0.999)),
            "max_ms": millis(self.latency.max()),
            "drained_ms": self.drained.as_secs_f64() * 1000.0,
        })
    }
}

/// The times of one worker.
#[derive(Clone, Copy)]
struct Times {
    pace: Pace,
    /// Of its first turn, in an open loop.
    first: Instant,
    /// Between its turns, in an open loop.
    step: Duration,
    from: Instant,
    until: Instant,
}

/// Returns the workers, which may have something to give back.
///
/// # Errors
/// The first that a worker met.
pub(crate) async fn run(workers: Vec<Worker>, plan: Plan) -> anyhow::Result<(Vec<Worker>, Figures)> {
    let start = Instant::now();
    let from = start + plan.warm_up;
    let until = from + plan.measured;
    let number = u32::try_from(workers.len())?;
    let mut tasks = JoinSet::new();
    for (at, worker) in (0..number).zip(workers) {
        let (first, step) = match plan.pace {
            Pace::Closed => (start, Duration::ZERO),
            Pace::Open { interval } => (start + interval * at, interval * number),
        };
        tasks.spawn(drive(worker, Times { pace: plan.pace, first, step, from, until }));
    }
    tokio::time::sleep_until(from).await;
    say("measuring")?;
    tokio::time::sleep_until(until).await;
    say("measured")?;

    let mut latency = histogram()?;
    let (mut returned, mut all_turns) = (Vec::new(), 0);
    let collected = async {
        while let Some(ended) = tasks.join_next().await {
            let driven = ended??;
            latency.add(&driven.latency)?;
            all_turns += driven.turns;
            returned.push(driven.worker);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(DRAIN_MAX, collected).await.context("the last turns do not end")??;
    let drained = until.elapsed();
    Ok((returned, Figures { latency, all_turns, measured: plan.measured, drained }))
}

/// A worker that is done, with what it measured.
struct Driven {
    worker: Worker,
    latency: Histogram<u64>,
    turns: u64,
}

async fn drive(mut worker: Worker, times: Times) -> anyhow::Result<Driven> {
    let (mut latency, mut turns) = (histogram()?, 0);
    match times.pace {
        Pace::Closed => {
            let mut begun = Instant::now();
            while begun < times.until {
                worker.turn().await?;
                turns += 1;
                let ended = Instant::now();
                // Counted where they end, so that no more turns fall into the time than there was time for.
                if ended >= times.from && ended < times.until {
                    record(&mut latency, ended - begun);
                }
                begun = ended;
            }
        }
        Pace::Open { .. } => {
            let mut due = times.first;
            while due < times.until {
                tokio::time::sleep_until(due).await;
                worker.turn().await?;
                turns += 1;
                if due >= times.from {
                    record(&mut latency, due.elapsed());
                }
                due += times.step;
            }
        }
    }
    Ok(Driven { worker, latency, turns })
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(micros(LATENCY_MAX), 3)?)
}

fn record(latency: &mut Histogram<u64>, took: Duration) {
    latency.saturating_record(micros(took).max(1));
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

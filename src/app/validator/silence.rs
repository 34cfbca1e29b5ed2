//! Sessions that gave no proof of life for too long, while Telegram was there to give one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{ACTOR, Round, Validator};
use crate::{
    app::now,
    domain::{
        error::Error,
        event::NewEvent,
        session::{Event, Session},
    },
    store::Change,
};

/// Sessions moved in one round.
const OVERDUE_MAX: u64 = 200;
/// How long a data centre may take to answer a greeting.
const GREETING_MAX: Duration = Duration::from_secs(5);

impl Validator {
    /// Moves sessions to STALE that were silent for too long; forgets what is over.
    ///
    /// Silence counts only where this replica saw the data centre answer all the time: not before it began to watch,
    /// not before the end of the last outage, not while one may be going on, and not unless it answers right now.
    pub(super) async fn tend(&self) -> Result<Round, Error> {
        let (store, threshold) = (&self.app.0.store, self.schedule.stale_threshold);
        store.forget_pauses(&self.caller()).await?;
        let silent = store.silent_dcs(&self.caller(), self.interval).await?;
        for dc in &silent {
            // Holders may have all of its sessions, so that nobody looks there: an outage would go unseen.
            if !self.lines.heard_within(*dc, self.interval / 2, Instant::now()) {
                self.answers(*dc).await;
            }
        }
        let now = Instant::now();
        let watched: Vec<i32> =
            silent.into_iter().filter(|dc| self.lines.whole_for(*dc, threshold, now)).collect();
        if watched.is_empty() {
            return Ok(Round::Done);
        }
        let overdue = store.overdue(&self.caller(), threshold, &watched, OVERDUE_MAX).await?;
        let more = u64::try_from(overdue.len()).is_ok_and(|found| found == OVERDUE_MAX);
        let mut answering = BTreeMap::new();
        for session in overdue {
            let Some(dc) = session.dc_id else { continue };
            let answers = match answering.get(&dc) {
                Some(known) => *known,
                None => {
                    let answers = self.answers(dc).await;
                    answering.insert(dc, answers);
                    answers
                }
            };
            if answers {
                self.mark(session).await?;
            }
        }
        let served = answering.values().all(|answers| *answers);
        Ok(if more && served { Round::More } else { Round::Done })
    }

    /// Whether the data centre answers now.
    async fn answers(&self, dc: i32) -> bool {
        let Some(call) = self.lines.admit(dc, Instant::now()) else { return false };
        match self.app.0.telegram.greet(dc, Instant::now() + GREETING_MAX).await {
            Ok(()) => {
                call.answered(Instant::now());
                true
            }
            Err(error) => {
                tracing::debug!(dc, error = %error, "A data centre does not answer a greeting");
                call.failed(Instant::now());
                false
            }
        }
    }

    async fn mark(&self, mut session: Session) -> Result<(), Error> {
        let moved = session.apply(Event::ValidationOverdue, now())?;
        let key = session.key.clone();
        let change = Change { events: vec![NewEvent::transition(moved, ACTOR)], ..Change::of(session) };
        match self.app.commit(&self.caller(), change).await {
            Ok(_) => tracing::info!(session.id = %key, "A session gave no proof of life for too long"),
            Err(error) => {
                tracing::debug!(session.id = %key, error = %error, "Somebody else moved the session first");
            }
        }
        Ok(())
    }
}

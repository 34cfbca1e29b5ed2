//! Budgets of logins and pauses in one process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    domain::budget::{Budget, Paused, Scope, Spent},
    tickets::Error,
};

/// Counters and pauses kept at most; those whose time is over make room.
const CAPACITY: usize = 100_000;

/// All of them. One lock, because several are judged together.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    spent: HashMap<Scope, (u32, Instant)>,
    pauses: HashMap<Paused, Instant>,
}

impl Budgets {
    pub(super) fn spend(&self, pauses: &[Paused], budgets: &[Budget]) -> Result<Spent, Error> {
        let now = Instant::now();
        let mut counts = self.lock();
        counts.make_room(now);
        let paused = pauses.iter().filter_map(|paused| counts.pauses.get(paused)).find(|until| **until > now);
        if let Some(until) = paused {
            return Ok(Spent::Paused(*until - now));
        }
        for budget in budgets {
            match counts.spent.get(&budget.scope) {
                Some((spent, until)) if *until > now && *spent >= budget.limit.logins => {
                    return Ok(Spent::Exhausted(budget.scope.name(), *until - now));
                }
                None if budget.limit.logins == 0 => {
                    return Ok(Spent::Exhausted(budget.scope.name(), budget.limit.span));
                }
                Some(_) | None => {}
            }
        }
        if counts.spent.len() + budgets.len() > CAPACITY {
            return Err(Error::Full);
        }
        for budget in budgets {
            let fresh = (0, now + budget.limit.span);
            let count = counts.spent.entry(budget.scope.clone()).or_insert(fresh);
            if count.1 <= now {
                *count = fresh;
            }
            count.0 += 1;
        }
        Ok(Spent::Spent)
    }

    pub(super) fn pause(&self, paused: &Paused, span: Duration) -> Result<(), Error> {
        let now = Instant::now();
        let mut counts = self.lock();
        counts.make_room(now);
        if counts.pauses.len() >= CAPACITY {
            return Err(Error::Full);
        }
        let until = counts.pauses.entry(paused.clone()).or_insert(now);
        *until = (*until).max(now + span);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn make_room(&mut self, now: Instant) {
        if self.spent.len() + self.pauses.len() >= CAPACITY {
            self.spent.retain(|_, (_, until)| *until > now);
            self.pauses.retain(|_, until| *until > now);
        }
    }
}

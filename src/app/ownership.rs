//! Which logins this replica runs, where replicas share them: confirmed every second, taken over from replicas that
//! died or stopped, and asked by others.
//!
//! The tickets confirm a tenure. While they are away the store does: it names the replica in the row, and whoever takes a
//! login over writes its own name there first. So a login goes on without Redis, and is never run twice: a former owner
//! that only the store could tell has surely been told when `NOTICE` is over.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    App, as_service, login_task,
    running::{Command, NotSent, Seat, Tenure},
};
use crate::{
    domain::{
        error::{Error, Reason},
        id::TicketHash,
    },
    tickets::{Answer, Asked, Standing},
};

/// How long a replica keeps a login without confirming it.
const TENURE: Duration = Duration::from_millis(3200);
/// How much earlier than that it stops by itself, counted from before it asked.
const MARGIN: Duration = Duration::from_millis(400);
/// The tenure of a new login, as its replica counts it from before it stored the ticket.
pub(super) const FIRST_TENURE: Duration = Duration::from_millis(2800);
/// Between two confirmations, and between two looks for orphans.
const ROUND: Duration = Duration::from_millis(800);
/// How long the store's word is good for.
const STORE_WORD: Duration = Duration::from_millis(1800);
/// How long after the row names another replica a former owner that nobody hears of has stopped, whoever gave it its
/// last word, and whatever Redis forgot meanwhile: longer than either word is good for.
pub(super) const NOTICE: Duration = Duration::from_millis(3000);
/// How long one confirmation by the store may take.
const STORE_LIMIT: Duration = Duration::from_millis(1200);
/// Logins taken over in one round; the rest is left to others, and to the next.
const TAKEN_AT_ONCE: u32 = 64;
/// For how long a request of another replica is known again.
const KNOWN_FOR: Duration = Duration::from_secs(120);
/// Requests of other replicas that are known again.
const KNOWN_MAX: usize = 4096;
const ACTOR: &str = "usm:ownership";

/// Whether a process takes over what others left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    Yes,
    /// It is about to end itself.
    No,
}

/// How many orphans there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    AsManyAsAsked,
    Fewer,
}

impl App {
    /// Keeps the tenures of the logins that run here, answers other replicas, and takes over what they left, until the
    /// service stops. Nothing is to be done where logins live in one process.
    pub fn share_logins(&self, take_over: TakeOver) {
        if !self.0.tickets.are_shared() {
            return;
        }
        self.spawn_until_stop(|app| async move { app.keep_tenures().await });
        self.spawn_until_stop(|app| async move { app.answer_others().await });
        if take_over == TakeOver::Yes {
            self.spawn_until_stop(|app| async move { app.take_over_orphans().await });
        }
    }

    fn spawn_until_stop<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(Self) -> F) {
        let stop = self.0.stop.clone();
        let work = work(self.clone());
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn keep_tenures(&self) {
        let mut tick = tokio::time::interval(ROUND);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let tickets = self.0.running.tickets();
            if tickets.is_empty() {
                continue;
            }
            let asked = Instant::now();
            match self.0.tickets.renew(&tickets, TENURE).await {
                Ok(standings) => {
                    for (ticket, standing) in tickets.iter().zip(standings) {
                        self.told(&ticket.hash(), standing, asked);
                    }
                }
                Err(error) => {
                    tracing::debug!(error = %error, "Tickets do not confirm logins; the store is asked");
                    self.ask_the_store().await;
                }
            }
        }
    }

    fn told(&self, ticket: &TicketHash, standing: Standing, asked: Instant) {
        let running = &self.0.running;
        match standing {
            Standing::Owner => running.confirm(ticket, asked + TENURE - MARGIN),
            Standing::OwnerOfEnded => {
                running.confirm(ticket, asked + TENURE - MARGIN);
                // One that ended here does not listen any more.
                let _ = running.send(ticket, Command::Supersede);
            }
            Standing::Stranger => running.end_tenure(ticket),
            Standing::Gone => {
                // Nobody can claim what is not there, and nobody else puts it back.
                running.confirm(ticket, asked + STORE_WORD);
                let _ = running.send(ticket, Command::Forgotten);
            }
        }
    }

    async fn ask_the_store(&self) {
        let asked = Instant::now();
        let caller = as_service(ACTOR, STORE_LIMIT);
        match self.0.store.logins_of(&caller, self.0.tickets.replica()).await {
            Ok(mine) => {
                for ticket in mine {
                    self.0.running.confirm(&ticket, asked + STORE_WORD);
                }
            }
            Err(error) => tracing::debug!(error = %error, "The store does not confirm logins either"),
        }
    }

    async fn take_over_orphans(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = self.0.tickets.orphaned() => {}
            }
            // A dead replica may have left many: no pause before all of them are found.
            while self.take_some().await == Found::AsManyAsAsked {}
        }
    }

    async fn take_some(&self) -> Found {
        let orphans = match self.0.tickets.orphans(TAKEN_AT_ONCE).await {
            Ok(orphans) => orphans,
            Err(error) => {
                tracing::debug!(error = %error, "Orphaned logins are looked for again");
                return Found::Fewer;
            }
        };
        let found = orphans.len();
        let mut taken = 0;
        for ticket in orphans {
            if !self.0.running.has_room() {
                return Found::Fewer;
            }
            // One of its own whose tenure ran out is confirmed again, not taken over.
            if self.0.running.runs(&ticket.hash()) {
                continue;
            }
            let asked = Instant::now();
            let former = match self.0.tickets.claim(&ticket, TENURE).await {
                Ok(Some(former)) => former,
                Ok(None) | Err(_) => continue,
            };
            // Without a seat the tenure runs out, and somebody with room takes it.
            if let Ok(seat) = Seat::take(self, &ticket, Tenure::Until(asked)) {
                seat.announce(asked + TENURE - MARGIN);
                self.0.tasks.spawn(login_task::take_over(self.clone(), ticket, former, seat));
                taken += 1;
            }
        }
        // What was found and not taken would only be found again.
        if found == TAKEN_AT_ONCE as usize && taken > 0 { Found::AsManyAsAsked } else { Found::Fewer }
    }

    /// An asker waits for an answer. If the replica that took the request up is gone, nobody knows what came of it.
    async fn remind(&self, known: &Mutex<Known>, id: &str, ticket: &TicketHash) {
        let met = locked(known).requests.get(id).map(|(_, answer)| answer.clone());
        match met {
            Some(Some(answer)) => self.0.tickets.reply(id, Some(&answer)).await,
            Some(None) => {}
            None if self.0.running.runs(ticket) => {
                let lost = Error::new(Reason::TicketsUnavailable, "look at the login's state");
                self.0.tickets.reply(id, Some(&Answer::of(&lost))).await;
            }
            None => {}
        }
    }

    /// Passes on what other replicas ask of the logins that run here.
    async fn answer_others(&self) {
        let known = Arc::new(Mutex::new(Known::default()));
        loop {
            let Asked { id, ticket, ask } = self.0.tickets.asked().await;
            let Some(ask) = ask else {
                self.remind(&known, &id, &ticket).await;
                continue;
            };
            let met = locked(&known).meet(&id);
            match met {
                Met::Answered(answer) => {
                    self.0.tickets.reply(&id, Some(&answer)).await;
                    continue;
                }
                Met::UnderWay => {
                    self.0.tickets.reply(&id, None).await;
                    continue;
                }
                Met::New => {}
            }
            let (sender, answered) = oneshot::channel();
            match self.0.running.send(&ticket, Command::Ask { ask, answer: sender }) {
                Ok(()) => {}
                // Another replica's, or nobody's yet: its owner answers.
                Err(NotSent::Elsewhere(_)) => {
                    locked(&known).forget(&id);
                    continue;
                }
                Err(NotSent::Busy) => {
                    locked(&known).forget(&id);
                    let busy =
                        Error::new(Reason::RateLimited, "the login is busy with earlier requests; try again")
                            .retry_after(Duration::from_secs(1));
                    self.0.tickets.reply(&id, Some(&Answer::of(&busy))).await;
                    continue;
                }
            }
            let (app, known) = (self.clone(), known.clone());
            self.0.tasks.spawn(async move {
                app.0.tickets.reply(&id, None).await;
                let answer = match answered.await {
                    Ok(Ok(_)) => Answer::Done,
                    Ok(Err(error)) => Answer::of(&error),
                    Err(_) => Answer::of(&Error::new(
                        Reason::LoginWrongState,
                        "the login ended meanwhile; look at its state",
                    )),
                };
                known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).answered(&id, answer.clone());
                app.0.tickets.reply(&id, Some(&answer)).await;
            });
        }
    }
}

fn locked(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Requests of other replicas, so that a repetition is not carried out twice.
#[derive(Debug, Default)]
struct Known {
    requests: HashMap<String, (Instant, Option<Answer>)>,
}

/// What is known of a request.
enum Met {
    New,
    UnderWay,
    Answered(Answer),
}

impl Known {
    fn meet(&mut self, id: &str) -> Met {
        if let Some((_, answer)) = self.requests.get(id) {
            return answer.clone().map_or(Met::UnderWay, Met::Answered);
        }
        if self.requests.len() >= KNOWN_MAX {
            self.requests.retain(|_, (since, _)| since.elapsed() < KNOWN_FOR);
        }
        if self.requests.len() >= KNOWN_MAX {
            let oldest: HashSet<String> = self
                .requests
                .iter()
                .min_by_key(|(_, (since, _))| *since)
                .map(|(id, _)| id.clone())
                .into_iter()
                .collect();
            self.requests.retain(|id, _| !oldest.contains(id));
        }
        self.requests.insert(id.to_owned(), (Instant::now(), None));
        Met::New
    }

    fn forget(&mut self, id: &str) {
        self.requests.remove(id);
    }

    fn answered(&mut self, id: &str, answer: Answer) {
        if let Some(known) = self.requests.get_mut(id) {
            known.1 = Some(answer);
        }
    }
}

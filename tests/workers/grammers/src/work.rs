//! One round after the other: borrow, connect, ask, close, give back.
//!
//! The order is what the service relies on: the connection is closed before the deadline and before the release, and
//! the release claims no more than is known.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use usm_client::{Advice, Client, Connections, Error, LeaseGuard, Loss, v1};

use crate::history::{History, after, now};
use crate::limit::Term;
use crate::material::Home;
use crate::options::{Fault, Options};
use crate::telegram::{Connection, Trouble};

/// Rest between attempts to borrow when the service names none.
const REST: Duration = Duration::from_millis(200);
/// The worker's connection did not close in time: its process ends, and the kernel closes it.
const NOT_CLOSED: i32 = 70;

pub(crate) struct Worker {
    pub(crate) options: Options,
    pub(crate) client: Client,
    pub(crate) history: History,
    pub(crate) holder: String,
    /// Somebody wants the worker to end.
    pub(crate) stop: CancellationToken,
}

/// Why a round ends.
#[derive(PartialEq, Eq)]
enum End {
    Over,
    Stopped,
    Lost,
    /// The service advised so after an error of Telegram.
    Advised,
}

impl Worker {
    /// Works until all rounds are done or somebody wants an end.
    ///
    /// # Errors
    /// If the history cannot be written, or the material not be used.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let mut done = 0;
        while !self.stop.is_cancelled() && (self.options.rounds == 0 || done < self.options.rounds) {
            let borrowed = tokio::select! {
                biased;
                // A lease that was granted just then expires by itself.
                () = self.stop.cancelled() => return Ok(()),
                borrowed = self.borrow_session() => borrowed?,
            };
            if let Some((guard, home)) = borrowed {
                self.round(guard, home).await?;
                done += 1;
            }
        }
        Ok(())
    }

    fn keeps_the_rules(&self) -> bool {
        self.options.fault != Some(Fault::IgnoreDeadline)
    }

    /// `None` after a refusal, and the rest it demands.
    async fn borrow_session(&self) -> anyhow::Result<Option<(LeaseGuard, Home)>> {
        let request = v1::AcquireLeaseRequest {
            tenant_id: self.options.tenant_id.clone(),
            app_id: self.options.app_id.clone(),
            holder: self.holder.clone(),
            ttl: self.options.ttl.and_then(|ttl| ttl.try_into().ok()),
            wait: self.options.wait.try_into().ok(),
            format: v1::SessionFormat::Raw.into(),
            request_id: String::new(),
        };
        let sent_t = now()?;
        match LeaseGuard::acquire(&self.client, request).await {
            Ok((guard, material)) => {
                let facts = json!({"sent_t": sent_t, "deadline_t": after(guard.remaining())?});
                self.history.tell("granted", Some(guard.epoch()), &facts)?;
                Ok(Some((guard, Home::read(material)?)))
            }
            Err(error) => {
                self.history.tell("refused", None, &refused("acquire", &error))?;
                let wanted = error.refusal().and_then(|refusal| refusal.retry_after).unwrap_or(REST);
                sleep(wanted.clamp(REST, self.options.rest_max.max(REST))).await;
                Ok(None)
            }
        }
    }

    async fn round(&self, guard: LeaseGuard, home: Home) -> anyhow::Result<()> {
        let epoch = Some(guard.epoch());
        self.history.tell("connecting", epoch, &json!({}))?;
        let term = if self.keeps_the_rules() { Term::Until(guard.deadline()) } else { Term::Endless };
        let mut telegram = Connection::new(home, term);
        let end = tokio::select! {
            biased;
            () = guard.lost(), if self.keeps_the_rules() => End::Lost,
            () = self.stop.cancelled() => End::Stopped,
            end = self.ask(&guard, &mut telegram) => end?,
        };
        if end == End::Lost {
            let loss = guard.loss();
            let facts = json!({
                "loss": loss.as_ref().map(kind), "why": loss.map(|loss| reason(&loss)),
                "deadline_t": after(guard.remaining())?,
            });
            self.history.tell("lost", epoch, &facts)?;
        }
        self.history.tell("closing", epoch, &json!({"deadline_t": after(guard.remaining())?}))?;
        let closing = telegram.close(guard.deadline().max(Instant::now() + REST));
        let connections = tokio::time::timeout(guard.remaining().max(REST * 2), closing).await;
        let Ok(connections) = connections else { std::process::exit(NOT_CLOSED) };
        let seen = connections == Connections::Closed;
        self.history.tell("closed", epoch, &json!({"seen": seen}))?;
        self.give_back(guard, connections).await
    }

    /// Asks until the round is over.
    async fn ask(&self, guard: &LeaseGuard, telegram: &mut Connection) -> anyhow::Result<End> {
        let (epoch, until) = (Some(guard.epoch()), Instant::now() + self.options.hold);
        let mut connected = false;
        while Instant::now() < until {
            // A process that was stopped wakes up here as well as in the task that would tell it.
            if guard.remaining().is_zero() && self.keeps_the_rules() {
                return Ok(End::Lost);
            }
            telegram.renew(guard.deadline());
            let sent_t = now()?;
            let rest = match telegram.me().await {
                Ok(user) => {
                    if !connected {
                        self.history.tell("connected", epoch, &json!({"since_t": sent_t}))?;
                        connected = true;
                    }
                    guard.note_activity();
                    let facts = json!({
                        "sent_t": sent_t, "user": user, "deadline_t": after(guard.remaining())?,
                    });
                    self.history.tell("asked", epoch, &facts)?;
                    Duration::ZERO
                }
                Err(trouble) => match self.report(guard, trouble).await? {
                    Advice::Continue { retry_after } => retry_after.unwrap_or_default(),
                    Advice::Stop if self.keeps_the_rules() => return Ok(End::Advised),
                    Advice::Stop => Duration::ZERO,
                },
            };
            let next = until.min(Instant::now() + rest.max(self.options.ask_every));
            telegram.idle(next, || guard.deadline()).await;
        }
        Ok(End::Over)
    }

    /// Writes an error down and asks the service what it means.
    async fn report(&self, guard: &LeaseGuard, trouble: Trouble) -> anyhow::Result<Advice> {
        const METHOD: &str = "users.getUsers";
        let epoch = Some(guard.epoch());
        let go_on = Advice::Continue { retry_after: None };
        let (code, message) = match trouble {
            Trouble::Refused { code, message } => (code, message),
            Trouble::Unanswered(message) => {
                let facts = json!({"code": null, "message": message, "method": METHOD});
                self.history.tell("telegram_error", epoch, &facts)?;
                return Ok(go_on);
            }
        };
        let error = v1::TelegramError { code, message: message.clone(), dc_id: 0, method: METHOD.to_owned() };
        let advice = match guard.report_error(error).await {
            Ok(advice) => advice,
            Err(error) => {
                self.history.tell("refused", epoch, &refused("report", &error))?;
                go_on
            }
        };
        let facts = json!({
            "code": code, "message": message, "method": METHOD, "stop": advice == Advice::Stop,
        });
        self.history.tell("telegram_error", epoch, &facts)?;
        Ok(advice)
    }

    async fn give_back(&self, guard: LeaseGuard, connections: Connections) -> anyhow::Result<()> {
        let epoch = Some(guard.epoch());
        // Not ours any more: there is nothing to give back.
        if matches!(guard.loss(), Some(Loss::Ended(_))) {
            return Ok(());
        }
        match guard.release(connections).await {
            Ok(_) => {
                let closed = connections == Connections::Closed;
                self.history.tell("released", epoch, &json!({"connections_closed": closed}))?;
            }
            Err(error) => self.history.tell("refused", epoch, &refused("release", &error))?,
        }
        Ok(())
    }
}

fn refused(call: &str, error: &Error) -> Value {
    let refusal = error.refusal();
    json!({
        "call": call,
        "code": refusal.map(|refusal| i32::from(refusal.code)),
        "reason": refusal.map(|refusal| refusal.reason.as_str()),
        "message": error.to_string(),
    })
}

fn kind(loss: &Loss) -> &'static str {
    match loss {
        Loss::Expired => "expired",
        Loss::Refused(_) => "refused",
        Loss::Draining(_) => "draining",
        Loss::Ended(_) => "ended",
        Loss::Dropped => "dropped",
        _ => "other",
    }
}

fn reason(loss: &Loss) -> String {
    match loss {
        Loss::Refused(refusal) => refusal.to_string(),
        other => other.to_string(),
    }
}

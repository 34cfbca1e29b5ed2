//! Requests between replicas, by the channel that tells the news. A request is repeated until somebody takes it up; then
//! its answer is asked for at times, in case it was lost. Whoever runs the login knows repetitions by their name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use fred::interfaces::PubsubInterface as _;
use tokio::sync::mpsc;

use super::{Redis, failed};
use crate::{
    domain::{id::TicketHash, login::Ask},
    tickets::{
        Error,
        asks::{Answer, Asked, open_answer, open_ask, seal_answer, seal_ask},
    },
    vault::Vault,
};

/// Between two repetitions of a request that nobody took up yet.
const REPEAT_AFTER: Duration = Duration::from_millis(700);
/// The same once somebody did.
const REMIND_AFTER: Duration = Duration::from_secs(3);
/// Requests from elsewhere that wait to be looked at; more are dropped, and come again.
const WAITING_MAX: usize = 256;
/// Requests of this replica under way.
const OPEN_MAX: usize = 4096;
/// What an asker may be told: taken up, and answered.
const REPLIES_MAX: usize = 4;

const ASK: &str = "ask";
const REMIND: &str = "remind";
const TAKEN: &str = "taken";
const ANSWER: &str = "answer";

/// What a replica hears of its own request.
#[derive(Debug)]
enum Reply {
    Taken,
    Answered(Answer),
}

/// The requests that come in, and those under way.
#[derive(Clone, Debug)]
pub(super) struct Asks {
    incoming: mpsc::Sender<Asked>,
    // Held for map operations only, never across an await.
    open: Arc<Mutex<HashMap<String, mpsc::Sender<Reply>>>>,
}

impl Asks {
    pub(super) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (incoming, outgoing) = mpsc::channel(WAITING_MAX);
        (Self { incoming, open: Arc::default() }, outgoing)
    }

    /// Whether the message was a request or a reply; what cannot be opened is nobody's.
    pub(super) fn hear(&self, message: &str, vault: &Vault) -> bool {
        let mut parts = message.splitn(4, ':');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        match parts {
            (Some(ASK), Some(ticket), Some(id), Some(sealed)) => {
                let ticket = TicketHash::from_stored(ticket.to_owned());
                let ask = BASE64_STANDARD_NO_PAD
                    .decode(sealed)
                    .ok()
                    .and_then(|sealed| open_ask(vault, &ticket, id, &sealed).ok());
                if let Some(ask) = ask {
                    // A full queue is no loss: the request comes again.
                    let _ = self.incoming.try_send(Asked { id: id.to_owned(), ticket, ask: Some(ask) });
                }
                true
            }
            (Some(REMIND), Some(ticket), Some(id), None) => {
                let ticket = TicketHash::from_stored(ticket.to_owned());
                let _ = self.incoming.try_send(Asked { id: id.to_owned(), ticket, ask: None });
                true
            }
            (Some(TAKEN), Some(id), None, None) => {
                self.tell(id, Reply::Taken);
                true
            }
            (Some(ANSWER), Some(id), Some(sealed), None) => {
                let answer = BASE64_STANDARD_NO_PAD
                    .decode(sealed)
                    .ok()
                    .and_then(|sealed| open_answer(vault, id, &sealed).ok());
                if let Some(answer) = answer {
                    self.tell(id, Reply::Answered(answer));
                }
                true
            }
            _ => false,
        }
    }

    fn tell(&self, id: &str, reply: Reply) {
        if let Some(asker) = self.lock().get(id) {
            let _ = asker.try_send(reply);
        }
    }

    fn begin(&self, id: &str) -> Result<Open<'_>, Error> {
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            return Err(Error::Full);
        }
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        open.insert(id.to_owned(), sender);
        Ok(Open { asks: self, id: id.to_owned(), replies })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<Reply>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way; forgotten when dropped.
struct Open<'a> {
    asks: &'a Asks,
    id: String,
    replies: mpsc::Receiver<Reply>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.asks.lock().remove(&self.id);
    }
}

impl Redis {
    pub(in crate::tickets) async fn ask(
        &self,
        ticket: &TicketHash,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut open = self.asks.begin(&id)?;
        let sealed = BASE64_STANDARD_NO_PAD.encode(seal_ask(&self.vault, ticket, &id, ask)?);
        let message = format!("{ASK}:{}:{id}:{sealed}", ticket.as_str());
        let reminder = format!("{REMIND}:{}:{id}", ticket.as_str());
        let (mut pause, mut taken) = (REPEAT_AFTER, false);
        while Instant::now() < deadline {
            // A code or a password is handed out once: after that only its answer is asked for.
            let message = if taken { reminder.as_str() } else { message.as_str() };
            self.publish("handing a request on", message).await?;
            let until = deadline.min(Instant::now() + pause);
            while let Ok(reply) = tokio::time::timeout_at(until.into(), open.replies.recv()).await {
                match reply {
                    Some(Reply::Answered(answer)) => return Ok(answer),
                    Some(Reply::Taken) => (pause, taken) = (REMIND_AFTER, true),
                    None => return Err(Error::NobodyListens),
                }
            }
        }
        if taken {
            Err(Error::unavailable("waiting for the replica that runs the login", "no answer in time"))
        } else {
            Err(Error::NobodyListens)
        }
    }

    pub(in crate::tickets) async fn asked(&self) -> Asked {
        match self.incoming.lock().await.recv().await {
            Some(asked) => asked,
            // The other end lives as long as this.
            None => std::future::pending().await,
        }
    }

    pub(in crate::tickets) async fn reply(&self, id: &str, answer: Option<&Answer>) {
        let message = match answer {
            None => Ok(format!("{TAKEN}:{id}")),
            Some(answer) => seal_answer(&self.vault, id, answer)
                .map(|sealed| format!("{ANSWER}:{id}:{}", BASE64_STANDARD_NO_PAD.encode(sealed))),
        };
        let sent = match message {
            Ok(message) => self.publish("answering a request", message.as_str()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            // The asker repeats its request, and is answered again.
            tracing::debug!(error = %error, "A reply to another replica was not sent");
        }
    }

    async fn publish(&self, doing: &'static str, message: &str) -> Result<(), Error> {
        self.client
            .publish::<i64, _, _>(self.keys.channel(), message)
            .await
            .map(drop)
            .map_err(|error| failed(doing, error))
    }
}

//! Logins under way, by their tickets: who is the active one of a session, where each stands, and who waits for
//! it to change.
//!
//! Two forms with one behaviour: in this process, or in Redis for several replicas. Neither decides anything for
//! good: the final write of a login is conditional on the ticket in the session's row, and losing all tickets
//! loses pending logins and nothing else. This module knows nothing of Telegram or of the database.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::domain::{
    budget::{Budget, Paused, Spent},
    error::{Error as Refusal, Reason},
    id::{ReplicaId, SessionKey, Ticket, TicketHash},
    login::{Ask, Login, Repeatable},
};

mod asks;
mod content;
mod key;
mod memory;
mod redis;
mod tls;
mod used;
mod watch;

pub use asks::{Answer, Asked};

pub use memory::Memory;
pub use redis::{Redis, Settings, SetupError};
pub use watch::Watch;

/// The largest checkpoint, in bytes: an unauthorized key and what belongs to it.
pub const CHECKPOINT_LENGTH_MAX: usize = 64 * 1024;
/// The spans a ticket may be kept; others are clamped. Logins take minutes.
const TTL_MIN: Duration = Duration::from_millis(1);
const TTL_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Why a ticket operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis does not answer. Whether the operation happened is unknown; each one can be repeated.
    #[error("the ticket store is unavailable while {doing}")]
    Unavailable {
        doing: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The login changed since it was read, or has ended: read it again.
    #[error("the login changed meanwhile")]
    Conflict,
    /// There never was such a login, or its time is over.
    #[error("no such login")]
    NotFound,
    /// Another replica runs the login now.
    #[error("another replica runs the login")]
    NotOwner,
    /// No replica took the request up in time.
    #[error("no replica took the request up")]
    NobodyListens,
    /// As many logins or watches as this process takes.
    #[error("too many logins are under way")]
    Full,
    #[error("a login is too large to be kept")]
    TooLarge,
    /// What is stored does not open with our keys, or is not what we wrote.
    #[error("a stored login cannot be read")]
    Unreadable {
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    /// Whether the same operation may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Conflict
            | Self::NotFound
            | Self::NotOwner
            | Self::NobodyListens
            | Self::Full
            | Self::TooLarge
            | Self::Unreadable { .. } => false,
        }
    }

    fn unavailable(doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { doing, source: source.into() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let refusal = match &error {
            Error::Unavailable { .. } => Self::new(
                Reason::TicketsUnavailable,
                "logins are unavailable for a moment; sessions and leases are not affected; try again",
            )
            .retry_after(Duration::from_secs(2)),
            Error::Conflict => Self::new(Reason::RevisionStale, "the login changed meanwhile; read it again"),
            Error::NotFound => Self::ticket_not_found(),
            Error::NotOwner => Self::new(
                Reason::TicketsUnavailable,
                "the login moved to another replica meanwhile; try again",
            )
            .retry_after(Duration::from_secs(1)),
            Error::NobodyListens => Self::new(
                Reason::TicketsUnavailable,
                "no replica answers for this login at the moment; another one takes it over within seconds; try again",
            )
            .retry_after(Duration::from_secs(2)),
            Error::Full => Self::new(Reason::RateLimited, "too many logins are under way; try again later")
                .retry_after(Duration::from_secs(30)),
            Error::TooLarge => Self::new(Reason::ArgumentInvalid, "the login is too large to be kept"),
            Error::Unreadable { .. } => {
                Self::new(Reason::Internal, "the stored login cannot be read; start a new one")
            }
        };
        refusal.caused_by(error)
    }
}

/// What became of a new login.
#[derive(Debug)]
pub enum Created {
    /// It is the active one of its session now, as version 1.
    New {
        login: Login,
        /// The login that was active until then and is [`Superseded`](crate::domain::login::State::Superseded) now.
        superseded: Option<Ticket>,
    },
    /// The same subject asked for it before with the same request id. It may have ended since.
    Existing(Login),
    /// A login that wrote the session's row later is there already.
    Late,
}

/// What an update does to the login's checkpoint: what another replica would need to go on with the login.
#[derive(Clone, Copy)]
pub enum CheckpointChange<'a> {
    Keep,
    Set(&'a [u8]),
    Clear,
}

impl std::fmt::Debug for CheckpointChange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Set(_) => "Set(..)",
            Self::Clear => "Clear",
        })
    }
}

/// What a replica is to the login it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The one that runs it, for another tenure.
    Owner,
    /// The same, but somebody ended the login: a newer one superseded it.
    OwnerOfEnded,
    /// Another replica runs it.
    Stranger,
    /// There is no such login any more.
    Gone,
}

/// How the replica that had a login before came to lose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// It stopped and said so.
    LetGo,
    /// It was not heard of any more, and may still believe to be the owner.
    Silent,
}

/// What became of a login that Redis had forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    Restored,
    /// It was there after all.
    There,
    /// A newer login of the session is there.
    Superseded,
}

/// The tickets of this service.
#[derive(Debug)]
pub enum Tickets {
    Memory(Memory),
    Redis(Redis),
}

impl Tickets {
    /// Whether logins under way are still there after this process starts anew.
    pub fn survive_restart(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Redis(_) => true,
        }
    }

    /// Whether replicas share the logins, so that one has to prove that it runs a login, and may lose it.
    pub fn are_shared(&self) -> bool {
        self.survive_restart()
    }

    /// This process among those that share the tickets.
    pub fn replica(&self) -> &ReplicaId {
        match self {
            Self::Memory(memory) => memory.replica(),
            Self::Redis(redis) => redis.replica(),
        }
    }

    /// The form's name in answers and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Redis(_) => "redis",
        }
    }

    /// Stores a login and makes it the active one of its session, run by this replica, in one step; the former
    /// active one, unless it has ended, is superseded in the same step. All of it is forgotten after `ttl`. `revision` is
    /// that of the session's row which names this login: of two logins the row names the one that wrote it last, and
    /// the tickets shall agree.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the ticket is taken, [`Error::Full`], [`Error::TooLarge`], [`Error::Unavailable`].
    ///
    /// # Cancel safety
    /// A dropped call may have happened or not; asking again with the same request id finds out.
    pub async fn create(
        &self,
        login: &Login,
        checkpoint: Option<&[u8]>,
        revision: i64,
        ttl: Duration,
    ) -> Result<Created, Error> {
        check_length(checkpoint)?;
        let ttl = ttl.clamp(TTL_MIN, TTL_MAX);
        match self {
            Self::Memory(memory) => memory.create(login, checkpoint, revision, ttl),
            Self::Redis(redis) => redis.create(login, checkpoint, revision, ttl).await,
        }
    }

    /// The login that came of a request, ended or not; `None` before there is one, and after its time.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Unreadable`].
    pub async fn requested(&self, request: &Repeatable) -> Result<Option<Login>, Error> {
        match self {
            Self::Memory(memory) => Ok(memory.requested(request)),
            Self::Redis(redis) => redis.requested(request).await,
        }
    }

    /// The login as it stands, ended or not; `None` after its time.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Unreadable`].
    pub async fn get(&self, ticket: &Ticket) -> Result<Option<Login>, Error> {
        match self {
            Self::Memory(memory) => Ok(memory.get(ticket)),
            Self::Redis(redis) => redis.get(ticket).await,
        }
    }

    /// The newest login of a session, ended or not; `None` after its time.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Unreadable`].
    pub async fn active(&self, key: &SessionKey) -> Result<Option<Login>, Error> {
        match self {
            Self::Memory(memory) => Ok(memory.active(key)),
            Self::Redis(redis) => redis.active(key).await,
        }
    }

    /// The checkpoint stored last.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`], [`Error::Unreadable`].
    pub async fn checkpoint(&self, ticket: &Ticket) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self {
            Self::Memory(memory) => memory.checkpoint(ticket),
            Self::Redis(redis) => redis.checkpoint(ticket).await,
        }
    }

    /// Writes a login that was read as `login.version`, and returns it with its new version. Its time to live
    /// does not change. What has ended stays as it ended.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it changed or ended since, [`Error::NotFound`], [`Error::NotOwner`],
    /// [`Error::TooLarge`], [`Error::Unavailable`].
    ///
    /// # Cancel safety
    /// A dropped call may have happened or not; reading the login tells by its version.
    pub async fn update(&self, login: &Login, checkpoint: CheckpointChange<'_>) -> Result<Login, Error> {
        match checkpoint {
            CheckpointChange::Set(bytes) => check_length(Some(bytes))?,
            CheckpointChange::Keep | CheckpointChange::Clear => {}
        }
        match self {
            Self::Memory(memory) => memory.update(login, checkpoint),
            Self::Redis(redis) => redis.update(login, checkpoint).await,
        }
    }

    /// Notes that something which serves once was used; `false` if it was noted before. `what` is its hash, in
    /// hexadecimal. Forgotten after `ttl`, when it is worth nothing any more.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Unavailable`]: then it must count as used.
    ///
    /// # Cancel safety
    /// A dropped call may have happened or not; asking again then finds it used.
    pub async fn use_once(&self, what: &str, ttl: Duration) -> Result<bool, Error> {
        let ttl = ttl.clamp(TTL_MIN, TTL_MAX);
        match self {
            Self::Memory(memory) => memory.use_once(what, ttl),
            Self::Redis(redis) => redis.use_once(what, ttl).await,
        }
    }

    /// What was used served nobody after all, and may be used again.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it stays used until its time is over.
    pub async fn forget_use(&self, what: &str) -> Result<(), Error> {
        match self {
            Self::Memory(memory) => {
                memory.forget_use(what);
                Ok(())
            }
            Self::Redis(redis) => redis.forget_use(what).await,
        }
    }

    /// Wakes on changes of the login. Begin to watch first, then read it, then wait: nothing is missed.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn watch(&self, ticket: &Ticket) -> Result<Watch, Error> {
        match self {
            Self::Memory(memory) => memory.watch(ticket),
            Self::Redis(redis) => redis.watch(ticket),
        }
    }

    /// Says that this replica still runs these logins, for another `tenure`. Answers in their order.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: whether it does is unknown.
    pub async fn renew(&self, tickets: &[Ticket], tenure: Duration) -> Result<Vec<Standing>, Error> {
        match self {
            Self::Memory(_) => Ok(vec![Standing::Owner; tickets.len()]),
            Self::Redis(redis) => redis.renew(tickets, tenure).await,
        }
    }

    /// Logins that no replica runs, ended ones that nobody finished among them; at most `limit`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Unreadable`].
    pub async fn orphans(&self, limit: u32) -> Result<Vec<Ticket>, Error> {
        match self {
            Self::Memory(_) => Ok(Vec::new()),
            Self::Redis(redis) => redis.orphans(limit).await,
        }
    }

    /// Makes this replica the owner of a login that nobody runs; `None` if somebody does, or if it is gone.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn claim(&self, ticket: &Ticket, tenure: Duration) -> Result<Option<Former>, Error> {
        match self {
            Self::Memory(_) => Ok(None),
            Self::Redis(redis) => redis.claim(ticket, tenure).await,
        }
    }

    /// Leaves a login to any other replica. This one must have stopped acting for it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: others find it when the tenure is over.
    pub async fn let_go(&self, ticket: &Ticket) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => redis.let_go(ticket).await,
        }
    }

    /// Forgets who runs a login that needs nobody any more, and its checkpoint.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: another replica will look after it once more, and find nothing to do.
    pub async fn retire(&self, ticket: &Ticket) -> Result<(), Error> {
        match self {
            Self::Memory(memory) => {
                memory.retire(ticket);
                Ok(())
            }
            Self::Redis(redis) => redis.retire(ticket).await,
        }
    }

    /// Puts a running login back that the tickets lost, as it stands.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::TooLarge`].
    pub async fn restore(
        &self,
        login: &Login,
        checkpoint: Option<&[u8]>,
        ttl: Duration,
    ) -> Result<Restored, Error> {
        check_length(checkpoint)?;
        match self {
            Self::Memory(_) => Ok(Restored::There),
            Self::Redis(redis) => redis.restore(login, checkpoint, ttl.clamp(TTL_MIN, TTL_MAX)).await,
        }
    }

    /// Returns when another replica may have left a login, and now and then without a reason.
    pub async fn orphaned(&self) {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Redis(redis) => redis.orphaned().await,
        }
    }

    /// Hands a request to whichever replica runs the login, and waits for its answer.
    ///
    /// # Errors
    /// [`Error::NobodyListens`] and [`Error::Unavailable`], at `deadline` at the latest. Once a replica has taken
    /// the request up, whether it was carried out is unknown then: read the login.
    pub async fn ask(&self, ticket: &TicketHash, ask: &Ask, deadline: Instant) -> Result<Answer, Error> {
        match self {
            Self::Memory(_) => Err(Error::NobodyListens),
            Self::Redis(redis) => redis.ask(ticket, ask, deadline).await,
        }
    }

    /// The next request for a login that may run here; never returns where there are no others to ask.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn asked(&self) -> Asked {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Redis(redis) => redis.asked().await,
        }
    }

    /// Tells the asker that its request was taken up, and with an answer, what came of it.
    pub async fn reply(&self, id: &str, answer: Option<&Answer>) {
        match self {
            Self::Memory(_) => {}
            Self::Redis(redis) => redis.reply(id, answer).await,
        }
    }

    /// Takes one login from every budget, or from none, unless Telegram asked to wait.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Full`].
    pub async fn spend(&self, pauses: &[Paused], budgets: &[Budget]) -> Result<Spent, Error> {
        match self {
            Self::Memory(memory) => memory.spend(pauses, budgets),
            Self::Redis(redis) => redis.spend(pauses, budgets).await,
        }
    }

    /// Remembers that Telegram asked to wait.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Full`].
    pub async fn pause(&self, paused: &Paused, span: Duration) -> Result<(), Error> {
        let span = span.clamp(TTL_MIN, TTL_MAX);
        match self {
            Self::Memory(memory) => memory.pause(paused, span),
            Self::Redis(redis) => redis.pause(paused, span).await,
        }
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`], at the latest at `deadline`.
    pub async fn ping(&self, deadline: Instant) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => redis.ping(deadline).await,
        }
    }

    /// Why the store does not answer, where that is known: for people, without an address.
    pub fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(redis) => redis.trouble(),
        }
    }

    /// Closes connections and ends the tasks behind them. Calls after it fail; dropping does the same, abruptly.
    pub async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Redis(redis) => redis.close().await,
        }
    }
}

fn check_length(checkpoint: Option<&[u8]>) -> Result<(), Error> {
    match checkpoint {
        Some(bytes) if bytes.len() > CHECKPOINT_LENGTH_MAX => Err(Error::TooLarge),
        Some(_) | None => Ok(()),
    }
}

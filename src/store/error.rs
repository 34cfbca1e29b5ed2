//! Why the store refused or failed, named by what the caller can do.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

use crate::domain::{
    error::{Error as Refusal, Reason},
    time::Timestamp,
};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong in the store. No text of it holds a URL, a password or a row's content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, restarts, or has no connection left. Trying again later helps.
    #[error("the database is not available while {doing}")]
    Unavailable { doing: &'static str, source: Source },
    /// Nothing came back before the caller's deadline. Whether a write happened is unknown.
    #[error("the database did not answer before the deadline while {doing}")]
    Timeout { doing: &'static str },
    /// Row-level security or a missing grant refused. Never happens unless program and policies disagree.
    #[error("the database denied {doing}")]
    Denied { doing: &'static str, source: Source },
    #[error("there is a session of this key or of this authorization already")]
    AlreadyExists,
    #[error("there is no such session")]
    NotFound,
    /// Somebody changed the session since it was read.
    #[error("the session changed since it was read")]
    RevisionStale { current: i64 },
    /// A lease is live, or its connections may still be open.
    #[error("the session is leased or rests after a lease")]
    Leased { remaining: Duration },
    /// A newer login took the session over.
    #[error("the session's login is another one")]
    TicketMoved,
    #[error("the page token was not given for this list")]
    PageToken,
    /// A row that this program cannot have written.
    #[error("a stored row cannot be read: {what}")]
    Corrupt { what: &'static str },
    /// A change that contradicts itself; a defect of the caller.
    #[error("the change contradicts itself: {what}")]
    Contradiction { what: &'static str },
    /// The address of the database cannot be used.
    #[error("the database address is not usable: {rule}")]
    Address { rule: &'static str },
    /// The database must not be used as it is; the text says what to do.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the database failed while {doing}")]
    Failed { doing: &'static str, source: Source },
}

/// Why a start is refused, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "the program connects as a superuser, whom row-level security does not bind; make a plain role (create \
         role usm_app login noinherit) and run `usm migrate up` as the owner so that it may act for tenants"
    )]
    Superuser,
    #[error(
        "the program connects as a role with BYPASSRLS; use a plain role without it (alter role … nobypassrls)"
    )]
    BypassesRls,
    #[error(
        "the program connects as the owner of its tables or a member of it; name the owner in \
         USM_MIGRATE_DATABASE_URL and a plain role in DATABASE_URL"
    )]
    Owner,
    #[error(
        "the login role inherits service_role or usm_tenant, so the policies cannot tell callers apart; run \
         `alter role … noinherit`, on PostgreSQL 16 and newer grant both `with inherit false, set true`"
    )]
    Inherits,
    #[error(
        "the login role may not act as service_role and usm_tenant; run `usm migrate up` as the owner, or grant \
         both to it"
    )]
    RolesMissing,
    #[error("row-level security is not enabled and forced on every table; run `usm migrate up` as the owner")]
    RlsOff,
    #[error(
        "the database answers commits before they are durable (synchronous_commit = off), so a crash could forget a \
         lease and lend a session twice; run `alter role … set synchronous_commit = on` for the login role"
    )]
    AsynchronousCommit,
    #[error("the database lacks migrations; run `usm migrate up` as the owner")]
    Outdated { pending: Vec<String> },
    #[error("the database was migrated by a newer program; run that version")]
    Newer { unknown: Vec<String> },
    #[error(
        "a pooler in transaction mode is in between, which breaks prepared statements and locks; connect \
         directly or in session mode (Supabase: port 5432 instead of 6543)"
    )]
    TransactionPooler,
    #[error(
        "a pooler in between refuses a start-up parameter; connect directly, or use session mode with \
         `ignore_startup_parameters = extra_float_digits`"
    )]
    PoolerParameters,
    #[error("PostgreSQL is older than 14")]
    ServerTooOld,
    #[error("the database belongs to the Telegram environment {stored:?}, not to {configured:?}")]
    Environment { stored: String, configured: String },
    #[error("sessions exist; take a backup and say --force to drop them")]
    RowsExist,
}

impl Error {
    /// The same for somebody else whom it concerns; of the cause it has the words.
    pub(super) fn again(&self) -> Self {
        let source = || {
            let mut causes = Vec::new();
            let mut cause = std::error::Error::source(self);
            while let Some(error) = cause {
                causes.push(error.to_string());
                cause = error.source();
            }
            Source::from(causes.join(": "))
        };
        match self {
            Self::Unavailable { doing, .. } => Self::Unavailable { doing, source: source() },
            Self::Timeout { doing } => Self::Timeout { doing },
            Self::Denied { doing, .. } => Self::Denied { doing, source: source() },
            Self::AlreadyExists => Self::AlreadyExists,
            Self::NotFound => Self::NotFound,
            Self::RevisionStale { current } => Self::RevisionStale { current: *current },
            Self::Leased { remaining } => Self::Leased { remaining: *remaining },
            Self::TicketMoved => Self::TicketMoved,
            Self::PageToken => Self::PageToken,
            Self::Corrupt { what } => Self::Corrupt { what },
            Self::Contradiction { what } => Self::Contradiction { what },
            Self::Address { rule } => Self::Address { rule },
            Self::Unfit(unfit) => Self::Unfit(unfit.clone()),
            Self::Failed { doing, .. } => Self::Failed { doing, source: source() },
        }
    }

    /// Whether row-level security or a missing grant refused: counted by the metric of denials.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

/// Sorts a failure of the database by what helps against it.
pub(super) fn classify(doing: &'static str) -> impl Fn(DbErr) -> Error {
    move |error| match &error {
        DbErr::ConnectionAcquire(_) => Error::Unavailable { doing, source: error.into() },
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => match kind(cause) {
            Kind::Unavailable => Error::Unavailable { doing, source: error.into() },
            Kind::Denied => Error::Denied { doing, source: error.into() },
            Kind::Timeout => Error::Timeout { doing },
            Kind::RowsExist => Unfit::RowsExist.into(),
            Kind::Duplicate => Error::AlreadyExists,
            Kind::Other => Error::Failed { doing, source: error.into() },
        },
        DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } => {
            Error::Corrupt { what: "a column holds another type than expected" }
        }
        _ => Error::Failed { doing, source: error.into() },
    }
}

/// The same for an error that did not pass through SeaORM.
pub(super) fn classify_sqlx(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| match kind(&error) {
        Kind::Unavailable => Error::Unavailable { doing, source: error.into() },
        Kind::Denied => Error::Denied { doing, source: error.into() },
        Kind::Timeout => Error::Timeout { doing },
        Kind::RowsExist => Unfit::RowsExist.into(),
        Kind::Duplicate => Error::AlreadyExists,
        Kind::Other => Error::Failed { doing, source: error.into() },
    }
}

/// SQLite's extended result codes of a row that is there already.
const SQLITE_CONSTRAINT_PRIMARYKEY: u32 = 1555;
const SQLITE_CONSTRAINT_UNIQUE: u32 = 2067;

enum Kind {
    Unavailable,
    Denied,
    Timeout,
    RowsExist,
    /// A unique index: the key, or the fingerprint of the authorization.
    Duplicate,
    Other,
}

fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::Protocol(_) => Kind::Unavailable,
        sqlx::Error::Database(refused) => kind_of_code(refused.code().as_deref().unwrap_or_default()),
        _ => Kind::Other,
    }
}

fn kind_of_code(code: &str) -> Kind {
    // Five characters: an SQLSTATE. Fewer digits: a result code of SQLite, whose low byte is the family.
    if code.len() != 5 {
        let number = code.parse::<u32>().unwrap_or(0);
        if matches!(number, SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE) {
            return Kind::Duplicate;
        }
        return match number & 0xff {
            // Busy, locked, out of memory, interrupted, read-only, I/O error, corrupt, full, cannot open.
            5..=11 | 13 | 14 => Kind::Unavailable,
            _ => Kind::Other,
        };
    }
    match code {
        // Row-level security answers with the code of a missing right.
        "42501" => Kind::Denied,
        "57014" | "55P03" => Kind::Timeout,
        "23505" => Kind::Duplicate,
        "UM001" => Kind::RowsExist,
        // Out of connections; a deadlock or a lost race, which a repetition mends; a transaction that was silent for
        // too long, because this process was stopped.
        "53300" | "40001" | "40P01" | "25P03" => Kind::Unavailable,
        _ if code.starts_with("08") || code.starts_with("57P") || code.starts_with("58") => Kind::Unavailable,
        _ => Kind::Other,
    }
}

/// The way a session's remaining rest is told to callers.
pub(super) fn remaining(free_at: i64, now: i64) -> Duration {
    Timestamp::from_millis(free_at).since(Timestamp::from_millis(now))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match &error {
            Error::Unavailable { .. } => {
                Self::new(Reason::StoreUnavailable, "the database is not available; try again")
                    .retry_after(Duration::from_secs(1))
                    .caused_by(error)
            }
            Error::Timeout { .. } => {
                Self::new(Reason::DeadlineExceeded, "the database did not answer before the deadline")
                    .caused_by(error)
            }
            Error::AlreadyExists => {
                Self::new(Reason::SessionAlreadyExists, "the name or the authorization is in use already")
            }
            Error::NotFound => Self::session_not_found(),
            Error::RevisionStale { current } => Self::new(
                Reason::RevisionStale,
                "the session changed meanwhile; read it again and repeat the request",
            )
            .fact("revision", current),
            Error::Leased { remaining } => Self::new(
                Reason::SessionLeased,
                "the session is leased, or rests after a lease that was not released",
            )
            .retry_after(*remaining),
            Error::TicketMoved => Self::new(
                Reason::TicketSuperseded,
                "a newer login of this session took over; follow that one",
            ),
            Error::PageToken => Self::invalid("page_token", "must be a next_page_token of the same list"),
            Error::Denied { .. }
            | Error::Corrupt { .. }
            | Error::Contradiction { .. }
            | Error::Address { .. }
            | Error::Unfit(_)
            | Error::Failed { .. } => {
                Self::new(Reason::Internal, "an internal error; the log of the service has the cause")
                    .caused_by(error)
            }
        }
    }
}

//! The only way to a query: a transaction under the caller's role and claims, within the caller's deadline.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait as _,
};
use tokio::time::timeout_at;

use crate::{
    domain::{
        caller::{Authority, Caller},
        time::millis,
    },
    store::{Backend, Error, Store, error::classify},
};

/// Sets, for the transaction alone, who acts, where tables are found, and how long a statement, the wait for a lock
/// and a silence in between may last. The last one frees rows that a replica locked which then stopped or vanished:
/// sooner than the shortest lease has to be renewed.
const PROLOGUE: &str = "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true), \
     set_config('search_path', 'usm, public', true), set_config('statement_timeout', $3, true), \
     set_config('lock_timeout', $4, true), set_config('idle_in_transaction_session_timeout', '5000', true)";

/// Where tables are found, as [`PROLOGUE`] sets it: statements that are prepared under another are analysed again.
pub(super) const SEARCH_PATH: &str = "usm, public";

/// How much earlier than the caller's deadline the wait for a connection ends, so that a database that is down
/// is told from one that is slow.
const CONNECT_EARLIER: Duration = Duration::from_millis(5);

/// How often a transaction is begun anew when the pool gave a connection that had died meanwhile.
const BEGIN_ATTEMPTS: u32 = 3;

/// What a transaction will do. SQLite takes its write lock at the start: one that reads first and writes then
/// would fail at once when another wrote in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Store {
    /// A transaction in which only what exists for the caller can be seen or changed. Dropped without
    /// [`commit`], it leaves nothing behind.
    pub(super) async fn begin(
        &self,
        caller: &Caller,
        access: Access,
        doing: &'static str,
    ) -> Result<DatabaseTransaction, Error> {
        self.begin_patiently(caller, access, doing, Duration::ZERO).await
    }

    /// The same, with a bound on the wait for any one lock; zero is no bound but the statement's own.
    pub(super) async fn begin_patiently(
        &self,
        caller: &Caller,
        access: Access,
        doing: &'static str,
        lock_patience: Duration,
    ) -> Result<DatabaseTransaction, Error> {
        let tx = self.begin_as_nobody(caller.deadline, access, doing).await?;
        self.act_as(&tx, caller, doing, lock_patience).await?;
        Ok(tx)
    }

    /// A transaction that has no rights yet; [`Store::act_as`] gives it some.
    pub(super) async fn begin_as_nobody(
        &self,
        deadline: Instant,
        access: Access,
        doing: &'static str,
    ) -> Result<DatabaseTransaction, Error> {
        let connect_by =
            tokio::time::Instant::from_std(deadline.checked_sub(CONNECT_EARLIER).unwrap_or(deadline));
        match timeout_at(connect_by, self.connection_begin(access)).await {
            Ok(begun) => begun.map_err(classify(doing)),
            Err(elapsed) => Err(Error::Unavailable { doing, source: elapsed.into() }),
        }
    }

    /// From here on the transaction sees and changes what this caller may, and nothing of whom it acted for before.
    pub(super) async fn act_as(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        doing: &'static str,
        lock_patience: Duration,
    ) -> Result<(), Error> {
        if self.backend == Backend::Postgres {
            tx.query_one_raw(prologue(caller, lock_patience)).await.map_err(classify(doing))?;
        }
        Ok(())
    }

    async fn connection_begin(&self, access: Access) -> Result<DatabaseTransaction, DbErr> {
        let (pool, mode): (&DatabaseConnection, _) = match access {
            Access::Read => (&self.read, SqliteTransactionMode::Deferred),
            Access::Write => (&self.write, SqliteTransactionMode::Immediate),
        };
        let mut attempt = 1;
        loop {
            let options = TransactionOptions {
                sqlite_transaction_mode: (self.backend == Backend::Sqlite).then_some(mode),
                ..TransactionOptions::default()
            };
            match pool.begin_with_options(options).await {
                // Nothing was asked yet, so nothing is asked twice.
                Err(DbErr::Query(_) | DbErr::Exec(_)) if attempt < BEGIN_ATTEMPTS => attempt += 1,
                done => return done,
            }
        }
    }

    /// Answers whether the database answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Timeout`].
    pub async fn ping(&self, deadline: Instant) -> Result<(), Error> {
        const DOING: &str = "checking that the database answers";
        within(deadline, DOING, async {
            self.read.execute_unprepared("select 1").await.map_err(classify(DOING))?;
            Ok(())
        })
        .await
        .map_err(|error| match error {
            // For a check there is no difference: it is not there in time.
            Error::Timeout { doing } => Error::Unavailable { doing, source: "no answer in time".into() },
            other => other,
        })
    }
}

pub(super) async fn commit(tx: DatabaseTransaction, doing: &'static str) -> Result<(), Error> {
    tx.commit().await.map_err(classify(doing))
}

/// Gives `work` until `deadline` and no longer. What it had begun is rolled back.
pub(super) async fn within<T>(
    deadline: Instant,
    doing: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    if Instant::now() >= deadline {
        return Err(Error::Timeout { doing });
    }
    match timeout_at(tokio::time::Instant::from_std(deadline), work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout { doing }),
    }
}

fn prologue(caller: &Caller, lock_patience: Duration) -> Statement {
    let (role, claims) = identity(&caller.authority);
    // Zero would mean no limit at all.
    let left = millis(caller.deadline.saturating_duration_since(Instant::now())).clamp(1, 600_000);
    Statement::from_sql_and_values(
        DbBackend::Postgres,
        PROLOGUE,
        [role.into(), claims.into(), left.to_string().into(), millis(lock_patience).to_string().into()],
    )
}

/// The role to take and the claims to carry for an authority.
pub(super) fn identity(authority: &Authority) -> (&'static str, String) {
    match authority {
        Authority::Service => ("service_role", serde_json::json!({ "role": "service_role" }).to_string()),
        Authority::Tenant(tenant) => {
            let claims = serde_json::json!({
                "role": "authenticated",
                "tenant_id": tenant.as_str(),
                "app_metadata": { "tenant_id": tenant.as_str() },
            });
            ("usm_tenant", claims.to_string())
        }
    }
}

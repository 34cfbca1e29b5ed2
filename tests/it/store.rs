//! The store on both databases: one suite for what they share, and what only PostgreSQL promises.

mod intake;
mod lending;
mod migrations;
mod outage;
mod policies;
mod protocol;
mod queue;
mod round_trips;
mod sessions;
mod start;
mod validation;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sqlx::Connection as _;
use usm::{
    domain::{
        caller::{Authority, Caller, Scope},
        event::{Kind, NewEvent},
        id::{Holder, LeaseId, RequestId, SessionKey, TenantId},
        lease::{Purpose, Request},
        material::SealedMaterial,
        page::PageRequest,
        secret::Secret,
        session::{Account, AuthorizedReason, Custody, Environment, Session, State},
        time::Timestamp,
    },
    store::{
        Options, Store,
        leases::{Acquire, Grant},
        sessions::{Change, Expected, MaterialChange},
    },
};

use crate::support::postgres::Database;

/// Runs each named function of a suite on both databases.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::store::Place::postgres().await).await;
            })+
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::store::Place::sqlite().await).await;
            })+
        }
    };
}
use on_both;

pub(crate) const GAP: Duration = Duration::from_secs(15);

/// A store with a way around it.
pub(crate) struct Place {
    pub store: Store,
    raw: Raw,
}

enum Raw {
    Postgres(Database),
    Sqlite(Folder),
}

/// Removed with its content.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("usm-it-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("usm.sqlite3")
    }

    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("sqlite://{}", self.database().display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Place {
    pub(crate) async fn postgres() -> Self {
        let database = Database::migrated().await;
        let store = Store::open(options(database.program_url())).await.expect("opens");
        Self { store, raw: Raw::Postgres(database) }
    }

    pub(crate) async fn sqlite() -> Self {
        let folder = Folder::new();
        let store = Store::open(options(folder.url())).await.expect("opens");
        Self { store, raw: Raw::Sqlite(folder) }
    }

    /// Statements past the store, with every right.
    pub(crate) async fn raw(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.raw {
            Raw::Postgres(database) => {
                let mut connection = database.connect("postgres").await;
                sqlx::raw_sql(sql).execute(&mut connection).await.expect("raw SQL");
            }
            Raw::Sqlite(folder) => {
                let mut connection =
                    sqlx::SqliteConnection::connect(folder.url().expose_secret()).await.expect("opens");
                sqlx::raw_sql(sql).execute(&mut connection).await.expect("raw SQL");
                connection.close().await.expect("closes");
            }
        }
    }

    /// The text in the first column of the first row, past the store.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.raw {
            Raw::Postgres(database) => {
                let mut connection = database.connect("postgres").await;
                sqlx::raw_sql("set search_path = usm, public").execute(&mut connection).await.expect("path");
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a text")
            }
            Raw::Sqlite(folder) => {
                let mut connection =
                    sqlx::SqliteConnection::connect(folder.url().expose_secret()).await.expect("opens");
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a text")
            }
        }
    }

    /// Lets time pass for every lease.
    pub(crate) async fn pass(&self, span: Duration) {
        let millis = span.as_millis();
        let waits = match &self.raw {
            Raw::Postgres(_) => "usm.lease_waits",
            Raw::Sqlite(_) => "lease_waits",
        };
        self.raw(&format!(
            "update telegram_sessions set lease_expire_time = lease_expire_time - {millis}, \
             lease_acquire_time = lease_acquire_time - {millis}; \
             update {waits} set seen_time = seen_time - {millis}, deadline = deadline - {millis}"
        ))
        .await;
    }

    /// A usable session with material.
    pub(crate) async fn authorized(&self, tenant: &str, app: &str) -> Session {
        let mut wanted = absent(tenant, app);
        wanted.state = State::Authorized { reason: AuthorizedReason::Imported };
        wanted.account =
            Some(Account { telegram_user_id: 777, username: Some("ann".to_owned()), is_bot: false });
        wanted.dc_id = Some(2);
        wanted.material_version = 1;
        let mut change = change(wanted, Expected::New);
        change.material = MaterialChange::Replace(sealed(1));
        self.store.commit(&service(), change).await.expect("stored")
    }
}

pub(crate) fn options(url: Secret) -> Options {
    let mut options = Options::new(url, Environment::new("sandbox"));
    options.quiet_gap = GAP;
    options
}

pub(crate) fn key(tenant: &str, app: &str) -> SessionKey {
    SessionKey::parse(tenant, app).expect("a key")
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_123)
}

pub(crate) fn service() -> Caller {
    Caller::as_service("service_role", now(), Instant::now() + Duration::from_secs(30))
}

pub(crate) fn tenant(name: &str) -> Caller {
    Caller {
        subject: format!("user:{name}"),
        authority: Authority::Tenant(TenantId::parse(name).expect("a tenant")),
        scopes: Scope::ALL.to_vec(),
        now: now(),
        deadline: Instant::now() + Duration::from_secs(30),
        trace: String::new(),
    }
}

pub(crate) fn absent(tenant: &str, app: &str) -> Session {
    Session::new(key(tenant, app), Custody::Service, Environment::new("sandbox"), now())
}

pub(crate) fn sealed(version: i64) -> SealedMaterial {
    SealedMaterial { bytes: vec![0, 255, 7, 42], key_id: "k1".to_owned(), version }
}

pub(crate) fn change(session: Session, expected: Expected) -> Change {
    Change {
        expected,
        events: vec![NewEvent::of(Kind::Updated, "test").detail("why", "because")],
        ..Change::of(session)
    }
}

pub(crate) fn request(key: &SessionKey, number: u8) -> Request {
    Request {
        key: key.clone(),
        holder: Holder::parse(&format!("worker-{number}")).expect("a holder"),
        ttl: Duration::from_secs(60),
        request_id: None,
        lease_id: LeaseId::from_random([number; 16]),
        purpose: Purpose::Lend,
        queued: false,
    }
}

pub(crate) fn request_id() -> Option<RequestId> {
    RequestId::parse_optional("7b8b2a4e-3f5c-4c8b-9f2d-2f8f0a8a1c11").expect("a UUID")
}

pub(crate) fn granted(answer: Acquire) -> Box<Grant> {
    match answer {
        Acquire::Granted(grant) => grant,
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) fn first_page(size: u32) -> PageRequest {
    PageRequest { size, after: None }
}

pub(crate) fn next_page(size: i32, token: &str) -> PageRequest {
    PageRequest::parse(size, token).expect("a token")
}

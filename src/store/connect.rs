//! Opening the database: addresses, pools, and what has to hold before the first request.

use std::{path::Path, str::FromStr as _, sync::Arc, time::Duration};

use sea_orm::DatabaseConnection;
use sqlx::{
    ConnectOptions as _, Connection as _,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    domain::secret::Secret,
    store::{
        Backend, Error, Options, Store,
        error::{Unfit, classify_sqlx},
        intake::Intake,
        leases::{desk::Desk, express},
        migrate, preflight,
    },
};

/// A connection that rested for longer is asked whether it still lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
const IDLE_MAX: Duration = Duration::from_secs(300);
const LIFE_MAX: Duration = Duration::from_secs(1800);
/// How long a writer of SQLite waits for a writer in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const OPENING: &str = "opening the database";

impl Store {
    /// Connects, and refuses a database that must not be used as it is. SQLite is created and migrated here;
    /// PostgreSQL is migrated by its owner (`usm migrate up`).
    ///
    /// # Errors
    /// [`Error::Unfit`] with the way out, [`Error::Address`] for an unusable address, [`Error::Unavailable`] if
    /// nothing answers.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let store = match Address::parse(&options.url)? {
            Address::Postgres(address) => Self::open_postgres(*address, &options).await?,
            Address::Sqlite(address) => Self::open_sqlite(*address, &options).await?,
        };
        if let Err(error) = store.claim_environment(options.acquire_timeout).await {
            store.close().await;
            return Err(error);
        }
        Ok(store)
    }

    /// Closes the connections, after what is under way. Writes on SQLite reach the file before it returns.
    pub async fn close(&self) {
        self.desk.close().await;
        self.intake.close().await;
        // Closing twice, or a server that went away first, is no failure of the caller's.
        let _ = self.read.close_by_ref().await;
        let _ = self.write.close_by_ref().await;
    }

    async fn open_postgres(address: PgConnectOptions, options: &Options) -> Result<Self, Error> {
        preflight::check(&address, options.acquire_timeout).await?;
        let desk = Arc::new(Desk::new(Backend::Postgres));
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(IDLE_MAX)
            .max_lifetime(LIFE_MAX)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect({
                let desk = Arc::clone(&desk);
                move |connection, _| {
                    let desk = Arc::clone(&desk);
                    Box::pin(async move { express::prepare(connection, &desk.texts).await })
                }
            })
            .connect_lazy_with(address);
        let connection = DatabaseConnection::from(pool);
        Ok(Self {
            backend: Backend::Postgres,
            read: connection.clone(),
            write: connection,
            environment: options.environment.clone(),
            quiet_gap: options.quiet_gap,
            desk,
            intake: Arc::new(Intake::new(Backend::Postgres)),
        })
    }

    async fn open_sqlite(address: SqliteConnectOptions, options: &Options) -> Result<Self, Error> {
        let path = address.get_filename().to_owned();
        keep_private(&path).await?;
        let address = address
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            // What is deleted is overwritten: old material must not stay in free pages.
            .pragma("secure_delete", "on")
            .pragma("temp_store", "memory");
        let pool = |connections: u32| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(options.acquire_timeout)
                .test_before_acquire(false)
        };
        let write = pool(1).connect_with(address.clone()).await.map_err(classify_sqlx(OPENING))?;
        let write = DatabaseConnection::from(write);
        migrate::up_sqlite(&write).await?;
        let read = pool(options.max_connections.max(1)).connect_lazy_with(address.read_only(false));
        Ok(Self {
            backend: Backend::Sqlite,
            read: DatabaseConnection::from(read),
            write,
            environment: options.environment.clone(),
            quiet_gap: options.quiet_gap,
            desk: Arc::new(Desk::new(Backend::Sqlite)),
            intake: Arc::new(Intake::new(Backend::Sqlite)),
        })
    }
}

/// A database address that was understood.
pub(super) enum Address {
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

impl Address {
    /// Errors never repeat the address: it may hold a password.
    pub(super) fn parse(url: &Secret) -> Result<Self, Error> {
        let text = url.expose_secret();
        let (scheme, rest) = text.split_once(':').ok_or(Error::Address { rule: RULE })?;
        // Python programs name their driver too: `postgresql+asyncpg://`.
        match scheme.split('+').next().unwrap_or_default() {
            "postgres" | "postgresql" => {
                let rest = rest.replace("?ssl=", "?sslmode=").replace("&ssl=", "&sslmode=");
                let address = PgConnectOptions::from_str(&format!("postgres:{rest}"))
                    .map_err(|_| Error::Address { rule: RULE })?;
                Ok(Self::Postgres(Box::new(address.application_name("usm").disable_statement_logging())))
            }
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let path = path.split_once('?').map_or(path, |(path, _)| path);
                if path.is_empty() || path.contains(":memory:") {
                    return Err(Error::Address { rule: "SQLite needs the path of a file" });
                }
                let address = SqliteConnectOptions::new().filename(path).disable_statement_logging();
                Ok(Self::Sqlite(Box::new(address)))
            }
            _ => Err(Error::Address { rule: RULE }),
        }
    }
}

const RULE: &str = "must be postgres://user:password@host:port/database or sqlite://path";

/// The database file is readable by its owner alone, from its first byte on; SQLite gives its side files the
/// same permissions.
pub(super) async fn keep_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let path = path.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        Ok::<_, std::io::Error>(())
    })
    .await;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable {
        doing: "creating the database file",
        source,
    };
    match made {
        Ok(result) => result.map_err(|error| failed(error.into())),
        Err(stopped) => Err(failed(stopped.into())),
    }
}

impl Store {
    /// The first start writes which Telegram the database belongs to; every later one must agree.
    async fn claim_environment(&self, patience: Duration) -> Result<(), Error> {
        let stored = self.first_setting(ENVIRONMENT, self.environment.as_str(), patience).await?;
        if stored == self.environment.as_str() {
            return Ok(());
        }
        Err(Unfit::Environment { stored, configured: self.environment.as_str().to_owned() }.into())
    }
}

/// The setting that names the environment.
const ENVIRONMENT: &str = "environment";

/// A plain connection, outside any pool.
pub(super) async fn plain(
    address: &PgConnectOptions,
    patience: Duration,
) -> Result<sqlx::PgConnection, Error> {
    match tokio::time::timeout(patience, address.connect()).await {
        Err(elapsed) => Err(Error::Unavailable { doing: OPENING, source: elapsed.into() }),
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(match &error {
            sqlx::Error::Database(refused) if refused.message().contains("unsupported startup parameter") => {
                Unfit::PoolerParameters.into()
            }
            _ => classify_sqlx(OPENING)(error),
        }),
    }
}

/// The one connection of a migration run, as SeaORM wants it.
pub(super) async fn single(
    address: PgConnectOptions,
    patience: Duration,
) -> Result<DatabaseConnection, Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(patience)
        .connect_with(address)
        .await
        .map_err(classify_sqlx(OPENING))?;
    Ok(DatabaseConnection::from(pool))
}

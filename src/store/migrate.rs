//! Bringing the schema up, down, and telling where it stands. Done by the tables' owner on PostgreSQL, by the
//! program itself on SQLite.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use sqlx::postgres::PgConnectOptions;
use usm_migrations::{LOCK, Migrator, MigratorTrait as _};

use crate::{
    domain::secret::Secret,
    store::{
        Error,
        connect::{Address, keep_private, plain, single},
        error::{Unfit, classify},
        preflight,
    },
};

/// How long one statement of a migration, or the wait for another migration run, may take.
const PATIENCE: Duration = Duration::from_secs(60);
const DOING: &str = "migrating the database";

/// One migration and whether the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    pub applied: bool,
}

/// What a run did, and what is left to an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Migrations applied by this run.
    pub applied: Vec<String>,
    /// SQL for somebody with the right to run it: the program's login role is missing, or this owner may not
    /// grant to it. Holds no secret: the password is left open.
    pub left_to_do: Option<String>,
}

/// Applies every pending migration and lets `program_login` act as the roles of the policies.
///
/// Two runs at once wait for each other. Repeating it is harmless.
///
/// # Errors
/// [`Error::Address`], [`Error::Unavailable`], [`Error::Unfit`] behind a pooler or for a newer schema,
/// [`Error::Failed`] with the database's reason.
pub async fn up(owner: &Secret, program_login: Option<&str>) -> Result<Report, Error> {
    match Address::parse(owner)? {
        Address::Sqlite(address) => {
            keep_private(address.get_filename()).await?;
            let db = sqlite(&address).await?;
            let applied = up_sqlite(&db).await;
            close(db).await;
            Ok(Report { applied: applied?, left_to_do: None })
        }
        Address::Postgres(address) => {
            let db = owner_connection(&address).await?;
            let done = up_postgres(&db, program_login).await;
            close(db).await;
            done
        }
    }
}

/// Takes every migration back. Refuses while sessions exist, unless forced.
///
/// # Errors
/// [`Unfit::RowsExist`], and as [`up`].
pub async fn down(owner: &Secret, rows: Rows) -> Result<Vec<String>, Error> {
    match Address::parse(owner)? {
        Address::Sqlite(address) if !address.get_filename().exists() => Ok(Vec::new()),
        Address::Sqlite(address) => {
            let db = sqlite(&address).await?;
            let done = down_sqlite(&db, rows).await;
            close(db).await;
            done
        }
        Address::Postgres(address) => {
            let db = owner_connection(&address).await?;
            let done = down_postgres(&db, rows).await;
            close(db).await;
            done
        }
    }
}

/// What `down` does about sessions that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Keep,
    Drop,
}

/// Every migration that this program knows, oldest first.
///
/// # Errors
/// As [`up`].
pub async fn status(owner: &Secret) -> Result<Vec<Step>, Error> {
    let applied = match Address::parse(owner)? {
        // A file that nobody made yet is not made by looking.
        Address::Sqlite(address) if !address.get_filename().exists() => Vec::new(),
        Address::Sqlite(address) => read_applied(sqlite(&address).await?).await?,
        Address::Postgres(address) => read_applied(owner_connection(&address).await?).await?,
    };
    Ok(usm_migrations::names()
        .into_iter()
        .map(|name| Step { applied: applied.contains(&name), name })
        .collect())
}

async fn read_applied(db: DatabaseConnection) -> Result<Vec<String>, Error> {
    let applied = applied(&db).await;
    close(db).await;
    applied
}

/// The schema as text for a SQL console on PostgreSQL, with the grants to `program_login`.
pub fn print_sql(program_login: Option<&str>) -> String {
    let mut script = usm_migrations::postgres_script();
    script.push_str("-- The program's own login role; neither owner nor superuser.\n");
    for line in usm_migrations::create_login(program_login.unwrap_or("usm_app"), 0).lines() {
        script.push_str(&format!("-- {line}\n"));
    }
    script
}

/// The login role that an address names.
pub fn login_of(url: &Secret) -> Option<String> {
    match Address::parse(url).ok()? {
        Address::Postgres(address) => Some(address.get_username().to_owned()),
        Address::Sqlite(_) => None,
    }
}

pub(super) async fn up_sqlite(db: &DatabaseConnection) -> Result<Vec<String>, Error> {
    let before = applied(db).await?;
    refuse_newer(&before)?;
    Migrator::up(db, None).await.map_err(classify(DOING))?;
    Ok(usm_migrations::names().into_iter().filter(|name| !before.contains(name)).collect())
}

async fn up_postgres(db: &DatabaseConnection, program_login: Option<&str>) -> Result<Report, Error> {
    lock(db).await?;
    execute(db, usm_migrations::PREPARE_POSTGRES).await?;
    execute(db, usm_migrations::ROLES_POSTGRES).await?;
    let before = applied(db).await?;
    refuse_newer(&before)?;
    Migrator::up(db, None).await.map_err(classify(DOING))?;
    let left_to_do = match program_login {
        None => None,
        Some(login) => grant(db, login).await?,
    };
    let applied = usm_migrations::names().into_iter().filter(|name| !before.contains(name)).collect();
    Ok(Report { applied, left_to_do })
}

/// Lets the login act as the policies' roles; answers the SQL for it where this owner cannot.
async fn grant(db: &DatabaseConnection, login: &str) -> Result<Option<String>, Error> {
    let version = number(db, "select current_setting('server_version_num')::int4 as number", None).await?;
    let exists = "select count(*)::int4 as number from pg_catalog.pg_roles where rolname = $1";
    if number(db, exists, Some(login)).await? == 0 {
        return Ok(Some(usm_migrations::create_login(login, version)));
    }
    // The owner itself must stay without these roles: inheriting service_role would free it from the policies.
    let owner = "select count(*)::int4 as number where current_user = $1";
    if number(db, owner, Some(login)).await? > 0 {
        return Err(Unfit::Owner.into());
    }
    let sql = usm_migrations::grant_to_login(login, version);
    match db.execute_unprepared(&sql).await.map_err(classify(DOING)) {
        Ok(_) => Ok(None),
        Err(Error::Denied { .. }) => Ok(Some(sql)),
        Err(other) => Err(other),
    }
}

async fn down_postgres(db: &DatabaseConnection, rows: Rows) -> Result<Vec<String>, Error> {
    lock(db).await?;
    let before = applied(db).await?;
    refuse_newer(&before)?;
    if before.is_empty() {
        return Ok(before);
    }
    let force = match rows {
        Rows::Keep => "off",
        Rows::Drop => "on",
    };
    execute(db, &format!("select set_config('usm.force_down', '{force}', false)")).await?;
    Migrator::down(db, None).await.map_err(classify(DOING))?;
    Ok(before)
}

async fn down_sqlite(db: &DatabaseConnection, rows: Rows) -> Result<Vec<String>, Error> {
    let before = applied(db).await?;
    refuse_newer(&before)?;
    if before.is_empty() {
        return Ok(before);
    }
    if rows == Rows::Keep
        && number(db, "select count(*) as number from (select 1 from telegram_sessions limit 1)", None)
            .await?
            > 0
    {
        return Err(Unfit::RowsExist.into());
    }
    Migrator::down(db, None).await.map_err(classify(DOING))?;
    Ok(before)
}

async fn applied(db: &DatabaseConnection) -> Result<Vec<String>, Error> {
    let exists = match db.get_database_backend() {
        DbBackend::Postgres => {
            "select count(*)::int4 as number from pg_catalog.pg_class c join pg_catalog.pg_namespace n \
             on n.oid = c.relnamespace where n.nspname = 'usm' and c.relname = 'seaql_migrations'"
        }
        _ => {
            "select count(*) as number from sqlite_master where type = 'table' and name = 'seaql_migrations'"
        }
    };
    if number(db, exists, None).await? == 0 {
        return Ok(Vec::new());
    }
    let sql = "select version as name from seaql_migrations order by version";
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .map_err(classify(DOING))?;
    rows.iter().map(|row| row.try_get("", "name").map_err(classify(DOING))).collect()
}

fn refuse_newer(applied: &[String]) -> Result<(), Error> {
    match preflight::compare(applied) {
        Err(Error::Unfit(Unfit::Outdated { .. })) => Ok(()),
        other => other,
    }
}

/// Held until the connection ends.
async fn lock(db: &DatabaseConnection) -> Result<(), Error> {
    execute(db, &format!("select pg_advisory_lock({LOCK})")).await
}

async fn execute(db: &DatabaseConnection, sql: &str) -> Result<(), Error> {
    db.execute_unprepared(sql).await.map_err(classify(DOING))?;
    Ok(())
}

async fn number(db: &DatabaseConnection, sql: &str, argument: Option<&str>) -> Result<i32, Error> {
    let backend = db.get_database_backend();
    let statement = match argument {
        None => Statement::from_string(backend, sql),
        Some(text) => Statement::from_sql_and_values(backend, sql, [text.into()]),
    };
    let row = db.query_one_raw(statement).await.map_err(classify(DOING))?;
    let row = row.ok_or(Error::Corrupt { what: "a count" })?;
    row.try_get("", "number").map_err(classify(DOING))
}

async fn owner_connection(address: &PgConnectOptions) -> Result<DatabaseConnection, Error> {
    let mut probe = plain(address, PATIENCE).await?;
    preflight::refuse_pooler(&mut probe, address, PATIENCE).await?;
    let _ = sqlx::Connection::close(probe).await;
    let db = single(address.clone(), PATIENCE).await?;
    let limit = PATIENCE.as_millis();
    execute(
        &db,
        &format!(
            "select set_config('search_path', 'usm', false), set_config('lock_timeout', '{limit}', false), \
             set_config('statement_timeout', '{limit}', false), \
             set_config('client_min_messages', 'warning', false)"
        ),
    )
    .await?;
    Ok(db)
}

async fn sqlite(address: &sqlx::sqlite::SqliteConnectOptions) -> Result<DatabaseConnection, Error> {
    use sqlx::sqlite::{SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
    let address = address
        .clone()
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .connect_with(address)
        .await
        .map_err(crate::store::error::classify_sqlx(DOING))?;
    Ok(DatabaseConnection::from(pool))
}

/// The work is done or failed by now; a connection that does not close politely changes neither.
async fn close(db: DatabaseConnection) {
    let _ = tokio::time::timeout(PATIENCE, db.close()).await;
}

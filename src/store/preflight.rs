//! What has to hold on PostgreSQL before the first request: a plain role that the policies bind, a schema that
//! fits, and no pooler that takes the connection away between transactions.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::time::timeout;

use crate::store::{
    Error,
    connect::plain,
    error::{Unfit, classify_sqlx},
};

const DOING: &str = "checking the database at the start";
/// How often the pooler is looked for: a busy one may hand out the same connection by chance.
const POOLER_ROUNDS: u32 = 3;
/// The oldest PostgreSQL that is supported.
const SERVER_VERSION_MIN: i32 = 140_000;

/// Everything about the login role and the tables, from the catalogues: readable by every role, so a missing
/// right gives an answer, not an error. `USAGE` asks what a role has without `SET ROLE`, that is by inheriting.
const FACTS: &str = "
with roles as (
  select (select oid from pg_catalog.pg_roles where rolname = 'service_role') as service,
         (select oid from pg_catalog.pg_roles where rolname = 'usm_tenant') as tenant
), tables as (
  select c.relowner, c.relrowsecurity and c.relforcerowsecurity as bound
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where (n.nspname, c.relname) in (('public', 'telegram_sessions'), ('usm', 'session_material'),
        ('usm', 'session_events'), ('usm', 'settings'), ('usm', 'log_outs'),
        ('usm', 'future_auth_tokens'), ('usm', 'lease_waits'), ('usm', 'paces'),
        ('usm', 'seaql_migrations'))
)
select pg_catalog.current_setting('server_version_num')::int4 as version, me.rolsuper, me.rolbypassrls,
       pg_catalog.current_setting('synchronous_commit') = 'off' as forgetful,
       (select count(*) from tables)::int4 as tables,
       coalesce((select bool_and(bound) from tables), false) as bound,
       coalesce((select bool_or(pg_catalog.pg_has_role(current_user, relowner, 'MEMBER')) from tables), false)
         as owner,
       coalesce(pg_catalog.pg_has_role(current_user, roles.service, 'USAGE'), false)
         or coalesce(pg_catalog.pg_has_role(current_user, roles.tenant, 'USAGE'), false) as inherits,
       coalesce(pg_catalog.pg_has_role(current_user, roles.service, 'MEMBER'), false)
         and coalesce(pg_catalog.pg_has_role(current_user, roles.tenant, 'MEMBER'), false) as member
from pg_catalog.pg_roles me cross join roles where me.rolname = current_user";

/// Tables of the schema, the migrations' own included.
const TABLES: i32 = 9;

/// Refuses what would make the policies void or the program fail later.
pub(super) async fn check(address: &PgConnectOptions, patience: Duration) -> Result<(), Error> {
    let mut connection = plain(address, patience).await?;
    refuse_pooler(&mut connection, address, patience).await?;
    let checked = bounded(patience, check_role(&mut connection)).await;
    // The answer counts; a connection that does not close politely is dropped.
    let _ = timeout(patience, connection.close()).await;
    checked
}

async fn check_role(connection: &mut PgConnection) -> Result<(), Error> {
    let facts = sqlx::query(FACTS).fetch_one(&mut *connection).await.map_err(classify_sqlx(DOING))?;
    let flag = |name: &str| facts.try_get::<bool, _>(name).map_err(classify_sqlx(DOING));
    let number = |name: &str| facts.try_get::<i32, _>(name).map_err(classify_sqlx(DOING));
    if number("version")? < SERVER_VERSION_MIN {
        return Err(Unfit::ServerTooOld.into());
    }
    if flag("rolsuper")? {
        return Err(Unfit::Superuser.into());
    }
    if flag("rolbypassrls")? {
        return Err(Unfit::BypassesRls.into());
    }
    if flag("owner")? {
        return Err(Unfit::Owner.into());
    }
    // With nothing of ours there, nothing more can be asked.
    if number("tables")? == 0 {
        return Err(Unfit::Outdated { pending: usm_migrations::names() }.into());
    }
    if flag("inherits")? {
        return Err(Unfit::Inherits.into());
    }
    if !flag("member")? {
        return Err(Unfit::RolesMissing.into());
    }
    check_migrations(connection).await?;
    if number("tables")? < TABLES {
        return Err(Unfit::Outdated { pending: usm_migrations::names() }.into());
    }
    if !flag("bound")? {
        return Err(Unfit::RlsOff.into());
    }
    if flag("forgetful")? {
        return Err(Unfit::AsynchronousCommit.into());
    }
    Ok(())
}

async fn check_migrations(connection: &mut PgConnection) -> Result<(), Error> {
    let mut tx = connection.begin().await.map_err(classify_sqlx(DOING))?;
    sqlx::query("select set_config('role', 'service_role', true)")
        .execute(&mut *tx)
        .await
        .map_err(classify_sqlx(DOING))?;
    let applied: Vec<String> = sqlx::query_scalar("select version::text from usm.seaql_migrations")
        .fetch_all(&mut *tx)
        .await
        .map_err(classify_sqlx(DOING))?;
    tx.rollback().await.map_err(classify_sqlx(DOING))?;
    compare(&applied)
}

/// Every migration that this program knows is applied, and no other.
pub(super) fn compare(applied: &[String]) -> Result<(), Error> {
    let known = usm_migrations::names();
    let unknown: Vec<String> = applied.iter().filter(|name| !known.contains(name)).cloned().collect();
    if !unknown.is_empty() {
        return Err(Unfit::Newer { unknown }.into());
    }
    let pending: Vec<String> = known.into_iter().filter(|name| !applied.contains(name)).collect();
    if pending.is_empty() { Ok(()) } else { Err(Unfit::Outdated { pending }.into()) }
}

/// Two connections to a server are two processes there, each the same one before and after the other works. A
/// pooler in transaction mode gives the same process to both, or another one to the first.
///
/// Simple queries only: such a pooler breaks prepared ones.
pub(super) async fn refuse_pooler(
    first: &mut PgConnection,
    address: &PgConnectOptions,
    patience: Duration,
) -> Result<(), Error> {
    let mut second = plain(address, patience).await?;
    let mut found = false;
    for _ in 0..POOLER_ROUNDS {
        let before = bounded(patience, process(first)).await?;
        simple(&mut second, "begin", patience).await?;
        let other = bounded(patience, process(&mut second)).await?;
        // With a single server connection this one would wait for the other's transaction.
        found = before == other || before != bounded(patience, process(first)).await?;
        simple(&mut second, "rollback", patience).await?;
        if found {
            break;
        }
    }
    let _ = timeout(patience, second.close()).await;
    if found { Err(Unfit::TransactionPooler.into()) } else { Ok(()) }
}

async fn simple(connection: &mut PgConnection, sql: &'static str, patience: Duration) -> Result<(), Error> {
    bounded(patience, async {
        match sqlx::raw_sql(sql).execute(connection).await {
            Ok(_) => Ok(()),
            // A pooler that gives a connection for single statements knows no transactions at all.
            Err(sqlx::Error::Database(refused)) if refused.message().contains("pooling mode") => {
                Err(Unfit::TransactionPooler.into())
            }
            Err(error) => Err(classify_sqlx(DOING)(error)),
        }
    })
    .await
}

async fn process(connection: &mut PgConnection) -> Result<String, Error> {
    let row = sqlx::raw_sql("select pg_backend_pid()::text as process")
        .fetch_one(connection)
        .await
        .map_err(classify_sqlx(DOING))?;
    row.try_get("process").map_err(classify_sqlx(DOING))
}

async fn bounded<T>(patience: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(patience, work).await {
        Ok(result) => result,
        Err(elapsed) => Err(Error::Unavailable { doing: DOING, source: elapsed.into() }),
    }
}

//! Migrations: up, down, status, and what they leave in place.

use sqlx::Connection as _;
use usm::{
    domain::secret::Secret,
    store::{
        Error, Store,
        error::Unfit,
        migrate::{self, Rows},
        sessions::Expected,
    },
};

use super::{Folder, absent, change, options, service};
use crate::support::postgres::{Database, OWNER, PROGRAM};

async fn applied(url: &Secret) -> Vec<bool> {
    migrate::status(url).await.expect("status").into_iter().map(|step| step.applied).collect()
}

async fn goes_up_and_down_and_up(url: &Secret, store_url: &Secret) {
    assert!(applied(url).await.iter().all(|applied| !applied));
    let first = migrate::up(url, Some(PROGRAM)).await.expect("up");
    assert!(!first.applied.is_empty() && first.left_to_do.is_none(), "{first:?}");
    let second = migrate::up(url, Some(PROGRAM)).await.expect("up again");
    assert!(second.applied.is_empty(), "{second:?}");
    assert!(applied(url).await.iter().all(|applied| *applied));
    let store = Store::open(options(store_url.clone())).await.expect("opens");
    store.commit(&service(), change(absent("acme", "a"), Expected::New)).await.expect("new");
    store.close().await;
    let refused = migrate::down(url, Rows::Keep).await;
    assert!(matches!(refused, Err(Error::Unfit(Unfit::RowsExist))), "{refused:?}");
    assert!(applied(url).await.iter().all(|applied| *applied), "a refusal changes nothing");
    migrate::down(url, Rows::Drop).await.expect("down");
    assert!(applied(url).await.iter().all(|applied| !applied));
    assert!(migrate::down(url, Rows::Keep).await.expect("nothing left").is_empty());
    migrate::up(url, Some(PROGRAM)).await.expect("up after down");
    migrate::down(url, Rows::Keep).await.expect("no rows, no refusal");
    migrate::up(url, Some(PROGRAM)).await.expect("up after down");
    let store = Store::open(options(store_url.clone())).await.expect("opens");
    store.commit(&service(), change(absent("acme", "a"), Expected::New)).await.expect("new");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_goes_up_and_down_and_up() {
    let database = Database::empty().await;
    goes_up_and_down_and_up(&database.owner_url(), &database.program_url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_goes_up_and_down_and_up() {
    let folder = Folder::new();
    std::fs::write(folder.database(), "").expect("an empty file");
    goes_up_and_down_and_up(&folder.url(), &folder.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_wait_for_each_other() {
    let database = Database::empty().await;
    let run = || {
        let url = database.owner_url();
        tokio::spawn(async move { migrate::up(&url, Some(PROGRAM)).await })
    };
    let runs: Vec<_> = (0..4).map(|_| run()).collect();
    let mut applied = 0;
    for run in runs {
        applied += run.await.expect("no panic").expect("up").applied.len();
    }
    assert_eq!(applied, usm_migrations::names().len(), "each migration ran once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_login_role_is_left_to_the_operator() {
    let database = Database::empty().await;
    let report = migrate::up(&database.owner_url(), Some("usm nobody")).await.expect("up");
    let sql = report.left_to_do.expect("something to do");
    assert!(sql.contains("create role \"usm nobody\" login noinherit"), "{sql}");
    assert!(sql.contains("grant service_role, usm_tenant to \"usm nobody\""), "{sql}");
    let owner = migrate::up(&database.owner_url(), Some(OWNER)).await;
    assert!(matches!(owner, Err(Error::Unfit(Unfit::Owner))), "{owner:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_script_makes_the_same_schema() {
    let (migrated, printed) = (Database::migrated().await, Database::empty().await);
    let mut owner = printed.connect(OWNER).await;
    let script = migrate::print_sql(Some(PROGRAM));
    sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut owner).await.expect("runs in a console");
    owner.close().await.expect("closes");
    assert!(applied(&printed.owner_url()).await.iter().all(|applied| *applied));
    let mut schemas = Vec::new();
    for database in [&migrated, &printed] {
        let mut connection = database.connect("postgres").await;
        let schema: Vec<String> = sqlx::query_scalar(
            "select table_schema || '.' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable \
             from information_schema.columns where table_schema in ('public', 'usm') \
             union all select relname || ' ' || coalesce(relacl::text, '-') || relrowsecurity || relforcerowsecurity \
             from pg_class c join pg_namespace n on n.oid = relnamespace where nspname in ('public', 'usm') \
             union all select tablename || ' ' || policyname || roles::text || cmd || coalesce(qual, '-') \
             || coalesce(with_check, '-') from pg_policies order by 1",
        )
        .fetch_all(&mut connection)
        .await
        .expect("answers");
        schemas.push(schema);
    }
    assert_eq!(schemas[0], schemas[1]);
    let again = migrate::up(&printed.owner_url(), Some(PROGRAM)).await.expect("nothing to do");
    assert!(again.applied.is_empty());
    Store::open(options(printed.program_url())).await.expect("opens").close().await;
}

/// What Supabase does to every new table, and the rights its roles must not keep.
#[tokio::test(flavor = "multi_thread")]
async fn default_privileges_and_present_roles_change_nothing() {
    let database = Database::empty().await;
    database
        .admin(&format!(
            "alter default privileges for role {OWNER} grant all on tables to anon, authenticated, service_role; \
             alter default privileges for role {OWNER} grant all on sequences to anon, authenticated, service_role; \
             alter default privileges for role {OWNER} grant all on functions to anon, authenticated, service_role; \
             alter default privileges for role {OWNER} in schema public grant all on tables to public, anon;"
        ))
        .await;
    migrate::up(&database.owner_url(), Some(PROGRAM)).await.expect("up");
    let mut connection = database.connect("postgres").await;
    let too_much: Vec<String> = sqlx::query_scalar(
        "select r || ' ' || p || ' ' || t from unnest(array['anon', 'authenticated', 'public']) r, \
         unnest(array['insert', 'update', 'delete', 'truncate', 'references', 'trigger', 'select']) p, \
         unnest(array['public.telegram_sessions', 'usm.session_material', 'usm.session_events', 'usm.settings', \
         'usm.seaql_migrations']) t where has_table_privilege(r, t, p) \
         union all select 'service_role ' || p || ' events' from unnest(array['update', 'delete', 'truncate']) p \
         where has_table_privilege('service_role', 'usm.session_events', p) \
         union all select r || ' uses usm' from unnest(array['anon', 'authenticated']) r \
         where has_schema_privilege(r, 'usm', 'usage')",
    )
    .fetch_all(&mut connection)
    .await
    .expect("answers");
    assert!(too_much.is_empty(), "{too_much:?}");
    Store::open(options(database.program_url())).await.expect("opens").close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_exist_are_left_as_they_are() {
    let database = Database::empty().await;
    let roles = "select string_agg(rolname || rolinherit || rolcanlogin || rolbypassrls, ' ' order by rolname) \
                 from pg_roles where rolname in ('anon', 'authenticated', 'service_role', 'usm_tenant')";
    let mut connection = database.connect("postgres").await;
    let before: String = sqlx::query_scalar(roles).fetch_one(&mut connection).await.expect("answers");
    migrate::up(&database.owner_url(), Some(PROGRAM)).await.expect("up");
    let after: String = sqlx::query_scalar(roles).fetch_one(&mut connection).await.expect("answers");
    assert_eq!(before, after);
    assert!(before.contains("usm_tenantfalsefalsefalse"), "{before}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_left_alone() {
    let database = Database::migrated().await;
    database.admin("insert into usm.seaql_migrations values ('m9999_of_the_future', 0)").await;
    let newer = |error: &Error| matches!(error, Error::Unfit(Unfit::Newer { unknown }) if unknown.len() == 1);
    let up = migrate::up(&database.owner_url(), None).await.expect_err("newer");
    assert!(newer(&up), "{up:?}");
    let down = migrate::down(&database.owner_url(), Rows::Drop).await.expect_err("newer");
    assert!(newer(&down), "{down:?}");
    let open = Store::open(options(database.program_url())).await.expect_err("newer");
    assert!(newer(&open), "{open:?}");
}

//! Row-level security on PostgreSQL: what each role can do with raw SQL, past every filter of the program.

use sqlx::{Connection as _, PgConnection};
use usm::{
    domain::event::{Kind, NewEvent},
    store::{
        Error, Store,
        sessions::{Expected, MaterialChange},
    },
};

use super::{absent, change, options, sealed, service, tenant};
use crate::support::postgres::{Database, OWNER, PROGRAM};

/// Two tenants with a session, material and an event each.
async fn two_tenants() -> Database {
    let database = Database::migrated().await;
    let store = Store::open(options(database.program_url())).await.expect("opens");
    for name in ["acme", "rival"] {
        let mut new = change(absent(name, "app"), Expected::New);
        new.session.material_version = 1;
        new.material = MaterialChange::Replace(sealed(1));
        new.events = vec![NewEvent::of(Kind::Updated, "test")];
        store.commit(&service(), new).await.expect("new");
    }
    store.close().await;
    database
}

/// The outcome of one statement as `role` with these claims: rows touched, or the SQLSTATE of the refusal.
async fn act(database: &Database, role: &str, claims: &str, sql: &str) -> Result<u64, String> {
    let mut connection = database.connect("postgres").await;
    let outcome = attempt(&mut connection, role, claims, sql).await;
    connection.close().await.expect("closes");
    outcome
}

async fn attempt(connection: &mut PgConnection, role: &str, claims: &str, sql: &str) -> Result<u64, String> {
    let mut tx = connection.begin().await.expect("begins");
    sqlx::query("select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)")
        .bind(claims)
        .bind(role)
        .execute(&mut *tx)
        .await
        .expect("takes the role");
    let result = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await;
    let outcome = match result {
        Ok(done) => Ok(done.rows_affected()),
        Err(sqlx::Error::Database(refused)) => Err(refused.code().unwrap_or_default().into_owned()),
        Err(other) => panic!("{other}"),
    };
    tx.rollback().await.expect("rolls back");
    outcome
}

const ACME: &str = r#"{"role":"authenticated","app_metadata":{"tenant_id":"acme"}}"#;
const ACME_ON_TOP: &str = r#"{"role":"authenticated","tenant_id":"acme"}"#;
const TORN: &str = r#"{"role":"authenticated","tenant_id":"acme","app_metadata":{"tenant_id":"rival"}}"#;
const NOBODY: &str = r#"{"role":"authenticated"}"#;
const DENIED: &str = "42501";

fn denied() -> Result<u64, String> {
    Err(DENIED.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn usm_tenant_reaches_the_rows_of_its_tenant_alone() {
    let database = two_tenants().await;
    let as_acme = |sql: &'static str| act(&database, "usm_tenant", ACME, sql);
    for table in ["public.telegram_sessions", "usm.session_material", "usm.session_events"] {
        let select = format!("select * from {table}");
        assert_eq!(act(&database, "usm_tenant", ACME, &select).await, Ok(1), "{table}");
        assert_eq!(act(&database, "usm_tenant", ACME_ON_TOP, &select).await, Ok(1), "{table}");
        for claims in [TORN, NOBODY, "", "{}"] {
            assert_eq!(act(&database, "usm_tenant", claims, &select).await, Ok(0), "{table} with {claims}");
        }
    }
    let theirs = "where tenant_id = 'rival'";
    for sql in [
        format!("update public.telegram_sessions set revision = 9 {theirs}"),
        format!("delete from public.telegram_sessions {theirs}"),
        format!("update usm.session_material set key_id = 'x' {theirs}"),
        format!("delete from usm.session_material {theirs}"),
    ] {
        assert_eq!(act(&database, "usm_tenant", ACME, &sql).await, Ok(0), "{sql}");
    }
    assert_eq!(as_acme("update public.telegram_sessions set revision = 9").await, Ok(1));
    assert_eq!(as_acme("update public.telegram_sessions set tenant_id = 'rival'").await, denied());
    assert_eq!(
        as_acme(
            "insert into public.telegram_sessions (tenant_id, app_id, state, state_reason, custody, environment, \
             revision, material_version, labels, create_time, update_time) \
             values ('rival', 'new', 'ABSENT', '', 'SERVICE', 'sandbox', 1, 0, '{}', 0, 0)"
        )
        .await,
        denied()
    );
    assert_eq!(
        as_acme("insert into usm.session_material values ('rival', 'app', 9, 'k', '\\x00', 0)").await,
        denied()
    );
    assert_eq!(
        as_acme(
            "insert into usm.session_events (tenant_id, app_id, kind, reason, actor, details, time) \
             values ('rival', 'app', 'updated', '', 'me', '{}', 0)"
        )
        .await,
        denied()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_or_removes_an_event() {
    let database = two_tenants().await;
    for role in ["usm_tenant", "service_role", "authenticated", "anon"] {
        for sql in [
            "update usm.session_events set reason = 'x'",
            "delete from usm.session_events",
            "truncate usm.session_events",
            "insert into usm.session_events (sequence, tenant_id, app_id, kind, reason, actor, details, time) \
             values (-1, 'acme', 'app', 'updated', '', 'me', '{}', 0)",
        ] {
            assert_eq!(act(&database, role, ACME, sql).await, denied(), "{role}: {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn supabases_roles_read_harmless_columns_of_their_tenant() {
    let database = two_tenants().await;
    let harmless = "select tenant_id, app_id, state, state_reason, custody, environment, telegram_user_id, \
                    username, is_bot, dc_id, labels, revision, create_time, update_time, last_validated_time, \
                    last_activity_time from public.telegram_sessions";
    for role in ["authenticated", "anon"] {
        assert_eq!(act(&database, role, ACME, harmless).await, Ok(1), "{role}");
        for claims in ["", "{}", NOBODY, TORN] {
            assert_eq!(act(&database, role, claims, harmless).await, Ok(0), "{role} with {claims}");
        }
        for column in [
            "*",
            "lease_id_hash",
            "lease_holder",
            "lease_subject",
            "lease_request_id",
            "lease_epoch",
            "lease_expire_time",
            "login_ticket",
            "fingerprint",
            "legacy_fingerprint",
            "material_version",
            "prior_state",
            "api_key_alias",
        ] {
            let sql = format!("select {column} from public.telegram_sessions");
            assert_eq!(act(&database, role, ACME, &sql).await, denied(), "{role}: {column}");
        }
        for sql in [
            "insert into public.telegram_sessions (tenant_id, app_id) values ('acme', 'x')",
            "update public.telegram_sessions set state = 'REVOKED'",
            "delete from public.telegram_sessions",
            "truncate public.telegram_sessions cascade",
            "select * from usm.session_material",
            "select * from usm.session_events",
            "select * from usm.settings",
            "select * from usm.seaql_migrations",
            "select usm.tenant()",
        ] {
            assert_eq!(act(&database, role, ACME, sql).await, denied(), "{role}: {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_bound_as_well() {
    let database = two_tenants().await;
    for table in ["public.telegram_sessions", "usm.session_material", "usm.session_events", "usm.settings"] {
        let select = format!("select * from {table}");
        assert_eq!(act(&database, OWNER, ACME, &select).await, Ok(0), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_alone_can_do_nothing_and_its_role_ends_with_the_transaction() {
    let database = two_tenants().await;
    let mut connection = database.connect(PROGRAM).await;
    let bare = sqlx::query("select app_id from public.telegram_sessions").execute(&mut connection).await;
    assert!(bare.is_err(), "without a role there are no rights");
    let inside = attempt(&mut connection, "service_role", "{}", "select * from usm.session_material").await;
    assert_eq!(inside, Ok(2));
    let user: String = sqlx::query_scalar(
        "select current_user::text || coalesce(current_setting('request.jwt.claims', true), '')",
    )
    .fetch_one(&mut connection)
    .await
    .expect("answers");
    assert_eq!(user, PROGRAM, "role and claims are gone after the transaction");
    let mut tx = connection.begin().await.expect("begins");
    sqlx::query("set local role usm_tenant").execute(&mut *tx).await.expect("takes the role");
    sqlx::query("reset role").execute(&mut *tx).await.expect("resets");
    let after = sqlx::query("select * from usm.session_material").execute(&mut *tx).await;
    assert!(after.is_err(), "behind a reset there is the bare login again");
    tx.rollback().await.expect("rolls back");
    let owner = sqlx::query(sqlx::AssertSqlSafe(format!("set role {OWNER}"))).execute(&mut connection).await;
    assert!(owner.is_err(), "the program cannot become the owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_have_the_names_others_rely_on() {
    let database = Database::migrated().await;
    let mut connection = database.connect("postgres").await;
    let policies: Vec<String> = sqlx::query_scalar(
        "select policyname || ':' || array_to_string(roles, ',') from pg_policies \
         where schemaname = 'public' and tablename = 'telegram_sessions' order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("answers");
    assert_eq!(
        policies,
        [
            "service_role_bypass:service_role",
            "tenant_isolation_anon:anon",
            "tenant_isolation_authenticated:authenticated,usm_tenant",
        ]
    );
    let open: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind = 'r' and n.nspname in ('public', 'usm') \
         and not (relrowsecurity and relforcerowsecurity)",
    )
    .fetch_all(&mut connection)
    .await
    .expect("answers");
    assert!(open.is_empty(), "tables without forced row-level security: {open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_told_from_other_failures() {
    let database = Database::migrated().await;
    let store = Store::open(options(database.program_url())).await.expect("opens");
    let denied = store.set_setting(&tenant("acme"), "x", "1").await.expect_err("not a tenant's to write");
    assert!(denied.is_denied(), "{denied:?}");
    database.admin("revoke select on public.telegram_sessions from usm_tenant").await;
    let denied = store.get(&tenant("acme"), &super::key("acme", "a")).await.expect_err("no right");
    assert!(matches!(denied, Error::Denied { .. }), "{denied:?}");
}

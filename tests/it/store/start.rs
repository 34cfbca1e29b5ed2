//! What a start refuses, and how it leaves the files of SQLite.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use usm::{
    domain::{secret::Secret, session::Environment},
    store::{Backend, Error, Store, error::Unfit, migrate},
};

use super::{Folder, options};
use crate::support::postgres::{Database, OWNER, PROGRAM, PgBouncer};

async fn refused(url: Secret) -> Unfit {
    match Store::open(options(url)).await {
        Err(Error::Unfit(unfit)) => unfit,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_policies_do_not_bind_are_refused() {
    let database = Database::migrated().await;
    let name = &database.name;
    database
        .admin(&format!(
            "create role {name}_bypass login noinherit bypassrls; \
             create role {name}_heir login inherit; grant service_role, usm_tenant to {name}_heir; \
             create role {name}_member login noinherit; grant {OWNER} to {name}_member; \
             create role {name}_stranger login noinherit;"
        ))
        .await;
    assert_eq!(refused(database.url("postgres")).await, Unfit::Superuser);
    assert_eq!(refused(database.owner_url()).await, Unfit::Owner);
    assert_eq!(refused(database.url(&format!("{name}_bypass"))).await, Unfit::BypassesRls);
    assert_eq!(refused(database.url(&format!("{name}_heir"))).await, Unfit::Inherits);
    assert_eq!(refused(database.url(&format!("{name}_member"))).await, Unfit::Owner);
    assert_eq!(refused(database.url(&format!("{name}_stranger"))).await, Unfit::RolesMissing);
    let store = Store::open(options(database.program_url())).await.expect("the plain role is welcome");
    assert_eq!(store.backend(), Backend::Postgres);
    store.close().await;
    database
        .admin(&format!(
            "drop role {name}_bypass; drop role {name}_heir; drop role {name}_member; drop role {name}_stranger"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_migrations_is_refused() {
    let database = Database::empty().await;
    let unfit = refused(database.program_url()).await;
    assert!(matches!(unfit, Unfit::Outdated { pending } if !pending.is_empty()));
    migrate::up(&database.owner_url(), Some(PROGRAM)).await.expect("up");
    database.admin("delete from usm.seaql_migrations").await;
    assert!(matches!(refused(database.program_url()).await, Unfit::Outdated { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_forced_security_is_refused() {
    let database = Database::migrated().await;
    database.admin("alter table usm.session_material no force row level security").await;
    assert_eq!(refused(database.program_url()).await, Unfit::RlsOff);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_forgets_commits_is_refused() {
    let database = Database::migrated().await;
    let name = &database.name;
    database.admin(&format!("alter database {name} set synchronous_commit = off")).await;
    assert_eq!(refused(database.program_url()).await, Unfit::AsynchronousCommit);
    database.admin(&format!("alter database {name} set synchronous_commit = local")).await;
    Store::open(options(database.program_url())).await.expect("opens").close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_refused() {
    let database = Database::migrated().await;
    for (mode, fits) in [("transaction", false), ("statement", false), ("session", true)] {
        let Some(pooler) = PgBouncer::start(database.cluster, mode).await else {
            // The package is part of the test machine; without it there is nothing to prove here.
            return;
        };
        let url = Secret::new(format!("postgres://{PROGRAM}@127.0.0.1:{}/{}", pooler.port, database.name));
        match Store::open(options(url)).await {
            Ok(store) if fits => store.close().await,
            Err(Error::Unfit(Unfit::TransactionPooler)) if !fits => {}
            other => panic!("{mode}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environment_is_refused() {
    let (database, folder) = (Database::migrated().await, Folder::new());
    for url in [database.program_url(), folder.url()] {
        Store::open(options(url.clone())).await.expect("the first start").close().await;
        Store::open(options(url.clone())).await.expect("the same again").close().await;
        let mut other = options(url);
        other.environment = Environment::new("production");
        let refused = Store::open(other).await;
        let Err(Error::Unfit(Unfit::Environment { stored, configured })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((stored.as_str(), configured.as_str()), ("sandbox", "production"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_address_is_told_without_repeating_it() {
    for url in ["", "nonsense", "mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "sqlite::memory:"] {
        let error = Store::open(options(Secret::new(url))).await.expect_err("unusable");
        assert!(matches!(error, Error::Address { .. }), "{url}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_unavailable_in_time() {
    let mut options = options(Secret::new("postgres://u:hunter2@127.0.0.1:1/d"));
    options.acquire_timeout = Duration::from_secs(2);
    let error = Store::open(options).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_in_the_address_are_understood() {
    let database = Database::migrated().await;
    let url = database.program_url().expose_secret().replace("postgres://", "postgresql+asyncpg://");
    Store::open(options(Secret::new(url))).await.expect("opens").close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlites_files_belong_to_their_owner_alone() {
    let folder = Folder::new();
    std::fs::write(folder.database(), "").expect("a file that was there");
    std::fs::set_permissions(folder.database(), std::fs::Permissions::from_mode(0o644))
        .expect("readable by all");
    let store = Store::open(options(folder.url())).await.expect("opens");
    store
        .commit(
            &super::service(),
            super::change(super::absent("a", "b"), usm::store::sessions::Expected::New),
        )
        .await
        .expect("new");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder.0).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        files += 1;
    }
    assert!(files >= 2, "the database and its log");
    store.close().await;
}

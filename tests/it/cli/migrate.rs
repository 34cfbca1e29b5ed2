//! The database's tables from the command line.

use serde_json::json;

use super::program::{Ran, Service, Usm, run_async};
use crate::support::postgres::Database;

fn migrate(usm: &Usm, args: &[&str]) -> Ran {
    usm.run(&[&["migrate"], args].concat())
}

fn applied(usm: &Usm) -> Vec<bool> {
    let steps = migrate(usm, &["status", "--output", "json"]).done().json();
    steps.as_array().unwrap().iter().map(|step| step["applied"].as_bool().unwrap()).collect()
}

fn up_and_down(usm: &Usm) {
    assert!(applied(usm).iter().all(|applied| !applied));
    migrate(usm, &["up"]).done();
    assert!(applied(usm).iter().all(|applied| *applied));
    assert!(migrate(usm, &["up"]).done().out.contains("nothing to do"));
    migrate(usm, &["down", "--output", "json"]).done();
    assert!(applied(usm).iter().all(|applied| !applied));
    assert!(migrate(usm, &["down"]).done().out.contains("nothing to do"));
    migrate(usm, &["up"]).done();
}

#[test]
fn an_embedded_database_is_made_and_taken_back() {
    let usm = Usm::new();
    assert!(applied(&usm).iter().all(|applied| !applied));
    assert!(!usm.path("data").exists(), "looking made a folder");
    up_and_down(&usm);
    assert!(usm.path("data/usm.sqlite3").exists());
}

#[test]
fn what_a_server_has_open_is_not_migrated_and_rows_are_kept() {
    let service = Service::start();
    service.import("news", 9001);
    migrate(&service.usm, &["down", "--force"]).failed("another process has");
    let usm = service.stop();
    let kept = migrate(&usm, &["down"]);
    assert_eq!(kept.code, 1, "{kept:?}");
    assert!(kept.err.contains("--force"), "{kept:?}");
    assert!(applied(&usm).iter().all(|applied| *applied));
    migrate(&usm, &["down", "--force"]).done();
    assert!(applied(&usm).iter().all(|applied| !applied));
}

#[test]
fn a_database_server_is_migrated_by_its_owner() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = runtime.block_on(Database::empty());
    let usm = Usm::new()
        .with("DATABASE_URL", database.program_url().expose_secret())
        .with("USM_MIGRATE_DATABASE_URL", database.owner_url().expose_secret());
    up_and_down(&usm);

    // What the program then runs on, in a command's own process.
    let usm = usm.without("USM_MIGRATE_DATABASE_URL").with("USM_TELEGRAM", "sandbox");
    usm.run(&["session", "list"]).misused("USM_ENCRYPTION_KEYS");
    let keys = usm.path("keys.json").display().to_string();
    let usm = usm.with("USM_ENCRYPTION_KEYS", keys);
    usm.run(&["session", "list"]).failed("usm keys generate");
    usm.run(&["keys", "generate"]).done();
    assert_eq!(usm.run(&["session", "list", "--output", "json"]).done().json(), json!([]));
}

#[test]
fn the_schema_can_be_run_from_a_console() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = runtime.block_on(Database::empty());
    let sql = migrate(&Usm::new(), &["up", "--print-sql"]).done().out;
    run_async(async {
        use sqlx::Connection as _;
        let url = database.owner_url();
        let mut owner = sqlx::PgConnection::connect(url.expose_secret()).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    });
    let usm = Usm::new().with("DATABASE_URL", database.owner_url().expose_secret());
    assert!(applied(&usm).iter().all(|applied| *applied));
}

#[test]
fn a_database_that_is_away_is_told_in_time_and_without_its_password() {
    let usm = Usm::new().with("DATABASE_URL", "postgres://usm:hunter2@127.0.0.1:1/usm");
    for verb in ["up", "down", "status"] {
        let ran = migrate(&usm, &[verb]).failed("not available");
        assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
    }
}

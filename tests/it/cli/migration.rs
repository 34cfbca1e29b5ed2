//! A whole migration, with everybody killed at random meanwhile, and repeated until it is done.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sqlx::{AssertSqlSafe, Connection as _};

use super::program::{Forge, Service, Usm, run_async};
use crate::support::{postgres::Database, server::JWT_SECRET};

const FILES: u32 = 5_000;
const KILLS: u64 = 6;

/// What a file was, down to its times.
fn sources(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for tenant in fs::read_dir(folder).unwrap() {
        for file in fs::read_dir(tenant.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            found.insert(path.clone(), (fs::read(&path).unwrap(), modified));
        }
    }
    found
}

/// Differs from step to step and not from run to run.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn five_thousand_files_go_in_once_each_whoever_is_killed_meanwhile() {
    go_in_once_each(Usm::new(), |usm, sql| {
        let url = usm.sqlite();
        run_async(async {
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
        })
    });
}

#[test]
fn five_thousand_files_go_into_a_database_server_once_each() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = runtime.block_on(Database::migrated());
    let usm = Usm::new();
    let keys = usm.path("keys.json").display().to_string();
    let usm = usm
        .with("DATABASE_URL", database.program_url().expose_secret())
        .with("USM_ENCRYPTION_KEYS", keys)
        .with("SUPABASE_JWT_SECRET", JWT_SECRET);
    usm.run(&["keys", "generate"]).done();
    go_in_once_each(usm, |_, sql| {
        run_async(async {
            let mut connection = database.connect("postgres").await;
            sqlx::raw_sql("set search_path = usm, public").execute(&mut connection).await.unwrap();
            sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
        })
    });
}

fn go_in_once_each(usm: Usm, number: impl Fn(&Usm, &str) -> i64) {
    let mut service = Service::of(usm);
    let folder = service.usm.path("in");
    let forge = Forge::new();
    for number in 0..FILES {
        forge.write(&folder.join(format!("tenant-{}/bot-{number}.session", number % 5)), number);
    }
    let before = sources(&folder);
    let report = service.usm.path("report.json");
    let args = ["import", "--legacy-stopped", "--output", "json", "--report", report.to_str().unwrap()];
    let args = [&args[..], &["--sessions-dir", folder.to_str().unwrap()]].concat();
    let mut moments = Moments(20_240_229);
    for round in 0..KILLS {
        let import = service.usm.start(&args);
        // Later each time, so that each run comes to where none was before.
        std::thread::sleep(Duration::from_millis(moments.next(400) + 250 * round));
        match round % 3 {
            // The server, under an import that notices and ends by itself.
            0 if round > 0 => {
                let usm = service.crash();
                import.end().failed("the service does not answer");
                // It ended in order, and told so.
                let told: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
                assert!(told["interrupted"].as_str().unwrap().contains("run it again"), "{told}");
                fs::remove_file(&report).unwrap();
                service = Service::of(usm);
            }
            // Both at once.
            1 => {
                drop(import);
                service = Service::of(service.crash());
            }
            _ => drop(import),
        }
        assert!(!report.exists(), "a report is there only when it is whole");
    }
    let last = service.run(&args).done().json();
    assert_eq!(last["files"].as_array().unwrap().len(), FILES as usize);
    let counts = last["counts"].as_object().unwrap();
    let (there, new) = (counts.get("already_there"), counts.get("imported"));
    let count = |of: Option<&serde_json::Value>| of.and_then(serde_json::Value::as_u64).unwrap_or(0);
    assert_eq!(count(there) + count(new), u64::from(FILES), "{counts:?}");
    assert!(count(there) > 0, "the killed ones had brought something: {counts:?}");
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(written, last);

    let usm = service.stop();
    for (sql, wanted) in [
        ("select count(*) from telegram_sessions where state = 'AUTHORIZED' and revision = 1", FILES),
        ("select count(distinct fingerprint) from telegram_sessions", FILES),
        ("select count(*) from session_material", FILES),
        ("select count(*) from session_events where reason = 'imported'", FILES),
        ("select count(distinct tenant_id || '/' || app_id) from session_events", FILES),
        ("select count(*) from session_events where reason <> 'imported'", 0),
    ] {
        assert_eq!(number(&usm, sql), i64::from(wanted), "{sql}");
    }
    assert!(sources(&folder) == before, "the sources are as they were, times included");
    let left: Vec<_> = fs::read_dir(report.parent().unwrap()).unwrap().flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".part")), "{left:?}");
}

//! A private PostgreSQL: one cluster per test process, one migrated template, one database per test.
//!
//! The server runs from Debian's binaries in a temporary folder, as user `postgres` where the tests run as
//! root, since it refuses to run as root. A small shell watches over it: when the test process ends, however
//! it ends, the shell's input ends too, and it stops the server and removes the folder.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use tokio::sync::OnceCell;
use usm::{domain::secret::Secret, store::migrate};

use super::poll;

/// Owns the tables: neither superuser nor exempt from row-level security, like the owner at Supabase.
pub(crate) const OWNER: &str = "usm_owner";
/// What the program logs in as.
pub(crate) const PROGRAM: &str = "usm_app";

const TEMPLATE: &str = "usm_template";
const START_ATTEMPTS: u32 = 5;

static SHARED: OnceCell<Cluster> = OnceCell::const_new();
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A running server.
pub(crate) struct Cluster {
    pub(crate) port: u16,
    folder: PathBuf,
    /// Its input keeps the server alive.
    guard: Mutex<Option<Child>>,
}

impl Cluster {
    /// The one that tests share.
    pub(crate) async fn shared() -> &'static Self {
        SHARED
            .get_or_init(|| async {
                let cluster = Self::start().await;
                cluster.make_roles().await;
                cluster.make_template().await;
                cluster
            })
            .await
    }

    /// One of its own, for tests that kill it.
    pub(crate) async fn start() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("usm-pg-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("private folder");
        if is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(&folder));
        }
        run(as_postgres(&binary("initdb")).arg("-D").arg(folder.join("data")).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]));
        let mut cluster = Self { port: 0, folder, guard: Mutex::new(None) };
        for _ in 0..START_ATTEMPTS {
            cluster.port = free_port();
            if cluster.launch().await {
                return cluster;
            }
        }
        panic!("PostgreSQL does not start: {}", cluster.log());
    }

    /// Starts the server in its folder again, after [`kill`](Self::kill).
    pub(crate) async fn restart(&self) {
        for _ in 0..START_ATTEMPTS {
            if self.launch().await {
                return;
            }
        }
        panic!("PostgreSQL does not start again: {}", self.log());
    }

    /// As a crash does: at once, without a word.
    pub(crate) fn kill(&self) {
        let pid = fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("a running server");
        let pid = pid.lines().next().expect("a process id");
        run(Command::new("kill").args(["-9", pid]));
        let child = self.guard.lock().expect("no panic while held").take();
        if let Some(mut child) = child {
            // The shell sees its server end and goes, leaving the folder.
            let _ = child.wait();
        }
    }

    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements as the superuser.
    pub(crate) async fn admin(&self, database: &str, sql: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres", database)).await.expect("connects");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
        connection.close().await.expect("closes");
    }

    /// Owner and login role, as an operator would make them.
    pub(crate) async fn make_roles(&self) {
        let sql = format!("create role {OWNER} login createrole; create role {PROGRAM} login noinherit;");
        self.admin("postgres", &sql).await;
    }

    async fn make_template(&self) {
        self.admin("postgres", &format!("create database {TEMPLATE} owner {OWNER}")).await;
        let url = Secret::new(self.url(OWNER, TEMPLATE));
        let report = migrate::up(&url, Some(PROGRAM)).await.expect("migrates");
        assert_eq!(report.left_to_do, None);
        self.admin("postgres", &format!("alter database {TEMPLATE} with allow_connections false")).await;
        let busy =
            format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{TEMPLATE}'");
        self.admin("postgres", &busy).await;
    }

    async fn launch(&self) -> bool {
        // Killed outright (137) the server left its folder for a restart; any other end is the last one.
        let script = "exec 3<&0\n\
             \"$@\" </dev/null 3<&- >>\"$LOG\" 2>&1 & server=$!\n\
             (cat <&3 >/dev/null; kill -QUIT $server 2>/dev/null) & watch=$!\n\
             wait $server; status=$?\n\
             kill $watch 2>/dev/null\n\
             if [ $status -ne 137 ]; then rm -rf \"$FOLDER\"; fi\n";
        let server = as_postgres(&binary("postgres"));
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg("sh")
            .arg(server.get_program())
            .args(server.get_args())
            .arg("-D")
            .arg(self.folder.join("data"))
            .arg("-k")
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            // Nothing has to survive a loss of power; what was committed survives a kill of the server.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "shared_buffers=32MB", "-c", "max_connections=200", "-c", "autovacuum=off"])
            .env("LOG", self.folder.join("log"))
            .env("FOLDER", &self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let ready = poll::until("PostgreSQL answers or ends", || {
            let ended = child.try_wait().expect("a child of ours").is_some();
            let url = self.url("postgres", "postgres");
            async move {
                if ended {
                    return Some(false);
                }
                match tokio::time::timeout(Duration::from_secs(2), PgConnection::connect(&url)).await {
                    Ok(Ok(connection)) => {
                        let _ = connection.close().await;
                        Some(true)
                    }
                    _ => None,
                }
            }
        })
        .await;
        if ready {
            *self.guard.lock().expect("no panic while held") = Some(child);
        }
        ready
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// A database of one test.
pub(crate) struct Database {
    pub(crate) cluster: &'static Cluster,
    pub(crate) name: String,
}

impl Database {
    /// Migrated, with the program's login role in place.
    pub(crate) async fn migrated() -> Self {
        let cluster = Cluster::shared().await;
        let database = Self::named(cluster);
        let sql = format!("create database {} template {TEMPLATE} owner {OWNER}", database.name);
        database.create(&sql).await;
        database
    }

    /// Empty, owned by [`OWNER`].
    pub(crate) async fn empty() -> Self {
        let cluster = Cluster::shared().await;
        let database = Self::named(cluster);
        let sql = format!("create database {} owner {OWNER}", database.name);
        database.create(&sql).await;
        database
    }

    fn named(cluster: &'static Cluster) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self { cluster, name: format!("usm_test_{number}") }
    }

    /// Another test's copy may hold the template for a moment.
    async fn create(&self, sql: &str) {
        poll::until("the template can be copied", || async {
            let mut connection =
                PgConnection::connect(&self.cluster.url("postgres", "postgres")).await.expect("connects");
            let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
            connection.close().await.expect("closes");
            done.ok()
        })
        .await;
    }

    pub(crate) fn url(&self, user: &str) -> Secret {
        Secret::new(self.cluster.url(user, &self.name))
    }

    /// What the program gets as DATABASE_URL.
    pub(crate) fn program_url(&self) -> Secret {
        self.url(PROGRAM)
    }

    /// What migrations get as USM_MIGRATE_DATABASE_URL.
    pub(crate) fn owner_url(&self) -> Secret {
        self.url(OWNER)
    }

    /// A raw connection as any login role.
    pub(crate) async fn connect(&self, user: &str) -> PgConnection {
        PgConnection::connect(&self.cluster.url(user, &self.name)).await.expect("connects")
    }

    pub(crate) async fn admin(&self, sql: &str) {
        self.cluster.admin(&self.name, sql).await;
    }
}

/// PgBouncer in front of the shared cluster, in the given pool mode.
pub(crate) struct PgBouncer {
    pub(crate) port: u16,
    child: Child,
    folder: PathBuf,
}

impl PgBouncer {
    /// `None` where the machine lacks it.
    pub(crate) async fn start(cluster: &Cluster, pool_mode: &str) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|p| Path::new(p).exists())?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("usm-bouncer-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let port = free_port();
        let config = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={PROGRAM}\n[pgbouncer]\nlisten_addr=127.0.0.1\n\
             listen_port={port}\nauth_type=any\npool_mode={pool_mode}\nunix_socket_dir=\n\
             ignore_startup_parameters=extra_float_digits\n",
            cluster.port
        );
        fs::write(&config, text).expect("writes");
        if is_root() {
            run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(&folder));
        }
        let child = as_postgres(Path::new(program))
            .arg("-q")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer");
        poll::until("PgBouncer listens", || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Some(Self { port, child, folder })
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

/// Debian keeps each version's programs in a folder of its own; the newest is taken.
fn binary(name: &str) -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort();
    match versions.pop() {
        Some((_, folder)) => folder.join("bin").join(name),
        None => PathBuf::from(name),
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

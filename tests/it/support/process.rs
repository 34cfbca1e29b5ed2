//! `usm serve` as a process of its own: started on free ports with nothing but the settings named here, killed
//! outright, started again on what it left behind.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use tempfile::TempDir;
use usm::vault::KeyRing;

use super::{
    poll,
    postgres::Database,
    redis::Redis,
    server::{self, Client, JWT_SECRET, service_token},
    telegram::TelegramSandbox,
    world::{Shape, World, people},
};

/// The api_hash of the process, which must appear nowhere.
pub(crate) const API_HASH: &str = "5eb63bbbe01eeed093cb22bb8f5acdc3";

/// Starts the program and passes its end on. When standard input closes, which the kernel does for a test process
/// that dies in whatever way, the program is killed outright.
const WRAPPER: &str = r#"
pid=$1
shift
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
echo "$server" > "$pid"
(cat <&3 >/dev/null; kill -KILL "$server" 2>/dev/null) &
watch=$!
wait "$server"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

/// Where the program keeps its data and what it is told, whether it runs or not.
pub(crate) struct Installation {
    folder: TempDir,
    settings: BTreeMap<&'static str, String>,
}

impl Installation {
    /// SQLite, keys made by the program, tickets in the process.
    pub(crate) fn embedded(sandbox: &TelegramSandbox) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut telegram = toml::Table::new();
        let known = sandbox.telegram();
        let dcs = known.addresses().iter().map(|(id, address)| {
            let mut dc = toml::Table::new();
            dc.insert("id".to_owned(), i64::from(*id).into());
            dc.insert("address".to_owned(), address.to_string().into());
            toml::Value::Table(dc)
        });
        telegram.insert("home_dc".to_owned(), 2.into());
        telegram.insert("dc".to_owned(), dcs.collect::<Vec<_>>().into());
        telegram.insert("rsa_keys".to_owned(), vec![sandbox.public_key_pem().to_owned()].into());
        let endpoint = folder.path().join("telegram.toml");
        fs::write(&endpoint, telegram.to_string()).expect("written");
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        let settings = [
            ("USM_DATA_DIR", text(folder.path().join("data"))),
            ("USM_TELEGRAM", text(endpoint)),
            ("USM_LISTEN", "127.0.0.1:0".to_owned()),
            ("USM_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
            ("USM_LEASE_QUIET_GAP", "1".to_owned()),
            ("USM_LOG", "usm=debug,info".to_owned()),
            ("SUPABASE_JWT_SECRET", JWT_SECRET.to_owned()),
            ("TELEGRAM_API_ID_MASTER", "17349".to_owned()),
            ("TELEGRAM_API_HASH_MASTER", API_HASH.to_owned()),
        ];
        Self { folder, settings: settings.into() }
    }

    /// PostgreSQL, Redis, and a key ring that an operator made.
    pub(crate) fn on_servers(sandbox: &TelegramSandbox, database: &Database, redis: &Redis) -> Self {
        let mut installation = Self::embedded(sandbox);
        let ring = installation.folder.path().join("usm.keys");
        KeyRing::create(&ring, usm::app::now()).expect("a key ring");
        installation.set("USM_ENCRYPTION_KEYS", ring.to_str().expect("UTF-8"));
        installation.set("DATABASE_URL", database.program_url().expose_secret());
        installation.set("REDIS_URL", &redis.url());
        installation
    }

    /// Another replica with the same settings, in a folder of its own.
    pub(crate) fn twin(&self) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), settings: self.settings.clone() }
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.settings.insert(name, value.to_owned());
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything it ever printed.
    pub(crate) fn printed(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("log")).expect("it was started")
    }

    /// Starts it and waits until it says where it serves.
    ///
    /// # Panics
    /// When it ends instead.
    pub(crate) async fn start(&self) -> Process {
        let mut process = self.launch();
        let line = poll::until("the program says where it serves", || {
            let ended = process.child.try_wait().expect("a child of ours");
            let line = process.line("serves http://");
            async move {
                assert!(ended.is_none() || line.is_some(), "it ended by itself");
                line
            }
        })
        .await;
        let (_, address) = line.split_once("serves http://").expect("looked for");
        let address = address.split(' ').next().and_then(|address| address.parse().ok());
        process.address = address.unwrap_or_else(|| panic!("an address: {line}"));
        process
    }

    /// Starts it and waits for it to end; answers how, and what it printed.
    pub(crate) async fn start_in_vain(&self) -> (ExitStatus, String) {
        let mut process = self.launch();
        let status = process.ended().await;
        (status, process.text())
    }

    fn launch(&self) -> Process {
        let log = self.folder.path().join("log");
        let file = || OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let begins = file().metadata().expect("there").len();
        let mut child = Command::new("sh")
            .args(["-c", WRAPPER, "usm-serve"])
            .arg(self.folder.path().join("pid"))
            .arg(env!("CARGO_BIN_EXE_usm"))
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .envs(&self.settings)
            .stdin(Stdio::piped())
            .stdout(file())
            .stderr(file())
            .spawn()
            .expect("sh is there");
        let stdin = child.stdin.take();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Process { child, stdin, address, log, begins, pid: self.folder.path().join("pid") }
    }
}

/// The program while it runs; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    address: SocketAddr,
    log: PathBuf,
    /// Where its own lines begin in the log.
    begins: u64,
    pid: PathBuf,
}

impl Process {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection with this token, if any.
    pub(crate) async fn client(&self, token: Option<&str>) -> Client {
        server::client(format!("http://{}", self.address), token).await
    }

    /// Ends it outright, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Sends the program a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = fs::read_to_string(&self.pid).expect("written by the wrapper");
        let told =
            Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().expect("kill is there");
        assert!(told.success(), "it was there to be told");
    }

    async fn ended(&mut self) -> ExitStatus {
        poll::until("the program ends", || {
            let ended = self.child.try_wait().expect("a child of ours");
            async move { ended }
        })
        .await
    }

    fn text(&self) -> String {
        let bytes = fs::read(&self.log).expect("there");
        String::from_utf8_lossy(&bytes[usize::try_from(self.begins).expect("short")..]).into_owned()
    }

    fn line(&self, holding: &str) -> Option<String> {
        let text = self.text();
        // Only whole lines.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().find(|line| line.contains(holding)).map(str::to_owned)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A world around the program in a process of its own.
pub(crate) struct Outside {
    pub(crate) installation: Installation,
    pub(crate) process: Process,
    /// Kept for looking into it.
    pub(crate) database: Option<Database>,
}

impl World<Outside> {
    pub(crate) async fn outside(shape: Shape, settings: &[(&'static str, &str)]) -> Self {
        let sandbox = people(serde_json::json!({})).await;
        let (mut installation, database, redis) = match shape {
            Shape::Embedded => (Installation::embedded(&sandbox), None, None),
            Shape::OnServers => {
                let (database, redis) = (Database::migrated().await, Redis::start());
                (Installation::on_servers(&sandbox, &database, &redis), Some(database), Some(redis))
            }
        };
        for (name, value) in settings {
            installation.set(name, value);
        }
        let process = installation.start().await;
        let client = process.client(Some(&service_token())).await;
        Self::around(sandbox, Outside { installation, process, database }, redis, client)
    }

    /// Kills the program outright.
    pub(crate) fn crash(&mut self) {
        self.server.process.kill();
    }

    /// Starts the program again on what it left behind.
    pub(crate) async fn restart(self) -> Self {
        let Self { sandbox, server: Outside { installation, database, .. }, redis, .. } = self;
        let process = installation.start().await;
        let client = process.client(Some(&service_token())).await;
        Self::around(sandbox, Outside { installation, process, database }, redis, client)
    }
}

//! Running `usm` with an environment of its own, and no longer than a test may take.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use usm::{
    domain::material::{Format, Material},
    formats::{self, Addresses},
};

/// How long one command, or one line of it, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program with a home, a data folder and a folder for temporary files of its own.
pub(super) struct Usm {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

/// A command that ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Usm {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        let variables = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", path("home")),
            ("TMPDIR", path("tmp")),
            ("USM_DATA_DIR", path("data")),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { folder, variables }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// A path in the folder that goes with the test.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The embedded database's address.
    pub(super) fn sqlite(&self) -> String {
        format!("sqlite://{}", self.path("data/usm.sqlite3").display())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_usm"));
        command.args(args).env_clear().envs(&self.variables).current_dir(self.folder.path());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        self.run_with_input(args, "")
    }

    pub(super) fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let out = read_all(child.stdout.take().unwrap());
        let err = read_all(child.stderr.take().unwrap());
        let code = wait(&mut child, args);
        Ran { code, out: out.join().unwrap(), err: err.join().unwrap() }
    }

    /// Leaves the command running; its lines can be read one by one.
    pub(super) fn start(&self, args: &[&str]) -> Running {
        let mut child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, lines) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| told.send(line))
        });
        let err = read_all(child.stderr.take().unwrap());
        Running { child, lines, err: Some(err), args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }
}

impl Ran {
    /// It must have done what it was asked to.
    pub(super) fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It must have failed with these words.
    pub(super) fn failed(self, words: &str) -> Self {
        assert_eq!(self.code, 1, "{self:?}");
        assert!(self.err.contains(words), "«{words}» is not in {self:?}");
        self
    }

    /// It must have been refused as wrong usage with these words.
    pub(super) fn misused(self, words: &str) -> Self {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.err.contains(words), "«{words}» is not in {self:?}");
        self
    }

    /// What it printed, as one JSON document.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command that runs; killed when dropped.
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
    err: Option<JoinHandle<String>>,
    args: Vec<String>,
}

impl Running {
    /// The next line on its standard output.
    pub(super) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(_) => {
                let _ = self.child.kill();
                let err = self.err.take().map(|err| err.join().unwrap()).unwrap_or_default();
                panic!("{:?} printed no further line; on standard error: {err}", self.args)
            }
        }
    }

    /// Lines up to and with the first that holds the text.
    pub(super) fn lines_until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.contains(text)) {
            lines.push(self.line());
        }
        lines
    }

    /// The next step of a command that prints one JSON document a line.
    pub(super) fn step(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Ran {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let code = wait(&mut self.child, &args);
        let out = self.lines.iter().collect::<Vec<_>>().join("\n");
        let err = self.err.take().map(|err| err.join().unwrap()).unwrap_or_default();
        Ran { code, out, err }
    }

    /// As Ctrl-C does.
    pub(super) fn interrupt(self) -> Ran {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut stream: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, args: &[&str]) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `usm serve --sandbox` on free ports, and commands that speak to it.
pub(super) struct Service {
    pub(super) usm: Usm,
    pub(super) admin: u16,
    pub(super) ready: Value,
    pub(super) address: String,
    running: Running,
}

impl Service {
    pub(super) fn start() -> Self {
        Self::of(Usm::new())
    }

    pub(super) fn of(usm: Usm) -> Self {
        let mut running = usm.start(&[
            "serve",
            "--sandbox",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--lease-quiet-gap",
            "1",
        ]);
        let ready = running.step();
        let line = running.line();
        let address = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("http://"));
        let address = address.unwrap_or_else(|| panic!("no address in {line}")).to_owned();
        let admin = u16::try_from(ready["admin"].as_u64().unwrap()).unwrap();
        let usm = usm.with("USM_SERVER", format!("http://{address}"));
        Self { usm, admin, ready, address, running }
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        self.usm.run(args)
    }

    /// Commands see the variable from here on.
    pub(super) fn with(self, name: &str, value: impl Into<String>) -> Self {
        Self { usm: self.usm.with(name, value), ..self }
    }

    /// About one session of the tenant `acme`.
    pub(super) fn about(&self, app: &str, args: &[&str]) -> Ran {
        self.run(&[args, &["--tenant-id", "acme", "--app-id", app]].concat())
    }

    /// Kills the server outright and gives its folder on.
    pub(super) fn crash(self) -> Usm {
        drop(self.running);
        self.usm.without("USM_SERVER")
    }

    /// Ends the server and gives its folder on.
    pub(super) fn stop(self) -> Usm {
        let ran = self.running.interrupt();
        assert_eq!(ran.code, 0, "{ran:?}");
        self.usm.without("USM_SERVER")
    }

    pub(super) fn get(&self, path: &str) -> Value {
        http(self.admin, "GET", path, "")
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Value {
        http(self.admin, "POST", path, &body.to_string())
    }

    /// An account with a ready authorization, as a session of it.
    pub(super) fn authorization(&self, user: i64) -> Material {
        self.post("/users", &serde_json::json!({"id": user, "first_name": "Ada", "dc": 2}));
        let minted = self.post("/mint", &serde_json::json!({"dc": 2, "user_id": user}));
        let key = hex::decode(minted["auth_key"].as_str().unwrap()).unwrap();
        material(&key, minted["port"].as_u64().unwrap())
    }

    /// A session of the tenant `acme` that this service may lend.
    pub(super) fn import(&self, app: &str, user: i64) -> Material {
        let material = self.authorization(user);
        let folder = tempfile::tempdir().unwrap();
        write_session(&folder.path().join("acme").join(format!("{app}.session")), &material);
        self.run(&["import", "--legacy-stopped", "--sessions-dir", folder.path().to_str().unwrap()]).done();
        material
    }
}

fn material(key: &[u8], port: u64) -> Material {
    use usm::domain::material::{AuthKey, DcKey, Device};
    let key = DcKey {
        auth_key: AuthKey::from_slice(key).unwrap(),
        address: Some(([127, 0, 0, 1], u16::try_from(port).unwrap()).into()),
    };
    Material {
        home_dc: 2,
        keys: BTreeMap::from([(2, key)]),
        telegram_user_id: None,
        is_bot: None,
        api_id: 0,
        device: Device::default(),
        proxy: None,
        updates: None,
        channels: std::collections::BTreeMap::new(),
    }
}

/// Makes Telethon files of any number of authorizations that Telegram need not know, quickly.
pub(super) struct Forge {
    template: Vec<u8>,
    key_at: usize,
}

impl Forge {
    pub(super) fn new() -> Self {
        let key = [7; 256];
        let template =
            run_async(formats::write(&material(&key, 443), Format::TelethonSqlite, &Addresses::new()));
        let template = template.unwrap().data.to_vec();
        let key_at = template.windows(256).position(|window| window == key).unwrap();
        Self { template, key_at }
    }

    pub(super) fn file(&self, number: u32) -> Vec<u8> {
        let mut file = self.template.clone();
        file[self.key_at..self.key_at + 4].copy_from_slice(&number.to_be_bytes());
        file
    }

    pub(super) fn write(&self, path: &Path, number: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.file(number)).unwrap();
    }
}

/// Writes a Telethon file, and its folder.
pub(super) fn write_session(path: &Path, material: &Material) {
    let written = run_async(formats::write(material, Format::TelethonSqlite, &Addresses::new())).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &*written.data).unwrap();
}

pub(super) fn run_async<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// One request to a port of this machine; the answer must be 200.
pub(super) fn http(port: u16, method: &str, path: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()))
}

//! A Redis server of its own for each test: on a free port, in a temporary folder, gone with the test process.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use wire::Connection;

pub(crate) use wire::Answer;

pub(crate) mod certificates;
pub(crate) mod deployment;
mod wire;

/// How long a server may take to answer after its start, and to be gone after its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the server in its folder and ends it, folder and all, when standard input closes, which the kernel does
/// for a test process that dies in whatever way.
const WRAPPER: &str = r#"
folder=$1
shift
redis-server "$folder/redis.conf" --dir "$folder" "$@" </dev/null &
server=$!
cat >/dev/null
kill -KILL "$server"
wait "$server"
rm -rf "$folder"
"#;

/// A running (or killed) Redis server.
pub(crate) struct Redis {
    port: u16,
    /// Where the nodes of a cluster speak to each other.
    bus: u16,
    folder: PathBuf,
    order: Order,
    running: Option<Running>,
}

/// What a server is started with beyond what every server is.
#[derive(Clone, Default)]
struct Order {
    arguments: Vec<String>,
    /// Lines of `redis.conf`.
    config: String,
    certificate: Option<certificates::Certificate>,
    /// What lay in its folder before, by name.
    kept: Vec<(&'static str, Vec<u8>)>,
}

struct Running {
    wrapper: Child,
    stdin: Option<ChildStdin>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further command line arguments, such as `--requirepass`, `word`.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_as(Order::of(arguments))
    }

    /// Starts a server that speaks TLS alone and shows this certificate.
    pub(crate) fn start_secured(certificate: &certificates::Certificate, arguments: &[&str]) -> Self {
        Self::start_as(Order { certificate: Some(certificate.clone()), ..Order::of(arguments) })
    }

    fn start_as(order: Order) -> Self {
        let folder = std::env::temp_dir().join(format!("usm-redis-{}", uuid::Uuid::new_v4()));
        let mut redis = Self { port: 0, bus: 0, folder, order, running: None };
        // Between finding a free port and binding it, another server may take it: then look again.
        for _ in 0..5 {
            (redis.port, redis.bus) = (free_port(), free_port());
            if redis.launch() {
                return redis;
            }
        }
        panic!("no redis-server came up; is the package redis-server installed?");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.order.certificate.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}/0", self.port)
    }

    /// Ends the server at once, as a power failure would. Its contents are lost.
    pub(crate) fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        drop(running.stdin.take());
        running.wrapper.wait().unwrap();
    }

    /// Starts the server again, empty, on the port it had.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "redis-server did not come back on its port");
    }

    /// Has it show this certificate from its next start on.
    pub(crate) fn show(&mut self, certificate: &certificates::Certificate) {
        self.order.certificate = Some(certificate.clone());
    }

    /// Has this file in the server's folder survive it.
    pub(crate) fn keep(&mut self, name: &'static str) {
        let contents = std::fs::read(self.folder.join(name)).unwrap();
        self.order.kept.push((name, contents));
    }

    /// Sends one command over a connection of its own and returns its raw answer, for tests that look at Redis
    /// from outside.
    pub(crate) fn command(&self, arguments: &[&str]) -> Answer {
        let mut connection = Connection::open(&self.socket()).expect("a test asks while its Redis runs");
        connection.send(arguments)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.command(&["KEYS", "*"]).texts()
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    fn launch(&mut self) -> bool {
        std::fs::create_dir_all(&self.folder).unwrap();
        std::fs::write(self.folder.join("redis.conf"), &self.order.config).unwrap();
        for (name, contents) in &self.order.kept {
            std::fs::write(self.folder.join(name), contents).unwrap();
        }
        let mut wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "redis"])
            .arg(&self.folder)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.socket())
            .args(self.doors())
            .args(&self.order.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh is there");
        let stdin = wrapper.stdin.take();
        self.running = Some(Running { wrapper, stdin });
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if Connection::open(&self.socket()).is_some_and(|mut it| it.is_ready()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        false
    }

    /// The arguments that say where it listens, and how.
    fn doors(&self) -> Vec<String> {
        let (port, bus) = (self.port.to_string(), self.bus.to_string());
        let mut doors = Vec::new();
        if self.order.arguments.contains(&"--cluster-enabled".to_owned()) {
            doors.extend(["--cluster-port".to_owned(), bus]);
        }
        let Some(certificate) = &self.order.certificate else {
            doors.extend(["--port".to_owned(), port]);
            return doors;
        };
        let secured = ["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"];
        doors.extend(secured.map(str::to_owned));
        for (setting, name, pem) in [
            ("--tls-cert-file", "cert.pem", &certificate.chain),
            ("--tls-key-file", "key.pem", &certificate.key),
            ("--tls-ca-cert-file", "ca.pem", &certificate.authority),
        ] {
            let file = self.folder.join(name);
            std::fs::write(&file, pem).unwrap();
            doors.extend([setting.to_owned(), file.to_str().unwrap().to_owned()]);
        }
        doors
    }
}

impl Order {
    fn of(arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|it| (*it).to_owned()).collect(), ..Self::default() }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks until it is so.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

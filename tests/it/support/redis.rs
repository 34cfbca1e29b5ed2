//! A Redis server of its own for each test: on a free port, in a temporary folder, gone with the test process.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take to answer after its start, and to be gone after its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the server in its folder and ends it, folder and all, when standard input closes, which the kernel does
/// for a test process that dies in whatever way.
const WRAPPER: &str = r#"
folder=$1
shift
redis-server --dir "$folder" "$@" </dev/null &
server=$!
cat >/dev/null
kill -KILL "$server"
wait "$server"
rm -rf "$folder"
"#;

/// A running (or killed) Redis server.
pub(crate) struct Redis {
    port: u16,
    folder: PathBuf,
    extra: Vec<String>,
    running: Option<Running>,
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
    pub(crate) fn start_with(extra: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("usm-redis-{}", uuid::Uuid::new_v4()));
        let extra: Vec<String> = extra.iter().map(|it| (*it).to_owned()).collect();
        let mut redis = Self { port: 0, folder, extra, running: None };
        // Between finding a free port and binding it, another server may take it: then look again.
        for _ in 0..5 {
            redis.port = free_port();
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
        format!("redis://127.0.0.1:{}/0", self.port)
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

    /// Sends one command over a connection of its own and returns its raw answer, for tests that look at Redis
    /// from outside.
    pub(crate) fn command(&self, arguments: &[&str]) -> Answer {
        let mut connection = Connection::open(self.port).expect("a test asks while its Redis runs");
        connection.send(arguments)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.command(&["KEYS", "*"]).texts()
    }

    fn launch(&mut self) -> bool {
        std::fs::create_dir_all(&self.folder).unwrap();
        let mut wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "redis"])
            .arg(&self.folder)
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
                &self.port.to_string(),
            ])
            .args(&self.extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh is there");
        let stdin = wrapper.stdin.take();
        self.running = Some(Running { wrapper, stdin });
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if Connection::open(self.port).is_some_and(|mut it| it.is_ours(&self.folder)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What Redis answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Answer>),
    Refused(String),
}

impl Answer {
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// The answer itself, or the members of a list, as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.bytes().iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
    }

    /// The answer itself, or the members of a list.
    pub(crate) fn bytes(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Number(number) => vec![number.to_string().into_bytes()],
            Self::Bytes(bytes) => vec![bytes.clone()],
            Self::List(members) => members.iter().flat_map(Self::bytes).collect(),
            Self::Refused(error) => panic!("Redis refused: {error}"),
        }
    }
}

struct Connection(TcpStream);

impl Connection {
    fn open(port: u16) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(Self(stream))
    }

    /// Whether the server behind the port is the one just started, and ready.
    fn is_ours(&mut self, folder: &std::path::Path) -> bool {
        match self.send(&["CONFIG", "GET", "dir"]) {
            Answer::List(pair) => pair.iter().any(|it| {
                matches!(it, Answer::Bytes(bytes) if bytes.as_slice() == folder.as_os_str().as_encoded_bytes())
            }),
            // A server with a password says so only when it is up.
            Answer::Refused(error) => error.starts_with("NOAUTH"),
            Answer::Nothing | Answer::Number(_) | Answer::Bytes(_) => false,
        }
    }

    fn send(&mut self, arguments: &[&str]) -> Answer {
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            request.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
        }
        if self.0.write_all(request.as_bytes()).is_err() {
            return Answer::Refused("the connection broke".to_owned());
        }
        self.answer().unwrap_or_else(|error| Answer::Refused(error.to_string()))
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(std::io::Error::other);
        Ok(match kind {
            "+" => Answer::Bytes(rest.into()),
            "-" => Answer::Refused(rest.to_owned()),
            ":" => Answer::Number(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Answer::Nothing,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Answer::Bytes(bytes)
                }
            },
            "*" => {
                let length = number()?.max(0);
                Answer::List((0..length).map(|_| self.answer()).collect::<Result<_, _>>()?)
            }
            other => Answer::Refused(format!("unexpected {other}")),
        })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

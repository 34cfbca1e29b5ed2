//! A sandbox per test, its admin interface, and grammers clients that know its keys.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use grammers_client::Client;
use grammers_client::client::ClientConfiguration;
use grammers_client::sender::{ConnectionParams, InvocationError, NoRetries, SenderPool};
use grammers_client::session::storages::MemorySession;
use grammers_client::session::types::DcOption;
use grammers_client::session::updates::UpdatesLike;
use grammers_client::session::{Session, SessionData};
use grammers_client::tl;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use usm_sandbox::{Config, Sandbox};

/// No single step of a test takes longer.
const STEP_MAX: Duration = Duration::from_secs(20);

pub(crate) const API_ID: i32 = 4;
pub(crate) const API_HASH: &str = "0123456789abcdef0123456789abcdef";

/// Bounds a step of a test.
pub(crate) async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_MAX, step).await.expect("the step ends in time")
}

/// One RSA key for all tests: making one takes a moment.
fn rsa_pem() -> String {
    static PEM: OnceLock<String> = OnceLock::new();
    PEM.get_or_init(|| {
        let made = std::process::Command::new("openssl").args(["genrsa", "2048"]).output();
        String::from_utf8(made.expect("openssl is installed").stdout).expect("a PEM is text")
    })
    .clone()
}

/// A running sandbox.
pub(crate) struct Rig {
    pub(crate) sandbox: Sandbox,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let rsa_pem = config.rsa_pem.clone().or_else(|| config.persist.is_none().then(rsa_pem));
        Self { sandbox: within(Sandbox::start(Config { rsa_pem, ..config })).await.expect("it starts") }
    }

    pub(crate) fn address(&self, dc: i32) -> SocketAddr {
        self.sandbox.dcs()[&dc]
    }

    pub(crate) async fn request(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        within(http(self.sandbox.admin(), method, path, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.request("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.request("POST", path, &body.to_string()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Asks until an answer holds.
    pub(crate) async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let answer = self.get(path).await;
            if holds(&answer) {
                return answer;
            }
            assert!(started.elapsed() < STEP_MAX, "{path} still says {answer}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Names of the API calls of a key.
    pub(crate) async fn calls(&self, key: &str) -> Vec<String> {
        let calls = self.get(&format!("/calls?kind=rpc&key={key}")).await;
        let name = |call: &Value| call["method"].as_str().unwrap_or_default().to_owned();
        calls.as_array().expect("a list").iter().map(name).collect()
    }

    pub(crate) async fn code(&self, phone: &str) -> String {
        let codes = self.get("/codes").await;
        let waiting = codes.as_array().expect("a list").iter().rfind(|code| code["phone"] == phone);
        waiting.and_then(|code| code["code"].as_str()).expect("a code waits").to_owned()
    }

    pub(crate) async fn mint(&self, dc: i32, user: Option<i64>) -> Minted {
        let minted = self.post("/mint", json!({ "dc": dc, "user_id": user })).await;
        let mut auth_key = [0; 256];
        hex::decode_to_slice(minted["auth_key"].as_str().expect("hex"), &mut auth_key).expect("512 digits");
        Minted { id: minted["key"].as_str().expect("a number").to_owned(), auth_key }
    }

    /// A grammers client that starts at a DC and holds a key for every DC.
    pub(crate) async fn client(&self, home: i32) -> Grammers {
        let mut keys = Vec::new();
        for dc in self.sandbox.dcs().keys() {
            keys.push((*dc, self.mint(*dc, None).await));
        }
        let own = keys.iter().find(|(dc, _)| *dc == home).expect("the DC is here").1.id.clone();
        Grammers { key: own, ..Grammers::connect(self, home, &keys) }
    }

    /// A grammers client with one given key.
    pub(crate) fn client_with(&self, dc: i32, key: &Minted) -> Grammers {
        Grammers { key: key.id.clone(), ..Grammers::connect(self, dc, &[(dc, key.clone())]) }
    }
}

/// A ready key.
#[derive(Clone)]
pub(crate) struct Minted {
    pub(crate) id: String,
    pub(crate) auth_key: [u8; 256],
}

/// A grammers client with the task that runs its connections.
pub(crate) struct Grammers {
    pub(crate) client: Client,
    pub(crate) session: Arc<MemorySession>,
    pub(crate) key: String,
    updates: mpsc::Receiver<UpdatesLike>,
    runner: JoinHandle<()>,
}

impl Grammers {
    fn connect(rig: &Rig, home: i32, keys: &[(i32, Minted)]) -> Self {
        let mut data = SessionData { home_dc: home, ..SessionData::default() };
        data.dc_options.clear();
        for (dc, key) in keys {
            let port = rig.address(*dc).port();
            let option = DcOption {
                id: *dc,
                ipv4: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
                ipv6: SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0),
                auth_key: Some(key.auth_key),
            };
            data.dc_options.insert(*dc, option);
        }
        let session = Arc::new(MemorySession::from(data));
        let parameters = ConnectionParams {
            device_model: "Test bench".into(),
            system_version: "1".into(),
            app_version: "1".into(),
            system_lang_code: "en".into(),
            lang_code: "en".into(),
            use_ipv6: false,
            retry_policy: Box::new(NoRetries),
            updates_channel_capacity: NonZeroUsize::MIN.saturating_add(100),
            __non_exhaustive: (),
        };
        let pool = SenderPool::with_configuration(session.clone(), API_ID, parameters);
        let client = Client::with_configuration(pool.handle, ClientConfiguration::default());
        let runner = tokio::spawn(pool.runner.run());
        Self { client, session, key: String::new(), updates: pool.updates, runner }
    }

    pub(crate) async fn invoke<R: tl::RemoteCall>(&self, request: &R) -> Result<R::Return, InvocationError> {
        within(self.client.invoke(request)).await
    }

    /// Who the server says it is talking to.
    pub(crate) async fn me(&self) -> Result<tl::types::User, InvocationError> {
        let id = vec![tl::enums::InputUser::UserSelf];
        match self.invoke(&tl::functions::users::GetUsers { id }).await?.into_iter().next() {
            Some(tl::enums::User::User(user)) => Ok(user),
            other => panic!("no user but {other:?}"),
        }
    }

    pub(crate) fn home(&self) -> i32 {
        self.session.home_dc_id().expect("memory")
    }

    /// As `me`, after a lost connection: calls fail until the client has noticed the loss, but never by the server.
    pub(crate) async fn me_again(&self) -> tl::types::User {
        let started = Instant::now();
        loop {
            match self.me().await {
                Ok(user) => return user,
                Err(InvocationError::Io(_) | InvocationError::Dropped(_)) => {}
                Err(other) => panic!("refused after a lost connection: {other}"),
            }
            assert!(started.elapsed() < STEP_MAX, "the client does not come back");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for an update of the wanted kind.
    pub(crate) async fn update(&mut self, wanted: impl Fn(&tl::enums::Updates) -> bool) {
        within(async {
            loop {
                match self.updates.recv().await.expect("the pool lives") {
                    UpdatesLike::Updates(update) if wanted(&update) => return,
                    _ => {}
                }
            }
        })
        .await;
    }

    /// Closes all its connections.
    pub(crate) async fn close(self) {
        self.client.disconnect();
        within(self.runner).await.expect("the runner ends");
    }
}

/// The name of the error that a call came to.
pub(crate) fn error_of<T: std::fmt::Debug>(result: Result<T, InvocationError>) -> String {
    match result {
        Err(InvocationError::Rpc(error)) => match error.value {
            Some(value) => format!("{} {} {value}", error.code, error.name),
            None => format!("{} {}", error.code, error.name),
        },
        Err(InvocationError::Transport(error)) => format!("transport: {error}"),
        Err(InvocationError::Io(_)) => "io".to_owned(),
        // What grammers makes of -404 at connect: it wants a new key, and does not know this server's RSA key.
        Err(InvocationError::Authentication(_)) => "no such key".to_owned(),
        other => panic!("no error of the server but {other:?}"),
    }
}

async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.expect("the admin interface listens");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream.write_all(body.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    let text = String::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

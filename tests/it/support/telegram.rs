//! A sandbox of Telegram in this process, with its admin interface typed: accounts, phones that scan, faults.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use usm::{
    domain::{
        material::{AuthKey, DcKey, Device, Material},
        secret::Secret,
    },
    telegram::{ApiKey, Telegram, endpoint::Endpoint},
};
use usm_sandbox::{Config, Sandbox};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const API_ID: i32 = 17349;

/// A running sandbox; stops when dropped.
pub(crate) struct TelegramSandbox {
    sandbox: Arc<Sandbox>,
}

/// An account to be made; what is not said is left out.
#[derive(Clone, Copy, Default)]
pub(crate) struct User<'a> {
    pub(crate) id: i64,
    pub(crate) username: Option<&'a str>,
    /// Its home; 2 unless told.
    pub(crate) dc: Option<i32>,
    pub(crate) password: Option<&'a str>,
    pub(crate) hint: Option<&'a str>,
    pub(crate) is_bot: bool,
}

/// What an API call, or a connection (`connect`), is answered with instead of the truth.
#[derive(Clone, Copy)]
pub(crate) enum Fault<'a> {
    Error(&'a str),
    Drop,
    Silent,
    Delay(Duration),
}

/// A key as the sandbox knows it.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// The sandbox's name for it.
    pub(crate) name: Value,
    pub(crate) dc: i64,
    pub(crate) user: Option<i64>,
    pub(crate) pending_2fa: bool,
    pub(crate) open_connections: u64,
    pub(crate) init: Value,
}

impl TelegramSandbox {
    pub(crate) async fn start() -> Self {
        let sandbox = Sandbox::start(Config::default()).await.expect("the sandbox starts on free ports");
        Self { sandbox: Arc::new(sandbox) }
    }

    /// The same sandbox for another view of it; it stops with the last one.
    pub(crate) fn share(&self) -> Self {
        Self { sandbox: self.sandbox.clone() }
    }

    /// With these settings of `POST /config`, such as `{"qr_ttl": 2}`.
    pub(crate) async fn start_with(settings: Value) -> Self {
        let sandbox = Self::start().await;
        sandbox.configure(settings).await;
        sandbox
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.sandbox.admin()
    }

    pub(crate) fn public_key_pem(&self) -> &str {
        self.sandbox.public_key_pem()
    }

    pub(crate) fn address(&self, dc: i32) -> SocketAddr {
        self.sandbox.dcs()[&dc]
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::sandbox(2, self.sandbox.dcs().clone(), &[self.public_key_pem()])
            .expect("the sandbox describes itself well")
    }

    pub(crate) fn telegram(&self) -> Telegram {
        Telegram::new(self.endpoint())
    }

    pub(crate) async fn configure(&self, settings: Value) {
        self.post("/config", settings).await.expect("known settings");
    }

    pub(crate) async fn add(&self, user: User<'_>) {
        let mut body = json!({
            "id": user.id, "first_name": "Test", "dc": user.dc.unwrap_or(2), "is_bot": user.is_bot,
            "phone": format!("99966{}", user.id),
        });
        for (name, value) in [("username", user.username), ("password", user.password), ("hint", user.hint)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        self.post("/users", body).await.expect("a valid account");
    }

    /// A lasting error for all that the account's sessions ask.
    pub(crate) async fn condemn(&self, user: i64, state: &str) {
        self.post("/user_state", json!({"user_id": user, "state": state})).await.expect("a known account");
    }

    /// What a phone does that sees the code.
    pub(crate) async fn scan(&self, url: &Secret, user: i64) -> anyhow::Result<Value> {
        self.post("/scan", json!({"token": url.expose_secret(), "user_id": user})).await
    }

    /// An authorization of the account at its data centre, as material.
    pub(crate) async fn mint(&self, dc: i32, user: i64) -> Material {
        let minted = self.post("/mint", json!({"dc": dc, "user_id": user})).await.expect("a known account");
        let key =
            hex::decode(minted["auth_key"].as_str().expect("a key in hexadecimal")).expect("hexadecimal");
        let key = DcKey { auth_key: AuthKey::from_slice(&key).expect("256 bytes"), address: None };
        Material {
            home_dc: dc,
            keys: [(dc, key)].into(),
            telegram_user_id: Some(user),
            is_bot: Some(false),
            api_id: API_ID,
            device: Device::default(),
            proxy: None,
            updates: None,
            channels: std::collections::BTreeMap::new(),
        }
    }

    /// The next `count` calls of `method` go wrong.
    pub(crate) async fn fault(&self, method: &str, count: u32, fault: Fault<'_>) {
        let mut body = json!({"method": method, "count": count});
        match fault {
            Fault::Error(name) => body["error"] = json!(name),
            Fault::Drop => body["drop"] = json!(true),
            Fault::Silent => body["silent"] = json!(true),
            Fault::Delay(span) => body["delay_ms"] = json!(u64::try_from(span.as_millis()).expect("short")),
        }
        self.post("/fault", body).await.expect("a known fault");
    }

    pub(crate) async fn clear_faults(&self) {
        self.post("/faults_clear", json!({})).await.expect("always possible");
    }

    /// `mode`: an error name, `forget`, `logout`.
    pub(crate) async fn revoke(&self, key: &Key, mode: &str) {
        self.post("/revoke", json!({"key": key.name, "mode": mode})).await.expect("a known key");
    }

    /// Closes all connections.
    pub(crate) async fn kick(&self) {
        self.post("/kick", json!({})).await.expect("always possible");
    }

    pub(crate) async fn keys(&self) -> Vec<Key> {
        let keys = self.get("/keys").await.expect("always there");
        let keys = keys.as_array().cloned().or_else(|| keys["keys"].as_array().cloned());
        keys.expect("a list of keys")
            .into_iter()
            .map(|key| Key {
                dc: key["dc"].as_i64().expect("a number"),
                user: key["user"].as_i64(),
                pending_2fa: !matches!(&key["pending_2fa"], Value::Null | Value::Bool(false)),
                open_connections: match &key["open_connections"] {
                    Value::Array(all) => all.len() as u64,
                    number => number.as_u64().expect("a number or a list"),
                },
                init: key["init"].clone(),
                name: key["key"].clone(),
            })
            .collect()
    }

    /// The keys that are somebody's.
    pub(crate) async fn authorizations(&self) -> Vec<Key> {
        self.keys().await.into_iter().filter(|key| key.user.is_some()).collect()
    }

    /// One of `counters` in `GET /state`, such as `handshakes`.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let state = self.get("/state").await.expect("always there");
        state["counters"][name].as_u64().expect("a counter")
    }

    pub(crate) async fn open_connections(&self) -> u64 {
        let state = self.get("/state").await.expect("always there");
        state["open_connections"].as_u64().expect("a number")
    }

    /// How often `method` was called.
    pub(crate) async fn calls(&self, method: &str) -> usize {
        let calls = self.get(&format!("/calls?method={method}")).await.expect("always there");
        let calls = calls.as_array().cloned().or_else(|| calls["calls"].as_array().cloned());
        calls.expect("a list of calls").len()
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        request(self.admin(), "GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        request(self.admin(), "POST", path, &body.to_string()).await
    }
}

/// A wire between a client and a data centre that can swallow what the server says.
pub(crate) struct Wire {
    address: SocketAddr,
    deaf: watch::Sender<bool>,
    cut: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (deaf, hears) = watch::channel(false);
        let (cut, cuts) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut wires = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (hears, mut cuts) = (hears.clone(), cuts.clone());
                cuts.mark_unchanged();
                wires.spawn(async move {
                    tokio::select! {
                        _ = carry(client, server, hears) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, deaf, cut, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the client hears nothing of what the server says.
    pub(crate) fn deafen(&self) {
        self.deaf.send_replace(true);
    }

    /// Ends all connections; those made later work again.
    pub(crate) fn cut(&self) {
        self.deaf.send_replace(false);
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: SocketAddr, deaf: watch::Receiver<bool>) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let answers = async {
        let mut bytes = vec![0; 4096];
        loop {
            let length = from_server.read(&mut bytes).await?;
            if length == 0 {
                return Ok(());
            }
            if !*deaf.borrow() {
                to_client.write_all(&bytes[..length]).await?;
            }
        }
    };
    tokio::select! {
        sent = tokio::io::copy(&mut from_client, &mut to_server) => sent.map(drop),
        heard = answers => heard,
    }
}

pub(crate) fn api_key() -> ApiKey {
    ApiKey { api_id: API_ID, api_hash: Secret::new("0123456789abcdef0123456789abcdef") }
}

/// Late enough for what is expected to happen.
pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

async fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len(),
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.context("the sandbox does not answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split_ascii_whitespace().nth(1).context("no status")?;
    ensure!(!head.to_ascii_lowercase().contains("transfer-encoding"), "an answer in chunks");
    if status != "200" {
        bail!("{method} {path}: {status} {body}");
    }
    Ok(if body.trim().is_empty() { Value::Null } else { serde_json::from_str(body)? })
}

//! Tickets, in memory and in Redis as operators deploy it: one suite for all.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use usm::{
    domain::{
        error::{Error as Refusal, Reason},
        id::{RequestId, SessionKey, Ticket},
        login::{Failure, Login, Method, QrToken, State},
        material::Device,
        secret::Secret,
        time::Timestamp,
    },
    tickets::{
        CheckpointChange, Created, Error, Memory, Redis as RedisTickets, Settings, SetupError, Tickets,
    },
    vault::{KeyRing, Vault},
};

use crate::support::redis::{
    Redis,
    certificates::Authority,
    deployment::{Cluster, Sentinel},
};

mod deployments;
mod ownership;
mod redis;
mod tls;

const TTL: Duration = Duration::from_secs(60);
const URL: &str = "tg://login?token=c2VjcmV0LXRva2VuLW9mLXRoaXMtdGVzdA";
const HINT: &str = "name of the first dog";
const CHECKPOINT: &[u8] = b"unauthorized key of this login";

/// One form of tickets, with what keeps it alive.
struct Form {
    tickets: Arc<Tickets>,
    home: Home,
    /// What its keys begin with.
    prefix: String,
}

enum Home {
    Process,
    Own(Redis),
    /// What takes seconds to start serves all tests, each under a prefix of its own.
    Cluster(&'static Cluster),
    Sentinel(&'static Sentinel),
    Secured(&'static Redis),
}

impl Form {
    /// In the process, in a Redis, in a Cluster, behind Sentinels, and over TLS.
    async fn all() -> Vec<Self> {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        static SENTINEL: OnceLock<Sentinel> = OnceLock::new();
        static SECURED: OnceLock<(Redis, Authority)> = OnceLock::new();
        let memory = Tickets::Memory(Memory::default());
        let redis = Redis::start();
        let cluster = CLUSTER.get_or_init(|| Cluster::start_of(3, None));
        let sentinel = SENTINEL.get_or_init(|| Sentinel::start_of(1, None));
        let (secured, authority) = SECURED.get_or_init(|| {
            let authority = Authority::new("of this suite");
            (Redis::start_secured(&authority.certify("127.0.0.1"), &[]), authority)
        });
        let prefix = format!("{{usm}}:{}:", uuid::Uuid::new_v4());
        let shared = async |url: String, ca| {
            let settings = Settings { url: Secret::new(url), prefix: prefix.clone(), ca };
            Tickets::Redis(RedisTickets::connect(&settings, vault()).await.unwrap())
        };
        let form = |tickets, home| Self { tickets: Arc::new(tickets), home, prefix: prefix.clone() };
        vec![
            form(memory, Home::Process),
            Self { prefix: String::new(), ..form(connect(&redis, "").await, Home::Own(redis)) },
            form(shared(cluster.url(), None).await, Home::Cluster(cluster)),
            form(shared(sentinel.url(), None).await, Home::Sentinel(sentinel)),
            form(shared(secured.url(), Some(authority.roots())).await, Home::Secured(secured)),
        ]
    }

    /// The servers that hold its keys.
    fn masters(&self) -> &[Redis] {
        match &self.home {
            Home::Process => &[],
            Home::Own(redis) => std::slice::from_ref(redis),
            Home::Cluster(cluster) => &cluster.masters,
            Home::Sentinel(sentinel) => std::slice::from_ref(&sentinel.master),
            Home::Secured(redis) => std::slice::from_ref(redis),
        }
    }

    /// Each key in Redis, with the milliseconds it has left: -1 without an end, -2 once it ended since it was listed.
    fn keys(&self) -> Vec<(String, i64)> {
        let of = |master: &Redis| -> Vec<_> {
            let keys = master.keys().into_iter().filter(|key| key.starts_with(&self.prefix));
            keys.map(|key| (key.clone(), master.command(&["PTTL", &key]).number())).collect()
        };
        self.masters().iter().flat_map(of).collect()
    }

    /// Every key in Redis ends by itself.
    fn check_all_keys_end(&self) {
        let keys = self.keys();
        assert_eq!(keys.is_empty(), matches!(self.home, Home::Process));
        for (key, left) in keys {
            assert!(left != -1, "{key} has no time to live");
        }
    }
}

async fn connect(redis: &Redis, prefix: &str) -> Tickets {
    connect_to(&redis.url(), prefix, vault()).await.unwrap()
}

async fn connect_to(url: &str, prefix: &str, vault: Vault) -> Result<Tickets, SetupError> {
    let settings = Settings { url: Secret::new(url), prefix: prefix.to_owned(), ca: None };
    RedisTickets::connect(&settings, vault).await.map(Tickets::Redis)
}

fn vault() -> Vault {
    let folder: PathBuf = std::env::temp_dir().join(format!("usm-tickets-{}", uuid::Uuid::new_v4()));
    let ring = KeyRing::create(&folder.join("keys.json"), Timestamp::EPOCH).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    Vault::new(ring)
}

fn session(app: &str) -> SessionKey {
    SessionKey::parse("tenant", app).unwrap()
}

fn ticket() -> Ticket {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    Ticket::from_random(bytes)
}

fn login(app: &str) -> Login {
    Login {
        ticket: ticket(),
        key: session(app),
        method: Method::Qr,
        state: State::Starting,
        create_time: Timestamp::from_millis(1_700_000_000_000),
        expire_time: Timestamp::from_millis(1_700_000_600_000),
        expected_user: Some(5_000_000_001),
        api_key_alias: "MASTER".to_owned(),
        device: Device::default(),
        subject: "user:one".to_owned(),
        request_id: None,
        migrated_to: None,
        code_delivery: None,
        password_request: None,
        request_hash: None,
        resend_request: None,
        labels: std::collections::BTreeMap::from([("purpose".to_owned(), "news".to_owned())]),
        version: 0,
    }
}

fn with_request(app: &str, subject: &str, id: &str) -> Login {
    Login { subject: subject.to_owned(), request_id: RequestId::parse_optional(id).unwrap(), ..login(app) }
}

fn qr() -> State {
    State::WaitingQrScan(QrToken { url: Secret::new(URL), expire_time: Timestamp::from_millis(7) })
}

async fn create(tickets: &Tickets, login: &Login) -> (Login, Option<Ticket>) {
    match tickets.create(login, Some(CHECKPOINT), 1, TTL).await.unwrap() {
        Created::New { login, superseded } => (login, superseded),
        Created::Existing(_) | Created::Late => panic!("no such request was made before"),
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(15);
    while !condition().await {
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_login_is_read_back_as_it_was_written() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        let (mut written, superseded) = create(tickets, &login("app")).await;
        assert!(superseded.is_none());
        assert_eq!(written.version, 1);
        let flood = Failure {
            reason: Reason::TelegramFloodWait,
            message: "wait".to_owned(),
            retry_after: Some(Duration::from_secs(9)),
        };
        for state in [
            qr(),
            State::WaitingCode { attempts_left: 4 },
            State::WaitingPassword { hint: Some(HINT.to_owned()), attempts_left: 4 },
            State::Failed(flood),
        ] {
            let migrated_to = Some(4);
            written = tickets
                .update(&Login { state: state.clone(), migrated_to, ..written }, CheckpointChange::Keep)
                .await
                .unwrap();
            let read = tickets.get(&written.ticket).await.unwrap().unwrap();
            assert_eq!(format!("{read:?}"), format!("{written:?}"));
            assert_eq!(read.state, state);
            assert_eq!(read.version, written.version);
        }
        assert_eq!(written.version, 5);
        assert!(tickets.get(&ticket()).await.unwrap().is_none());
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn a_newer_login_supersedes_the_active_one() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        assert!(tickets.active(&session("app")).await.unwrap().is_none());
        let (first, _) = create(tickets, &login("app")).await;
        create(tickets, &login("other")).await;
        let (second, superseded) = create(tickets, &login("app")).await;

        assert!(superseded == Some(first.ticket.clone()));
        let former = tickets.get(&first.ticket).await.unwrap().unwrap();
        assert_eq!(former.state, State::Superseded);
        assert_eq!(former.version, first.version + 1);
        assert!(tickets.active(&session("app")).await.unwrap().unwrap().ticket == second.ticket);
        assert_eq!(tickets.active(&session("other")).await.unwrap().unwrap().state, State::Starting);
        // Who read it before cannot bring it back, and neither can who reads it now.
        for stale in [first, Login { state: qr(), ..former }] {
            let outcome = tickets.update(&stale, CheckpointChange::Clear).await;
            assert!(matches!(outcome, Err(Error::Conflict)));
        }
        let kept = tickets.checkpoint(&superseded.unwrap()).await.unwrap().unwrap();
        assert_eq!(kept.as_slice(), CHECKPOINT, "the orphan can still be logged out");
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn a_login_that_ended_stays_as_it_ended() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        let (started, _) = create(tickets, &login("app")).await;
        let authorized = State::Authorized { telegram_user_id: 5 };
        let done = tickets
            .update(&Login { state: authorized.clone(), ..started }, CheckpointChange::Clear)
            .await
            .unwrap();
        let revived = Login { state: State::Starting, ..done.clone() };
        let again = tickets.update(&revived, CheckpointChange::Keep).await;
        assert!(matches!(again, Err(Error::Conflict)));

        let (_, superseded) = create(tickets, &login("app")).await;
        assert!(superseded.is_none());
        assert_eq!(tickets.get(&done.ticket).await.unwrap().unwrap().state, authorized);
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn of_two_writers_one_wins() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        let (read, _) = create(tickets, &login("app")).await;
        let mine = Login { state: qr(), ..read.clone() };
        let theirs = Login { state: State::Cancelled, ..read };
        let (one, two) = tokio::join!(
            tickets.update(&mine, CheckpointChange::Keep),
            tickets.update(&theirs, CheckpointChange::Keep),
        );
        assert_eq!([&one, &two].iter().filter(|it| it.is_ok()).count(), 1);
        assert_eq!([&one, &two].iter().filter(|it| matches!(it, Err(Error::Conflict))).count(), 1);

        let nobody = tickets.update(&Login { version: 1, ..login("app") }, CheckpointChange::Keep).await;
        assert!(matches!(nobody, Err(Error::NotFound)));
        let taken = tickets.create(&mine, None, 1, TTL).await;
        assert!(matches!(taken, Err(Error::Conflict)));
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn of_twenty_logins_started_at_once_one_stays_active() {
    for form in Form::all().await {
        let started: Vec<_> = (0..20)
            .map(|_| {
                let tickets = form.tickets.clone();
                tokio::spawn(async move { create(&tickets, &login("app")).await })
            })
            .collect();
        let mut superseded = Vec::new();
        let mut created = Vec::new();
        for task in started {
            let (login, former) = task.await.unwrap();
            created.push(login.ticket);
            superseded.extend(former);
        }
        let active = form.tickets.active(&session("app")).await.unwrap().unwrap();
        assert_eq!(active.state, State::Starting);
        assert_eq!(superseded.len(), 19);
        for ticket in created {
            let state = form.tickets.get(&ticket).await.unwrap().unwrap().state;
            let expected = if ticket == active.ticket { State::Starting } else { State::Superseded };
            assert_eq!(state, expected);
        }
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn a_repeated_request_gets_the_login_it_got() {
    const ID: &str = "0b0c1d2e-3f40-4152-8364-758697a8b9ca";
    for form in Form::all().await {
        let tickets = &form.tickets;
        let (first, _) = create(tickets, &with_request("app", "user:one", ID)).await;
        for _ in 0..2 {
            match tickets.create(&with_request("app", "user:one", ID), None, 1, TTL).await.unwrap() {
                Created::Existing(existing) => assert!(existing.ticket == first.ticket),
                Created::New { .. } | Created::Late => panic!("the request was made before"),
            }
        }
        assert!(tickets.active(&session("app")).await.unwrap().unwrap().ticket == first.ticket);
        // Somebody else's request of the same name, or for another session, is another one.
        create(tickets, &with_request("app", "user:two", ID)).await;
        create(tickets, &with_request("other", "user:one", ID)).await;
        assert_eq!(tickets.get(&first.ticket).await.unwrap().unwrap().state, State::Superseded);
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn of_ten_equal_requests_at_once_all_get_one_login() {
    const ID: &str = "1b0c1d2e-3f40-4152-8364-758697a8b9ca";
    for form in Form::all().await {
        let asked: Vec<_> = (0..10)
            .map(|_| {
                let tickets = form.tickets.clone();
                tokio::spawn(async move {
                    match tickets.create(&with_request("app", "user:one", ID), None, 1, TTL).await.unwrap() {
                        Created::New { login, .. } => (1, login.ticket),
                        Created::Existing(login) => (0, login.ticket),
                        Created::Late => panic!("nobody wrote the row later"),
                    }
                })
            })
            .collect();
        let mut new = 0;
        let mut got = Vec::new();
        for task in asked {
            let (count, ticket) = task.await.unwrap();
            new += count;
            got.push(ticket);
        }
        assert_eq!(new, 1);
        assert!(got.iter().all(|ticket| *ticket == got[0]));
    }
}

#[tokio::test]
async fn a_checkpoint_is_kept_replaced_and_cleared() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        let (mut read, _) = create(tickets, &login("app")).await;
        for (change, expected) in [
            (CheckpointChange::Keep, Some(CHECKPOINT)),
            (CheckpointChange::Set(b"next"), Some(b"next".as_slice())),
            (CheckpointChange::Clear, None),
        ] {
            read = tickets.update(&read, change).await.unwrap();
            let stored = tickets.checkpoint(&read.ticket).await.unwrap();
            assert_eq!(stored.as_ref().map(|it| it.as_slice()), expected);
        }
        assert!(matches!(tickets.checkpoint(&ticket()).await, Err(Error::NotFound)));
        let huge = vec![0; 64 * 1024 + 1];
        assert!(matches!(tickets.create(&login("x"), Some(&huge), 1, TTL).await, Err(Error::TooLarge)));
        let update = tickets.update(&read, CheckpointChange::Set(&huge)).await;
        assert!(matches!(update, Err(Error::TooLarge)));
    }
}

#[tokio::test]
async fn all_of_a_login_is_gone_after_its_time() {
    const ID: &str = "2b0c1d2e-3f40-4152-8364-758697a8b9ca";
    for form in Form::all().await {
        let tickets = &form.tickets;
        let short = with_request("app", "user:one", ID);
        let ttl = Duration::from_millis(300);
        let Created::New { login: mut read, .. } =
            tickets.create(&short, Some(CHECKPOINT), 1, ttl).await.unwrap()
        else {
            panic!("no such request was made before")
        };
        read = tickets.update(&Login { state: qr(), ..read }, CheckpointChange::Keep).await.unwrap();
        until("the ticket ends", async || tickets.get(&read.ticket).await.unwrap().is_none()).await;

        assert!(tickets.active(&session("app")).await.unwrap().is_none());
        assert!(matches!(tickets.checkpoint(&read.ticket).await, Err(Error::NotFound)));
        assert!(matches!(tickets.update(&read, CheckpointChange::Keep).await, Err(Error::NotFound)));
        assert_eq!(form.keys(), []);
        let (_, superseded) = create(tickets, &with_request("app", "user:one", ID)).await;
        assert!(superseded.is_none());
        // A span that no clock can name is cut, not refused and not kept for ever.
        tickets.create(&login("long"), None, 1, Duration::MAX).await.unwrap();
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn what_serves_once_serves_one_of_many_at_once() {
    for form in Form::all().await {
        let notes = (0..20).map(|_| form.tickets.use_once("ab12", TTL));
        let notes = futures::future::try_join_all(notes).await.unwrap();
        assert_eq!(notes.iter().filter(|first| **first).count(), 1);
        assert!(form.tickets.use_once("cd34", TTL).await.unwrap());
        form.check_all_keys_end();
        let named = format!("{}replay:ab12", form.prefix);
        let kept = form.keys().into_iter().any(|(key, _)| key == named);
        assert_eq!(kept, !matches!(form.home, Home::Process));
        let short = Duration::from_millis(50);
        assert!(form.tickets.use_once("ef56", short).await.unwrap());
        until("its time is over", || async { form.tickets.use_once("ef56", short).await.unwrap() }).await;
    }
}

#[tokio::test]
async fn a_watch_wakes_on_every_change() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        let (mut read, _) = create(tickets, &login("app")).await;
        let mut watch = tickets.watch(&read.ticket).unwrap();
        let mut other = tickets.watch(&read.ticket).unwrap();
        for state in [qr(), State::WaitingPassword { hint: None, attempts_left: 5 }] {
            let written = tickets.update(&Login { state, ..read }, CheckpointChange::Keep).await.unwrap();
            for watch in [&mut watch, &mut other] {
                follow(tickets, watch, &written.ticket, |login| login.version == written.version).await;
            }
            read = written;
        }
        create(tickets, &login("app")).await;
        follow(tickets, &mut watch, &read.ticket, |login| login.state == State::Superseded).await;
        drop(watch);
        follow(tickets, &mut other, &read.ticket, |login| login.state == State::Superseded).await;
    }
}

/// Waits as the service does: read, then wait for a change, then read again. Fails if a wake is later than any
/// change takes, and well before the recheck that comes without one.
async fn follow(
    tickets: &Tickets,
    watch: &mut usm::tickets::Watch,
    ticket: &Ticket,
    done: impl Fn(&Login) -> bool,
) {
    let work = async {
        while !tickets.get(ticket).await.unwrap().is_some_and(|login| done(&login)) {
            watch.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), work).await.expect("the watch wakes in time");
}

#[tokio::test]
async fn memory_refuses_more_tickets_than_it_has_room_for() {
    let tickets = Tickets::Memory(Memory::with_capacity(2));
    tickets.create(&login("one"), None, 1, Duration::from_millis(200)).await.unwrap();
    create(&tickets, &login("two")).await;
    let refused = tickets.create(&login("three"), None, 1, TTL).await.unwrap_err();
    assert!(matches!(refused, Error::Full));
    let refusal = Refusal::from(refused);
    assert!(refusal.reason == Reason::RateLimited && refusal.retry_after.is_some());
    until("there is room again", async || tickets.create(&login("three"), None, 1, TTL).await.is_ok()).await;
}

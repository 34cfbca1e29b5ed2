//! Several replicas over one PostgreSQL and one Redis, as processes: any of them answers for any login, and killing,
//! stopping or freezing the one that runs it does not end it.

mod deaths;
mod redis_away;
mod together;

use std::time::{Duration, Instant};

use usm_client::v1::{self, LoginState};

use crate::support::{
    poll,
    postgres::Database,
    process::{Installation, Outside, Process},
    redis::Redis,
    server::service_token,
    telegram::TelegramSandbox,
    world::{World, people},
};

/// How long a login may stand still when the replica that ran it has died.
const WITHIN: Duration = Duration::from_secs(10);

/// Replicas of one service. The first is the one that tests put an end to.
pub(crate) struct Replicas {
    pub(crate) first: World<Outside>,
    pub(crate) second: World<Outside>,
    sandbox: TelegramSandbox,
    redis: Redis,
    database: Database,
}

impl Replicas {
    pub(crate) async fn start(settings: &[(&'static str, &str)]) -> Self {
        let sandbox = people(serde_json::json!({})).await;
        let (database, redis) = (Database::migrated().await, Redis::start());
        let mut installation = Installation::on_servers(&sandbox, &database, &redis);
        for (name, value) in settings {
            installation.set(name, value);
        }
        let twin = installation.twin();
        let first = view(&sandbox, installation).await;
        let second = view(&sandbox, twin).await;
        Self { first, second, sandbox, redis, database }
    }

    /// Kills the first replica outright; answers when.
    pub(crate) fn kill_first(&mut self) -> Instant {
        self.first.server.process.kill();
        Instant::now()
    }

    /// How many wait for sessions.
    pub(crate) async fn places(&self) -> i64 {
        let mut connection = self.database.connect("postgres").await;
        let count =
            sqlx::query_scalar("select count(*) from usm.lease_waits").fetch_one(&mut connection).await;
        count.expect("a count")
    }

    /// The login, seen by the replica that is left, once it is in this state.
    async fn becomes(&self, ticket: &str, state: LoginState) -> v1::Login {
        self.second.login_once(ticket, state).await
    }

    /// Waits until so many authorizations are there at Telegram, and checks that none of them was ever used twice at once.
    async fn authorizations_are(&self, count: usize) {
        poll::until("the number of authorizations", || async {
            (self.sandbox.authorizations().await.len() == count).then_some(())
        })
        .await;
        assert_eq!(self.sandbox.counter("duplicates").await, 0);
    }
}

async fn view(sandbox: &TelegramSandbox, installation: Installation) -> World<Outside> {
    let process: Process = installation.start().await;
    let client = process.client(Some(&service_token())).await;
    World::around(sandbox.share(), Outside { installation, process, database: None }, None, client)
}

//! A world with two bots' Mini Apps, and a Telegram that signs what their users open them with.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use usm::{
    domain::{
        id::TenantId,
        miniapp::{AppRule, Bot, BotId, Bots},
        secret::Secret,
    },
    http::miniapp::Callbacks,
};

use super::page::{Answer, Page};
use crate::support::{
    poll,
    server::{Setup, tenant_token},
    world::{Plan, Shape, TENANT, World},
};

/// Proves its users by its token.
pub(super) const WITH_TOKEN: &str = "111";
pub(super) const TOKEN: &str = "111:AAHunter2Hunter2Hunter2Hunter2Hunter2";
/// Proves its users by Telegram's signature.
pub(super) const WITHOUT_TOKEN: &str = "222";
/// Not configured.
pub(super) const STRANGER: &str = "333";
pub(super) const CALLBACK_SECRET: &str = "the-secret-of-back-ends";

pub(super) struct Stage {
    pub(super) world: World,
    pub(super) telegram: Signer,
    pub(super) page: Page,
}

impl Stage {
    pub(super) async fn start(shape: Shape) -> Self {
        Self::set_up(shape, Plan::default(), |_| {}).await
    }

    pub(super) async fn set_up(shape: Shape, plan: Plan, change: impl FnOnce(&mut Setup)) -> Self {
        let telegram = Signer::new();
        let world = World::set_up(shape, plan, |setup| {
            setup.bots = bots();
            setup.public_key = telegram.public_key();
            let tolerance = std::time::Duration::from_secs(300);
            setup.callbacks = Some(Callbacks { secret: Secret::new(CALLBACK_SECRET), tolerance });
            change(setup);
        })
        .await;
        let page = Page::at(world.server.address);
        Self { world, telegram, page }
    }

    /// The Mini App of a bot, opened by a user just now.
    pub(super) fn opened(&self, bot: &str, user: i64) -> Page {
        self.page.with(format!("tma {}", self.telegram.init_data(bot, user, now())))
    }

    /// A login that its page may follow.
    pub(super) async fn started(&self, bot: &str, user: i64, app: &str) -> Followed {
        let answer = self.opened(bot, user).post("/api/qr/start", &json!({"app_id": app})).await;
        Followed::of(&self.page, &answer)
    }

    /// A back end of a tenant.
    pub(super) fn back_end(&self, tenant: &str) -> Page {
        let token = tenant_token(tenant, &[usm::domain::caller::Scope::Login]);
        self.page.with(format!("Bearer {token}"))
    }

    pub(super) async fn scan(&self, login: &Followed, user: i64) {
        self.world.sandbox.scan(&Secret::new(login.qr_url.as_str()), user).await.expect("a valid code");
    }
}

/// A started login, seen with its access token.
pub(super) struct Followed {
    pub(super) ticket: String,
    pub(super) access_token: String,
    pub(super) qr_url: String,
    pub(super) page: Page,
}

impl Followed {
    pub(super) fn of(page: &Page, answer: &Answer) -> Self {
        let started = answer.good();
        let text =
            |name: &str| started[name].as_str().unwrap_or_else(|| panic!("{name}: {started}")).to_owned();
        let access_token = text("access_token");
        Self {
            ticket: text("ticket"),
            qr_url: text("qr_url"),
            page: page.with(format!("Bearer {access_token}")),
            access_token,
        }
    }

    pub(super) async fn status(&self) -> Value {
        self.page.get(&format!("/api/qr/status?ticket={}", self.ticket)).await.good()
    }

    /// The status once the login is in this state.
    pub(super) async fn once(&self, state: &str) -> Value {
        poll::until(state, || async { Some(self.status().await).filter(|status| status["state"] == state) })
            .await
    }

    pub(super) async fn password(&self, password: &str) -> Answer {
        self.page.post("/api/qr/password", &json!({"ticket": self.ticket, "password": password})).await
    }

    pub(super) async fn cancel(&self) -> Answer {
        self.page.post("/api/qr/cancel", &json!({"ticket": self.ticket})).await
    }
}

fn bots() -> Bots {
    let bot = |rules: &[&str], token: Option<&str>| Bot {
        tenant: TenantId::parse(TENANT).expect("sound"),
        apps: rules.iter().map(|rule| AppRule::parse(rule).expect("sound")).collect(),
        token: token.map(Secret::new),
    };
    let id = |text| BotId::parse(text).expect("sound");
    Bots::from([
        (id(WITH_TOKEN), bot(&["news", "user-{user_id}"], Some(TOKEN))),
        (id(WITHOUT_TOKEN), bot(&["*"], None)),
    ])
}

pub(super) fn now() -> i64 {
    usm::app::now().as_seconds()
}

/// Telegram, as far as it signs initData.
pub(super) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(super) fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key"))
    }

    pub(super) fn public_key(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().expect("32 bytes")
    }

    /// What a bot's Mini App is opened with.
    pub(super) fn init_data(&self, bot: &str, user: i64, date: i64) -> String {
        // Only this bot's token is known to anybody here.
        let token = if bot == WITH_TOKEN { TOKEN } else { "of somebody else" };
        // Two openings in one second are two.
        let query = uuid::Uuid::new_v4().simple().to_string();
        let mut fields = vec![
            ("auth_date", date.to_string()),
            ("query_id", query),
            ("user", json!({"id": user, "first_name": "A & B"}).to_string()),
        ];
        let joined = |fields: &[(&str, String)]| {
            fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
        };
        let message = format!("{bot}:WebAppData\n{}", joined(&fields));
        fields.insert(2, ("signature", URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()))));
        let key = hmac(b"WebAppData", token);
        fields.push(("hash", hex::encode(hmac(&key, &joined(&fields)))));
        fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
    }
}

pub(super) fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

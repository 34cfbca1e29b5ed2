//! `usm login …`

mod follow;

use std::time::Duration;

use clap::{Args, Subcommand};
use usm_client::v1;

use self::follow::{Answers, follow, outcome};
use super::{
    Done,
    connect::{Key, Target, ask, ask_within, refused},
    given,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(super) enum Login {
    /// Sign in by QR code: shows it, follows the login to its end, asks for the password if there is one.
    #[command(after_help = "Example:\n  usm login qr --tenant-id acme --app-id news")]
    Qr(Qr),
    /// Sign in by a code that Telegram sends to the owner of a phone number, and follow the login to its end.
    #[command(
        after_help = "Example:\n  usm login phone --tenant-id acme --app-id news --phone +15550100\n\n\
                            Programs like this one get no SMS: the code arrives in the account's own Telegram \
                            applications. A code that is posted in a chat becomes invalid."
    )]
    Phone(Phone),
    /// Sign a bot in with the token that BotFather gave.
    #[command(after_help = "Examples:\n  USM_BOT_TOKEN=… usm login bot --tenant-id acme --app-id helper\n  \
                            usm login bot --tenant-id acme --app-id helper --bot-token-file /run/secrets/bot")]
    Bot(Bot),
    /// Answer a login that waits for a code, or have another one sent.
    #[command(
        after_help = "Examples:\n  usm login code --ticket K\n  USM_CODE=12345 usm login code --ticket K\n  \
                            usm login code --ticket K --resend"
    )]
    Code(Code),
    /// Answer a login that waits for the account's password.
    #[command(after_help = "Examples:\n  usm login password --ticket K\n  \
                            usm login password --ticket K --password-file /run/secrets/password")]
    Password(Password),
    /// Wait for a login's end, and give the password on the way if one is needed.
    #[command(after_help = "Example:\n  usm login finalize --ticket K")]
    Finalize(Finalize),
    /// End a login.
    #[command(after_help = "Example:\n  usm login cancel --ticket K")]
    Cancel(One),
    /// Follow a login that runs.
    #[command(after_help = "Example:\n  usm login watch --ticket K --output json")]
    Watch(One),
}

/// What every kind of login takes.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    key: Key,
    /// Only this account may sign in.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    expected_telegram_user_id: i64,
    /// Which configured api_id to use.
    #[arg(long, value_name = "ALIAS", default_value = "")]
    api_key_alias: String,
}

#[derive(Debug, Args)]
pub(super) struct Qr {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Phone {
    #[command(flatten)]
    common: Common,
    /// The account's phone number in international form.
    #[arg(long, value_name = "NUMBER")]
    phone: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Bot {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    token: given::BotTokenSource,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Code {
    /// The login's ticket.
    #[arg(long, env = "USM_TICKET", hide_env_values = true, value_name = "K")]
    ticket: String,
    /// Have another code sent, by the next way, instead of giving one.
    #[arg(long, conflicts_with_all = ["code", "code_file"])]
    resend: bool,
    #[command(flatten)]
    code: given::CodeSource,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Password {
    /// The login's ticket.
    #[arg(long, env = "USM_TICKET", hide_env_values = true, value_name = "K")]
    ticket: String,
    #[command(flatten)]
    password: given::PasswordSource,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Finalize {
    /// The login's ticket.
    #[arg(long, env = "USM_TICKET", hide_env_values = true, value_name = "K")]
    ticket: String,
    #[command(flatten)]
    password: given::PasswordSource,
    /// Seconds to wait.
    #[arg(long, value_name = "S", default_value_t = 120)]
    wait: u64,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The login's ticket.
    #[arg(long, env = "USM_TICKET", hide_env_values = true, value_name = "K")]
    ticket: String,
    #[command(flatten)]
    target: Target,
}

impl Login {
    pub(super) async fn run(self, format: Format) -> Done {
        match self {
            Self::Qr(command) => command.run(format).await,
            Self::Phone(command) => command.run(format).await,
            Self::Bot(command) => command.run(format).await,
            Self::Code(command) => command.run(format).await,
            Self::Password(command) => {
                let password = command.password.or_asked()?;
                let request = v1::SubmitPasswordRequest {
                    ticket: command.ticket,
                    password: password.expose_secret().to_owned(),
                    ..Default::default()
                };
                let api = command.target.connect().await?;
                let answer =
                    api.logins().submit_password(ask(request)).await.map_err(|status| refused(&status));
                api.close().await;
                show(&answer?.into_inner().login.unwrap_or_default(), format)
            }
            Self::Finalize(command) => command.run(format).await,
            Self::Cancel(command) => {
                let api = command.target.connect().await?;
                let request = v1::CancelLoginRequest { ticket: command.ticket, ..Default::default() };
                let answer = api.logins().cancel_login(ask(request)).await.map_err(|status| refused(&status));
                api.close().await;
                show(&answer?.into_inner().login.unwrap_or_default(), format)
            }
            Self::Watch(command) => {
                let api = command.target.connect().await?;
                let followed = follow(&api, &command.ticket, format, Answers::Nobody).await;
                api.close().await;
                followed
            }
        }
    }
}

impl Qr {
    async fn run(self, format: Format) -> Done {
        let Self { common, target } = self;
        let api = target.connect().await?;
        let request = v1::StartQrLoginRequest {
            tenant_id: common.key.tenant_id,
            app_id: common.key.app_id,
            expected_telegram_user_id: common.expected_telegram_user_id,
            api_key_alias: common.api_key_alias,
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let started = api.logins().start_qr_login(ask(request)).await.map_err(|status| refused(&status))?;
        let ticket = started.into_inner().login.unwrap_or_default().ticket;
        let followed = follow(&api, &ticket, format, Answers::at(format)).await;
        api.close().await;
        followed
    }
}

impl Phone {
    async fn run(self, format: Format) -> Done {
        let Self { common, phone, target } = self;
        let api = target.connect().await?;
        let request = v1::StartPhoneLoginRequest {
            tenant_id: common.key.tenant_id,
            app_id: common.key.app_id,
            phone_number: phone,
            expected_telegram_user_id: common.expected_telegram_user_id,
            api_key_alias: common.api_key_alias,
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let started =
            api.logins().start_phone_login(ask(request)).await.map_err(|status| refused(&status))?;
        let ticket = started.into_inner().login.unwrap_or_default().ticket;
        let followed = follow(&api, &ticket, format, Answers::at(format)).await;
        api.close().await;
        followed
    }
}

impl Bot {
    async fn run(self, format: Format) -> Done {
        let Self { common, token, target } = self;
        let token = token.or_asked()?;
        let api = target.connect().await?;
        let request = v1::StartBotLoginRequest {
            tenant_id: common.key.tenant_id,
            app_id: common.key.app_id,
            bot_token: token.expose_secret().to_owned(),
            expected_telegram_user_id: common.expected_telegram_user_id,
            api_key_alias: common.api_key_alias,
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let answer = api.logins().start_bot_login(ask(request)).await.map_err(|status| refused(&status));
        api.close().await;
        let login = answer?.into_inner().login.unwrap_or_default();
        show(&login, format)?;
        outcome(&login)
    }
}

impl Code {
    async fn run(self, format: Format) -> Done {
        let Self { ticket, resend, code, target } = self;
        let code = if resend { None } else { Some(code.or_asked()?) };
        let api = target.connect().await?;
        let mut logins = api.logins();
        let answer = match code {
            Some(code) => {
                let code = code.expose_secret().to_owned();
                let request = v1::SubmitCodeRequest { ticket, code, ..Default::default() };
                logins.submit_code(ask(request)).await.map(|answer| answer.into_inner().login)
            }
            None => {
                let request_id = uuid::Uuid::new_v4().to_string();
                let request = v1::ResendCodeRequest { ticket, request_id };
                logins.resend_code(ask(request)).await.map(|answer| answer.into_inner().login)
            }
        };
        api.close().await;
        show(&answer.map_err(|status| refused(&status))?.unwrap_or_default(), format)
    }
}

impl Finalize {
    async fn run(self, format: Format) -> Done {
        let password = self.password.if_given()?;
        let api = self.target.connect().await?;
        let request = v1::FinalizeLoginRequest {
            ticket: self.ticket,
            password: password.map(|password| password.expose_secret().to_owned()).unwrap_or_default(),
            ..Default::default()
        };
        let limit = Duration::from_secs(self.wait.clamp(1, 600));
        let answer =
            api.logins().finalize_login(ask_within(request, limit)).await.map_err(|status| refused(&status));
        api.close().await;
        let login = answer?.into_inner().login.unwrap_or_default();
        show(&login, format)?;
        outcome(&login)
    }
}

fn show(login: &v1::Login, format: Format) -> Done {
    match format {
        Format::Json => output::print_document(&output::json("Login", login)?),
        Format::Table => output::print_facts(&[
            ("session", format!("{}/{}", login.tenant_id, login.app_id)),
            ("state", login.state().as_str_name().trim_start_matches("LOGIN_STATE_").to_owned()),
            (
                "telegram user",
                if login.telegram_user_id == 0 { String::new() } else { login.telegram_user_id.to_string() },
            ),
            (
                "code",
                match login.state() {
                    v1::LoginState::WaitingCode => follow::delivery_line(login),
                    _ => String::new(),
                },
            ),
            ("reason", login.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default()),
            ("expires", output::time(login.expire_time.as_ref())),
        ]),
    }
    Ok(())
}

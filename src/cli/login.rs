//! `usm login …`

use std::{io::IsTerminal as _, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;
use tokio_stream::StreamExt as _;
use usm_client::v1::{self, watch_login_response::Step};

use super::{
    Done, Failure,
    connect::{Api, Key, Target, ask, ask_within, refused},
    given,
    output::{self, Format},
};
use crate::domain::secret::Secret;

/// How long a login is followed, at most: longer than any ticket lives.
const FOLLOW_LIMIT: Duration = Duration::from_secs(3600);

#[derive(Debug, Subcommand)]
pub(super) enum Login {
    /// Sign in by QR code: shows it, follows the login to its end, asks for the password if there is one.
    #[command(after_help = "Example:\n  usm login qr --tenant-id acme --app-id news")]
    Qr(Qr),
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

#[derive(Debug, Args)]
pub(super) struct Qr {
    #[command(flatten)]
    key: Key,
    /// Only this account may sign in.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    expected_telegram_user_id: i64,
    /// Which configured api_id to use.
    #[arg(long, value_name = "ALIAS", default_value = "")]
    api_key_alias: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Password {
    /// The login's ticket.
    #[arg(long, env = "USM_TICKET", value_name = "K")]
    ticket: String,
    #[command(flatten)]
    password: given::PasswordSource,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Finalize {
    /// The login's ticket.
    #[arg(long, env = "USM_TICKET", value_name = "K")]
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
    #[arg(long, env = "USM_TICKET", value_name = "K")]
    ticket: String,
    #[command(flatten)]
    target: Target,
}

impl Login {
    pub(super) async fn run(self, format: Format) -> Done {
        match self {
            Self::Qr(command) => command.run(format).await,
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
        let api = self.target.connect().await?;
        let request = v1::StartQrLoginRequest {
            tenant_id: self.key.tenant_id,
            app_id: self.key.app_id,
            expected_telegram_user_id: self.expected_telegram_user_id,
            api_key_alias: self.api_key_alias,
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let started = api.logins().start_qr_login(ask(request)).await.map_err(|status| refused(&status))?;
        let ticket = started.into_inner().login.unwrap_or_default().ticket;
        let answers = match format {
            Format::Table if output::is_terminal() && std::io::stdin().is_terminal() => Answers::Terminal,
            Format::Table | Format::Json => Answers::Nobody,
        };
        let followed = follow(&api, &ticket, format, answers).await;
        api.close().await;
        followed
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

/// Who answers when a password is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Terminal,
    Nobody,
}

/// Shows each step of a login until it is over.
async fn follow(api: &Api, ticket: &str, format: Format, answers: Answers) -> Done {
    let request = v1::WatchLoginRequest { ticket: ticket.to_owned() };
    let stream = api.logins().watch_login(ask_within(request, FOLLOW_LIMIT)).await;
    let mut steps = stream.map_err(|status| refused(&status))?.into_inner();
    let mut last = v1::Login::default();
    let (mut answered, mut code_lines) = (false, 0);
    while let Some(answer) = steps.next().await {
        let answer = answer.map_err(|status| refused(&status))?;
        let login = answer.login.unwrap_or_default();
        let step = answer.step.as_ref();
        if step.is_none() && login.state() != v1::LoginState::Starting {
            // A sign of life.
            last = login;
            continue;
        }
        match (format, output::is_terminal()) {
            (Format::Json, _) => output::print_line(&step_line(step, &login)),
            (Format::Table, false) => output::print_text(plain_line(step, &login)),
            (Format::Table, true) => {
                // A phone must not find a code that is over.
                output::erase(std::mem::take(&mut code_lines));
                match step {
                    Some(Step::QrShown(shown)) => code_lines = show_code(&shown.qr_url, &login)?,
                    step => show_step(step, &login, answers),
                }
            }
        }
        // Steps that were under way while somebody typed still tell of the question.
        if answers == Answers::Terminal && login.state() == v1::LoginState::WaitingPassword && !answered {
            answer_password(api, ticket).await?;
            answered = true;
        }
        last = login;
    }
    outcome(&last)
}

/// Asks for the password until Telegram accepts it or the login is over.
async fn answer_password(api: &Api, ticket: &str) -> Done {
    loop {
        // Reading a terminal blocks.
        let typed = tokio::task::spawn_blocking(|| given::ask("two-step password")).await??;
        match submit(api, ticket, &typed).await {
            Ok(()) => return Ok(()),
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                output::note(refused(&status).text());
            }
            Err(status) => return Err(refused(&status)),
        }
    }
}

async fn submit(api: &Api, ticket: &str, password: &Secret) -> Result<(), tonic::Status> {
    let request = v1::SubmitPasswordRequest {
        ticket: ticket.to_owned(),
        password: password.expose_secret().to_owned(),
        ..Default::default()
    };
    api.logins().submit_password(ask(request)).await.map(|_| ())
}

fn step_name(step: Option<&Step>) -> &'static str {
    match step {
        None => "started",
        Some(Step::QrShown(_)) => "qr_shown",
        Some(Step::CodeSent(_)) => "code_sent",
        Some(Step::PasswordNeeded(_)) => "password_needed",
        Some(Step::Migrated(_)) => "migrated",
        Some(Step::Authorized(_)) => "authorized",
        Some(Step::Expired(_)) => "expired",
        Some(Step::Cancelled(_)) => "cancelled",
        Some(Step::Superseded(_)) => "superseded",
        Some(Step::Failed(_)) => "failed",
    }
}

fn step_line(step: Option<&Step>, login: &v1::Login) -> serde_json::Value {
    json!({
        "step": step_name(step),
        "ticket": login.ticket,
        "qr_url": login.qr_url,
        "state": login.state().as_str_name(),
        "tenant_id": login.tenant_id,
        "app_id": login.app_id,
        "telegram_user_id": login.telegram_user_id,
        "password_hint": login.password_hint,
        "attempts_left": login.attempts_left,
        "reason": login.failure.as_ref().map(|failure| failure.reason.clone()),
        "token_expire_time": output::time(login.token_expire_time.as_ref()),
        "expire_time": output::time(login.expire_time.as_ref()),
    })
}

/// A code for somebody who looks at a terminal, and how many lines it took there.
fn show_code(url: &str, login: &v1::Login) -> Result<usize, Failure> {
    let text = format!(
        "{}\nScan it with Telegram: Settings > Devices > Link Desktop Device.\n\
         A new code follows by itself. Ticket:\n{}",
        output::qr(url)?,
        login.ticket
    );
    output::print_text(&text);
    Ok(text.lines().count())
}

/// A step for somebody who looks at a terminal.
fn show_step(step: Option<&Step>, login: &v1::Login, answers: Answers) {
    match step {
        Some(Step::PasswordNeeded(needed)) => {
            let hint = match needed.hint.as_str() {
                "" => String::new(),
                hint => format!(" (hint: {})", output::harmless(hint)),
            };
            output::print_text(format!(
                "The account has a two-step password{hint}; {} attempts left.",
                needed.attempts_left
            ));
            if answers == Answers::Nobody {
                output::print_text(format!("Answer with: usm login password --ticket {}", login.ticket));
            }
        }
        Some(Step::Migrated(to)) => {
            output::print_text(format!("The account lives at data centre {}.", to.dc_id));
        }
        Some(Step::Authorized(by)) => {
            output::print_text(format!("Signed in as Telegram user {}.", by.telegram_user_id));
        }
        None
        | Some(
            Step::QrShown(_)
            | Step::CodeSent(_)
            | Step::Expired(_)
            | Step::Cancelled(_)
            | Step::Superseded(_)
            | Step::Failed(_),
        ) => {}
    }
}

/// A step on one line, for whoever reads a log or a pipe.
fn plain_line(step: Option<&Step>, login: &v1::Login) -> String {
    let told = match step {
        None => format!("ticket={}", login.ticket),
        Some(Step::QrShown(shown)) => format!("ticket={} qr_url={}", login.ticket, shown.qr_url),
        Some(Step::PasswordNeeded(needed)) => format!(
            "attempts_left={}; answer with: usm login password --ticket {}",
            needed.attempts_left, login.ticket
        ),
        Some(Step::Migrated(to)) => format!("dc={}", to.dc_id),
        Some(Step::Authorized(by)) => format!("telegram_user_id={}", by.telegram_user_id),
        Some(
            Step::CodeSent(_) | Step::Expired(_) | Step::Cancelled(_) | Step::Superseded(_) | Step::Failed(_),
        ) => String::new(),
    };
    format!("{} {told}", step_name(step)).trim_end().to_owned()
}

/// The login's end as the command's.
fn outcome(login: &v1::Login) -> Done {
    match login.state() {
        v1::LoginState::Authorized => Ok(()),
        v1::LoginState::Failed => {
            let failure = login.failure.clone().unwrap_or_default();
            Err(Failure::Failed(format!("{}: {}", failure.reason, failure.message)))
        }
        v1::LoginState::Expired => Err(Failure::Failed("the login expired; start a new one".to_owned())),
        v1::LoginState::Superseded => {
            Err(Failure::Failed("a newer login of this session took over".to_owned()))
        }
        v1::LoginState::Cancelled => Err(Failure::Failed("the login was cancelled".to_owned())),
        v1::LoginState::Unspecified
        | v1::LoginState::Starting
        | v1::LoginState::WaitingQrScan
        | v1::LoginState::WaitingCode
        | v1::LoginState::WaitingPassword => Err(Failure::Failed("the login is not over".to_owned())),
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
            ("reason", login.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default()),
            ("expires", output::time(login.expire_time.as_ref())),
        ]),
    }
    Ok(())
}

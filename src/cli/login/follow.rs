//! Following a login: its steps for a terminal, for a pipe and as JSON lines, and the questions it asks on the way.

use std::{io::IsTerminal as _, time::Duration};

use serde_json::json;
use tokio_stream::StreamExt as _;
use usm_client::v1::{self, watch_login_response::Step};

use super::super::{
    Done, Failure,
    connect::{Api, ask, ask_within, refused},
    given,
    output::{self, Format},
};
use crate::domain::secret::Secret;

/// How long a login is followed, at most: longer than any ticket lives.
const FOLLOW_LIMIT: Duration = Duration::from_secs(3600);

/// Who answers when a code or a password is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    Terminal,
    Nobody,
}

impl Answers {
    /// Somebody at a terminal who looks at the table can be asked; a script gives its answers by other commands.
    pub(super) fn at(format: Format) -> Self {
        match format {
            Format::Table if output::is_terminal() && std::io::stdin().is_terminal() => Self::Terminal,
            Format::Table | Format::Json => Self::Nobody,
        }
    }
}

/// Shows each step of a login until it is over.
pub(super) async fn follow(api: &Api, ticket: &str, format: Format, answers: Answers) -> Done {
    let request = v1::WatchLoginRequest { ticket: ticket.to_owned() };
    let stream = api.logins().watch_login(ask_within(request, FOLLOW_LIMIT)).await;
    let mut steps = stream.map_err(|status| refused(&status))?.into_inner();
    let mut last = v1::Login::default();
    let (mut coded, mut answered, mut code_lines) = (false, false, 0);
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
        if answers == Answers::Terminal && login.state() == v1::LoginState::WaitingCode && !coded {
            answer_code(api, ticket).await?;
            coded = true;
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

/// Asks for the code until Telegram accepts it or the login is over. Nothing typed asks for another code.
async fn answer_code(api: &Api, ticket: &str) -> Done {
    loop {
        // Reading a terminal blocks.
        let typed =
            tokio::task::spawn_blocking(|| given::ask("login code (empty: send another)", "USM_CODE"))
                .await??;
        let answer = if typed.is_empty() {
            let request = v1::ResendCodeRequest {
                ticket: ticket.to_owned(),
                request_id: uuid::Uuid::new_v4().to_string(),
            };
            api.logins().resend_code(ask(request)).await.map(|answer| answer.into_inner().login)
        } else {
            let request = v1::SubmitCodeRequest {
                ticket: ticket.to_owned(),
                code: typed.expose_secret().to_owned(),
                ..Default::default()
            };
            api.logins().submit_code(ask(request)).await.map(|answer| answer.into_inner().login)
        };
        match answer {
            Ok(Some(login)) if login.state() == v1::LoginState::WaitingCode => {
                output::print_text(delivery_line(&login));
            }
            Ok(_) => return Ok(()),
            Err(status) if may_try_again(&status) => output::note(refused(&status).text()),
            Err(status) => return Err(refused(&status)),
        }
    }
}

/// Whether the login still waits: the answer was wrong, or it is too early for another code.
fn may_try_again(status: &tonic::Status) -> bool {
    use tonic_types::StatusExt as _;
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    status.code() == tonic::Code::InvalidArgument || reason == "RESEND_UNAVAILABLE"
}

/// Where the code went.
pub(super) fn delivery_line(login: &v1::Login) -> String {
    let delivery = login.code_delivery.clone().unwrap_or_default();
    let place = match delivery.kind() {
        v1::CodeDeliveryKind::App => {
            "to the account's Telegram applications (there is no SMS for other programs)"
        }
        v1::CodeDeliveryKind::Sms => "by SMS",
        v1::CodeDeliveryKind::Call => "by a phone call that tells it",
        v1::CodeDeliveryKind::FlashCall => "as the number of a phone call",
        v1::CodeDeliveryKind::MissedCall => "as the end of the number of a phone call",
        v1::CodeDeliveryKind::Email => "by e-mail",
        v1::CodeDeliveryKind::Fragment => "through Fragment",
        v1::CodeDeliveryKind::Unspecified => "in a way that only Telegram knows",
    };
    let hint = match delivery.hint.as_str() {
        "" => String::new(),
        hint => format!(" ({})", output::harmless(hint)),
    };
    format!("Telegram sent a code {place}{hint}; {} attempts left.", login.attempts_left)
}

/// Asks for the password until Telegram accepts it or the login is over.
async fn answer_password(api: &Api, ticket: &str) -> Done {
    loop {
        // Reading a terminal blocks.
        let typed = tokio::task::spawn_blocking(|| given::ask("two-step password", "USM_PASSWORD")).await??;
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

/// The way a code took, in one word; empty before one was sent.
fn kind_of(delivery: Option<&v1::CodeDelivery>) -> String {
    let Some(delivery) = delivery else { return String::new() };
    delivery.kind().as_str_name().trim_start_matches("CODE_DELIVERY_KIND_").to_ascii_lowercase()
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
        "code_sent_by": kind_of(login.code_delivery.as_ref()),
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
        Some(Step::CodeSent(_)) => {
            output::print_text(delivery_line(login));
            if answers == Answers::Nobody {
                output::print_text(format!("Answer with: usm login code --ticket {}", login.ticket));
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
            Step::QrShown(_) | Step::Expired(_) | Step::Cancelled(_) | Step::Superseded(_) | Step::Failed(_),
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
        Some(Step::CodeSent(sent)) => format!(
            "ticket={} by={}; answer with: usm login code --ticket {}",
            login.ticket,
            kind_of(sent.delivery.as_ref()),
            login.ticket
        ),
        Some(Step::Migrated(to)) => format!("dc={}", to.dc_id),
        Some(Step::Authorized(by)) => format!("telegram_user_id={}", by.telegram_user_id),
        Some(Step::Expired(_) | Step::Cancelled(_) | Step::Superseded(_) | Step::Failed(_)) => String::new(),
    };
    format!("{} {told}", step_name(step)).trim_end().to_owned()
}

/// The login's end as the command's.
pub(super) fn outcome(login: &v1::Login) -> Done {
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

//! `usm session …`

use clap::{Args, Subcommand};
use usm_client::v1;

use super::{
    Done, Failure,
    connect::{Api, Key, Target, ask, refused},
    output::{self, Format},
};

/// Rows asked for at a time.
const PAGE: i32 = 200;

#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// List sessions.
    #[command(after_help = "Example:\n  usm session list --state authorized --output json")]
    List(List),
    /// Show one session.
    #[command(after_help = "Example:\n  usm session status --tenant-id acme --app-id news")]
    Status(One),
    /// Ask Telegram whether the session is alive. Takes its lease for a moment.
    #[command(after_help = "Example:\n  usm session validate --tenant-id acme --app-id news")]
    Validate(One),
    /// Log the session out at Telegram and wipe its key.
    #[command(after_help = "Example:\n  usm session revoke --tenant-id acme --app-id news")]
    Revoke(One),
    /// Forget the material of a revoked or stale session, so that the name can be used anew.
    #[command(after_help = "Example:\n  usm session reset --tenant-id acme --app-id news")]
    Reset(One),
    /// Remove the session. Its events stay.
    #[command(after_help = "Example:\n  usm session delete --tenant-id acme --app-id news")]
    Delete(One),
    /// Show what happened to a session.
    #[command(after_help = "Example:\n  usm session events --tenant-id acme --app-id news")]
    Events(One),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this tenant's.
    #[arg(long, value_name = "T")]
    tenant_id: Option<String>,
    /// Only sessions in this state, such as authorized or pending_qr. May be repeated.
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct One {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    target: Target,
}

impl Session {
    pub(super) async fn run(self, format: Format) -> Done {
        match self {
            Self::List(list) => list.run(format).await,
            Self::Status(one) => {
                one.with(format, async |api, key| {
                    let request = v1::GetSessionRequest { tenant_id: key.tenant_id, app_id: key.app_id };
                    Ok(api.sessions().get_session(ask(request)).await?.into_inner().session)
                })
                .await
            }
            Self::Validate(one) => {
                one.with(format, async |api, key| {
                    let request = v1::ValidateSessionRequest {
                        tenant_id: key.tenant_id,
                        app_id: key.app_id,
                        ..Default::default()
                    };
                    Ok(api.sessions().validate_session(ask(request)).await?.into_inner().session)
                })
                .await
            }
            Self::Revoke(one) => {
                one.with(format, async |api, key| {
                    let request = v1::RevokeSessionRequest {
                        tenant_id: key.tenant_id,
                        app_id: key.app_id,
                        ..Default::default()
                    };
                    Ok(api.sessions().revoke_session(ask(request)).await?.into_inner().session)
                })
                .await
            }
            Self::Reset(one) => {
                one.with(format, async |api, key| {
                    let request = v1::ResetSessionRequest {
                        tenant_id: key.tenant_id,
                        app_id: key.app_id,
                        ..Default::default()
                    };
                    Ok(api.sessions().reset_session(ask(request)).await?.into_inner().session)
                })
                .await
            }
            Self::Delete(one) => {
                one.with(format, async |api, key| {
                    let request = v1::DeleteSessionRequest {
                        tenant_id: key.tenant_id,
                        app_id: key.app_id,
                        ..Default::default()
                    };
                    Ok(api.sessions().delete_session(ask(request)).await?.into_inner().session)
                })
                .await
            }
            Self::Events(one) => one.events(format).await,
        }
    }
}

impl List {
    async fn run(self, format: Format) -> Done {
        let states = self.state.iter().map(|name| parse_state(name)).collect::<Result<Vec<_>, _>>()?;
        let api = self.target.connect().await?;
        let mut request = v1::ListSessionsRequest {
            tenant_id: self.tenant_id.unwrap_or_default(),
            states,
            page_size: PAGE,
            ..Default::default()
        };
        let mut sessions = Vec::new();
        loop {
            let answer = api
                .sessions()
                .list_sessions(ask(request.clone()))
                .await
                .map_err(|status| refused(&status))?;
            let page = answer.into_inner();
            sessions.extend(page.sessions);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        api.close().await;
        match format {
            Format::Json => {
                let all = sessions
                    .iter()
                    .map(|session| output::json("Session", session))
                    .collect::<Result<Vec<_>, _>>()?;
                output::print_document(&serde_json::Value::Array(all));
            }
            Format::Table => print_rows(&sessions),
        }
        Ok(())
    }
}

impl One {
    /// Calls a method that answers a session, and shows it.
    async fn with(
        self,
        format: Format,
        call: impl AsyncFnOnce(&Api, Key) -> Result<Option<v1::Session>, tonic::Status>,
    ) -> Done {
        let api = self.target.connect().await?;
        let answer = call(&api, self.key).await;
        api.close().await;
        show(&answer.map_err(|status| refused(&status))?.unwrap_or_default(), format)
    }

    async fn events(self, format: Format) -> Done {
        let api = self.target.connect().await?;
        let mut request = v1::ListSessionEventsRequest {
            tenant_id: self.key.tenant_id,
            app_id: self.key.app_id,
            page_size: PAGE,
            ..Default::default()
        };
        let mut events = Vec::new();
        loop {
            let answer = api
                .sessions()
                .list_session_events(ask(request.clone()))
                .await
                .map_err(|status| refused(&status))?;
            let page = answer.into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        api.close().await;
        match format {
            Format::Json => {
                let all = events
                    .iter()
                    .map(|event| output::json("SessionEvent", event))
                    .collect::<Result<Vec<_>, _>>()?;
                output::print_document(&serde_json::Value::Array(all));
            }
            Format::Table => {
                let rows: Vec<_> = events.iter().map(event_row).collect();
                output::print_table(&["#", "TIME", "KIND", "FROM", "TO", "REASON", "BY"], &rows);
            }
        }
        Ok(())
    }
}

/// One session, for people or programs.
pub(super) fn show(session: &v1::Session, format: Format) -> Done {
    match format {
        Format::Json => output::print_document(&output::json("Session", session)?),
        Format::Table => output::print_facts(&[
            ("session", format!("{}/{}", session.tenant_id, session.app_id)),
            ("state", state(session)),
            ("reason", session.state_reason.clone()),
            ("custody", custody(session)),
            ("environment", session.environment.clone()),
            ("telegram user", nonzero(session.telegram_user_id)),
            ("username", session.username.clone()),
            ("home dc", nonzero(i64::from(session.dc_id))),
            ("api key", session.api_key_alias.clone()),
            ("lease", session.lease.as_ref().map(super::lease::line).unwrap_or_default()),
            ("revision", session.revision.to_string()),
            ("created", output::time(session.create_time.as_ref())),
            ("updated", output::time(session.update_time.as_ref())),
            ("validated", output::time(session.last_validated_time.as_ref())),
            ("labels", labels(session)),
        ]),
    }
    Ok(())
}

fn print_rows(sessions: &[v1::Session]) {
    let rows: Vec<_> = sessions
        .iter()
        .map(|session| {
            vec![
                session.tenant_id.clone(),
                session.app_id.clone(),
                state(session),
                session.state_reason.clone(),
                custody(session),
                nonzero(session.telegram_user_id),
                session.lease.as_ref().map(|lease| lease.holder.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    output::print_table(&["TENANT", "APP", "STATE", "REASON", "CUSTODY", "USER", "HOLDER"], &rows);
}

fn event_row(event: &v1::SessionEvent) -> Vec<String> {
    let state = |state: v1::SessionState| match state {
        v1::SessionState::Unspecified => String::new(),
        named => named.as_str_name().trim_start_matches("SESSION_STATE_").to_lowercase(),
    };
    vec![
        event.sequence.to_string(),
        output::time(event.create_time.as_ref()),
        event.kind().as_str_name().trim_start_matches("SESSION_EVENT_KIND_").to_lowercase(),
        state(event.from_state()),
        state(event.to_state()),
        event.reason.clone(),
        event.actor.clone(),
    ]
}

fn state(session: &v1::Session) -> String {
    session.state().as_str_name().trim_start_matches("SESSION_STATE_").to_owned()
}

fn custody(session: &v1::Session) -> String {
    session.custody().as_str_name().trim_start_matches("SESSION_CUSTODY_").to_owned()
}

fn nonzero(number: i64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn labels(session: &v1::Session) -> String {
    session.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn parse_state(name: &str) -> Result<i32, Failure> {
    v1::SessionState::from_str_name(&format!("SESSION_STATE_{}", name.to_uppercase()))
        .filter(|state| *state != v1::SessionState::Unspecified)
        .map(i32::from)
        .ok_or_else(|| {
            Failure::Usage(format!(
                "no state is called {name}; there are absent, pending_qr, pending_code, pending_password, authorized, \
                 stale, revoked"
            ))
        })
}

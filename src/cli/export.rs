//! `usm export`: sessions as files, for the legacy system or another one.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use futures::stream::{self, StreamExt as _};
use usm_client::v1;
use zeroize::Zeroizing;

use super::{
    Done, Failure,
    connect::{Api, Target, ask, refused},
    given::PasscodeSource,
    outcome::{self, Line},
    output::{self, Format},
};
use crate::{
    config::Config,
    domain::{id::SessionKey, material, secret::Secret},
    formats::{self, Addresses, Modes, Outcome, Overwrite},
};

/// Sessions asked for and written at the same time.
const PARALLEL: usize = 4;
/// Rows asked for at a time.
const PAGE: i32 = 1_000;
/// Sessions one run takes; more are exported tenant by tenant.
const SESSIONS_MAX: usize = 1_000_000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  usm export --sessions-dir /app/sessions\n  \
                        usm export --sessions-dir /app/sessions --tenant acme --app-id news --format telethon-string\n\n\
                        Writes DIR/<tenant>/<app>.session with the modes of SESSION_FILE_PERMISSIONS and \
                        SESSION_DIR_PERMISSIONS. Interrupted, it is simply run again.")]
pub(super) struct Export {
    /// Folder to write <tenant>/<app>.session into.
    #[arg(long, value_name = "DIR", env = "SESSIONS_BASE_PATH")]
    sessions_dir: PathBuf,
    /// Form of the files.
    #[arg(long, value_name = "F", default_value = "telethon-sqlite", value_parser = format_name)]
    format: material::Format,
    /// Only this tenant.
    #[arg(long, value_name = "T", visible_alias = "tenant-id")]
    tenant: Option<String>,
    /// Only this session of the tenant.
    #[arg(long, value_name = "A", requires = "tenant")]
    app_id: Option<String>,
    /// Write over a file that holds another authorization, too. What it knew is lost.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    passcode: PasscodeSource,
    #[command(flatten)]
    target: Target,
}

fn format_name(text: &str) -> Result<material::Format, String> {
    let known = || {
        let names: Vec<_> = material::Format::ALL
            .iter()
            .filter(|format| formats::writable(**format).is_ok())
            .map(|format| format.name())
            .collect();
        format!("must be one of {}", names.join(", "))
    };
    let format = material::Format::parse(text).ok_or_else(known)?;
    formats::writable(format).map_err(|_| known())?;
    Ok(format)
}

impl Export {
    pub(super) async fn run(self, format: Format) -> Done {
        let import =
            Config::load_import(&BTreeMap::new()).map_err(|mistakes| Failure::Usage(mistakes.to_string()))?;
        if !self.sessions_dir.is_dir() {
            return Err(Failure::Failed(format!(
                "{} is no folder; make it first",
                self.sessions_dir.display()
            )));
        }
        // Others have no lock, and the variable may be there for something else.
        let locked = self.format == material::Format::Tdata;
        let passcode = if locked { self.passcode.if_given()? } else { None };
        let order = Order {
            passcode,
            root: self.sessions_dir,
            format: self.format,
            modes: Modes { file: import.file_mode, folder: import.dir_mode },
            overwrite: if self.force { Overwrite::Force } else { Overwrite::Refuse },
        };
        let api = self.target.connect().await?;
        let done = order.all(&api, self.tenant, self.app_id).await;
        api.close().await;
        let lines = done?;
        if lines.iter().any(|line| line.outcome != outcome::REFUSED && !line.warnings.is_empty()) {
            output::note("each file is a live key: keep it from everybody but the program that uses it");
        }
        outcome::finish(lines, format)
    }
}

struct Order {
    /// Of folders of TDesktop.
    passcode: Option<Secret>,
    root: PathBuf,
    format: material::Format,
    modes: Modes,
    overwrite: Overwrite,
}

impl Order {
    async fn all(
        &self,
        api: &Api,
        tenant: Option<String>,
        app: Option<String>,
    ) -> Result<Vec<Line>, Failure> {
        let sessions = match (tenant, app) {
            (Some(tenant_id), Some(app_id)) => {
                let request = v1::GetSessionRequest { tenant_id, app_id };
                let answer =
                    api.sessions().get_session(ask(request)).await.map_err(|status| refused(&status))?;
                answer.into_inner().session.into_iter().collect()
            }
            (tenant, _) => listed(api, tenant.unwrap_or_default()).await?,
        };
        let count = sessions.len();
        let bar = outcome::progress(count);
        let lines = stream::iter(sessions)
            .map(|session| self.export(api, session))
            .buffer_unordered(PARALLEL)
            .inspect(|_| outcome::tick(&bar, count))
            .collect()
            .await;
        bar.finish_and_clear();
        Ok(lines)
    }

    async fn export(&self, api: &Api, session: v1::Session) -> Line {
        let (tenant, app) = (session.tenant_id.as_str(), session.app_id.as_str());
        let Ok(key) = SessionKey::parse(tenant, app) else {
            return Line::refused(
                tenant,
                app,
                "name",
                "the service named a session as no session can be named",
            );
        };
        match session.state() {
            v1::SessionState::Authorized | v1::SessionState::Stale => {}
            state => {
                let state = state.as_str_name().trim_start_matches("SESSION_STATE_").to_lowercase();
                return Line::done(tenant, app, "skipped")
                    .warn([format!("it is {state}: there is nothing to write")]);
            }
        }
        let request = v1::ExportSessionRequest {
            tenant_id: session.tenant_id.clone(),
            app_id: session.app_id.clone(),
            format: wire(self.format).into(),
            request_id: uuid::Uuid::new_v4().to_string(),
            passcode: self.passcode.as_ref().map(|it| it.expose_secret().to_owned()).unwrap_or_default(),
        };
        let answer = match api.sessions().export_session(ask(request)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Line::by_service(tenant, app, &status),
        };
        let material = answer.material.unwrap_or_default();
        match self.place(&key, Zeroizing::new(material.data)).await {
            Ok((outcome, notes)) => {
                // What an updated file kept was not lost.
                let lost = if outcome == "written" { answer.losses } else { Vec::new() };
                let lost = lost.into_iter().map(|loss| loss.message);
                Line::done(tenant, app, outcome).warn(answer.warnings).warn(lost).warn(notes)
            }
            Err(error) => Line::refused(tenant, app, error.code(), error),
        }
    }

    async fn place(
        &self,
        key: &SessionKey,
        data: Zeroizing<Vec<u8>>,
    ) -> Result<(&'static str, Vec<String>), formats::Error> {
        let options = formats::Options { passcode: self.passcode.clone(), account: None };
        let parsed = formats::parse_with(&data, Some(self.format), &Addresses::new(), &options).await?;
        let placed = formats::place(formats::Order {
            root: &self.root,
            key,
            material: &parsed.material,
            format: self.format,
            written: Some(formats::Written { data, notes: Vec::new() }),
            addresses: &Addresses::new(),
            modes: self.modes,
            overwrite: self.overwrite.clone(),
        })
        .await?;
        let outcome = match placed.outcome {
            Outcome::Written => "written",
            Outcome::Updated => "updated",
            Outcome::Unchanged => "unchanged",
        };
        Ok((outcome, placed.notes.iter().map(ToString::to_string).collect()))
    }
}

async fn listed(api: &Api, tenant_id: String) -> Result<Vec<v1::Session>, Failure> {
    let mut request = v1::ListSessionsRequest { tenant_id, page_size: PAGE, ..Default::default() };
    let mut sessions = Vec::new();
    loop {
        let answer =
            api.sessions().list_sessions(ask(request.clone())).await.map_err(|status| refused(&status))?;
        let page = answer.into_inner();
        sessions.extend(page.sessions);
        if page.next_page_token.is_empty() {
            return Ok(sessions);
        }
        if sessions.len() > SESSIONS_MAX {
            return Err(Failure::Usage(
                "there are more than a million sessions; export tenant by tenant".to_owned(),
            ));
        }
        request.page_token = page.next_page_token;
    }
}

const fn wire(format: material::Format) -> v1::SessionFormat {
    match format {
        material::Format::TelethonString => v1::SessionFormat::TelethonString,
        material::Format::TelethonSqlite => v1::SessionFormat::TelethonSqlite,
        material::Format::PyrogramString => v1::SessionFormat::PyrogramString,
        material::Format::PyrogramSqlite => v1::SessionFormat::PyrogramSqlite,
        material::Format::GramjsString => v1::SessionFormat::GramjsString,
        material::Format::MtcuteString => v1::SessionFormat::MtcuteString,
        material::Format::Grammers => v1::SessionFormat::Grammers,
        material::Format::Tdata => v1::SessionFormat::Tdata,
        material::Format::Raw => v1::SessionFormat::Raw,
    }
}

//! `usm custody …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use futures::stream::{self, StreamExt as _};
use serde_json::json;
use usm_client::v1;

use super::{
    Done, Failure,
    connect::{Api, Target, ask, refused},
    grants, mirror,
    output::{self, Format},
    reconcile::{self, Other},
};

/// Rows asked for at a time.
const PAGE: i32 = 200;
/// Sessions moved at once.
const PARALLEL: usize = 16;

#[derive(Debug, Subcommand)]
pub(super) enum Custody {
    /// This service owns the session from now on. Only after the legacy system stopped using it.
    #[command(
        after_help = "Examples:\n  usm custody take --tenant-id acme --app-id news\n  usm custody take --all\n  \
                      usm custody take --all --sessions-dir /app/sessions\n\nWith --sessions-dir what the legacy system did to \
                      the files meanwhile is taken too."
    )]
    Take(Taken),
    /// The legacy system owns the session from now on.
    #[command(
        after_help = "Examples:\n  usm custody give --tenant-id acme --app-id news\n  usm custody give --all"
    )]
    Give(Which),
    /// Lend nothing any more: the legacy system gets every session, each after its lease ended.
    #[command(
        after_help = "Example:\n  usm custody off --wait 120s\n\nWrites FEATURE_UNIFIED_SESSION_MANAGER=false into the \
                      database, for every replica at once."
    )]
    Off(grants::Off),
    /// Lend sessions again. They stay in the custody they have; take it with `usm custody take`.
    #[command(
        after_help = "Example:\n  usm custody on && usm custody take --all --sessions-dir /app/sessions"
    )]
    On(grants::On),
    /// Keep a current copy of a session as a file for the legacy system, at a server that mirrors.
    #[command(after_help = "Examples:\n  usm custody mirror --tenant-id acme --app-id news\n  \
                      usm custody mirror --tenant-id acme --app-id news --off\n\nSuch a file is a live key. The server needs \
                      USM_MIRROR_SESSIONS and SESSIONS_BASE_PATH; it mirrors sessions in custody LEGACY without being asked.")]
    Mirror(mirror::Mirror),
}

#[derive(Debug, Args)]
pub(super) struct Taken {
    #[command(flatten)]
    which: Which,
    /// Folder with <tenant>/<app>.session: compare with the files, and take what changed in them.
    #[arg(long, value_name = "DIR")]
    sessions_dir: Option<PathBuf>,
    /// Take an authorization that the legacy system made anew, too; without it such a session is told and refused.
    #[arg(long, requires = "sessions_dir")]
    replace: bool,
}

#[derive(Debug, Args)]
pub(super) struct Which {
    #[arg(long, visible_alias = "tenant", value_name = "T", required_unless_present = "all")]
    tenant_id: Option<String>,
    #[arg(long, value_name = "A", required_unless_present = "all", requires = "tenant_id")]
    app_id: Option<String>,
    /// Every session, or every one of --tenant-id.
    #[arg(long, conflicts_with = "app_id")]
    all: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Take,
    Give,
}

impl Custody {
    pub(super) async fn run(self, format: Format) -> Done {
        let (direction, which) = match self {
            Self::Take(Taken { which, sessions_dir: Some(root), replace }) => {
                let other = if replace { Other::Replaces } else { Other::Refused };
                return reconcile::run(which.target, which.tenant_id, which.app_id, root, other, format)
                    .await;
            }
            Self::Take(Taken { which, .. }) => (Direction::Take, which),
            Self::Give(which) => (Direction::Give, which),
            Self::Off(off) => return off.run(format).await,
            Self::On(on) => return on.run(format).await,
            Self::Mirror(mirror) => return mirror.run(format).await,
        };
        let api = which.target.connect().await?;
        let moved = match (which.tenant_id, which.app_id) {
            (Some(tenant), Some(app)) => match shift(&api, direction, tenant, app).await {
                Ok(session) => super::session::show(&session, format),
                Err(status) => Err(refused(&status)),
            },
            (tenant, _) => all(&api, direction, tenant.unwrap_or_default(), format).await,
        };
        api.close().await;
        moved
    }
}

async fn shift(
    api: &Api,
    direction: Direction,
    tenant_id: String,
    app_id: String,
) -> Result<v1::Session, tonic::Status> {
    let session = match direction {
        Direction::Take => {
            let request = v1::TakeCustodyRequest { tenant_id, app_id, ..Default::default() };
            api.sessions().take_custody(ask(request)).await?.into_inner().session
        }
        Direction::Give => {
            let request = v1::GiveCustodyRequest { tenant_id, app_id, ..Default::default() };
            api.sessions().give_custody(ask(request)).await?.into_inner().session
        }
    };
    Ok(session.unwrap_or_default())
}

/// Moves every session that is not there yet, a page at a time; one that refuses does not stop the others, and tells why.
async fn all(api: &Api, direction: Direction, tenant_id: String, format: Format) -> Done {
    let from = match direction {
        Direction::Take => v1::SessionCustody::Legacy,
        Direction::Give => v1::SessionCustody::Service,
    };
    let (mut moved, mut refusals) = (0_u64, 0_u64);
    let mut request =
        v1::ListSessionsRequest { tenant_id, custody: from.into(), page_size: PAGE, ..Default::default() };
    let bar = indicatif::ProgressBar::new_spinner();
    if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {pos} sessions  {per_sec}") {
        bar.set_style(style);
    }
    if format == Format::Json {
        output::print_text("{\"sessions\": [");
    }
    loop {
        let answer =
            api.sessions().list_sessions(ask(request.clone())).await.map_err(|status| refused(&status))?;
        let page = answer.into_inner();
        let mut shifts = stream::iter(page.sessions)
            .map(async |session| {
                let name = format!("{}/{}", session.tenant_id, session.app_id);
                (name, shift(api, direction, session.tenant_id, session.app_id).await)
            })
            .buffered(PARALLEL);
        while let Some((name, shifted)) = shifts.next().await {
            let comma = if moved + refusals > 0 { "," } else { "" };
            let (outcome, message) = match shifted {
                Ok(_) => {
                    moved += 1;
                    ("moved", String::new())
                }
                Err(status) => {
                    refusals += 1;
                    ("refused", refused(&status).text().to_owned())
                }
            };
            bar.suspend(|| match format {
                Format::Json => output::print_text(format_args!(
                    "{comma}{}",
                    json!({"session": name, "outcome": outcome, "message": message})
                )),
                Format::Table => output::print_text(format!("{outcome:<8} {name}  {message}").trim_end()),
            });
            bar.inc(1);
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    bar.finish_and_clear();
    match format {
        Format::Json => output::print_text(format_args!("], \"moved\": {moved}, \"refused\": {refusals}}}")),
        Format::Table => output::print_text(format!("{moved} moved, {refusals} refused")),
    }
    if refusals == 0 {
        Ok(())
    } else {
        Err(Failure::Failed(format!(
            "{refusals} sessions stayed where they were; run it again once they are free"
        )))
    }
}

//! `usm custody off` and `on`: whether this service lends sessions at all.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tonic::Code;
use usm_client::v1;

use super::{
    Done, Failure,
    connect::{Api, Target, ask, refused},
    output::{self, Format},
};
use crate::config;

/// Rows asked for at a time.
const PAGE: i32 = 200;
/// Between two looks at sessions that are lent yet.
const LOOK: Duration = Duration::from_secs(1);
/// The longest `--wait`.
const WAIT_MAX: u64 = 24 * 3600;

#[derive(Debug, Args)]
pub(super) struct Off {
    /// Wait so long for leases to end, and fail if some did not; servers go on handing over without it.
    #[arg(long, value_name = "SPAN", default_value = "0", value_parser = |text: &str| config::span(0, WAIT_MAX, text))]
    wait: Duration,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct On {
    #[command(flatten)]
    target: Target,
}

impl Off {
    pub(super) async fn run(self, format: Format) -> Done {
        let api = self.target.connect().await?;
        let done = off(&api, self.wait).await;
        api.close().await;
        let (moved, waiting) = done?;
        match format {
            Format::Json => {
                output::print_document(&json!({"grants_enabled": false, "moved": moved, "waiting": waiting}))
            }
            Format::Table => {
                output::print_text(format!(
                    "off: nothing is lent any more; {moved} sessions went to the legacy system, {waiting} follow when their lease ended"
                ));
            }
        }
        if waiting > 0 && !self.wait.is_zero() {
            return Err(Failure::Failed(format!(
                "{waiting} sessions are lent yet; wait longer, or look with `usm lease list`"
            )));
        }
        Ok(())
    }
}

/// Switches off and hands over, as running servers do by themselves at the same time. Counts what was moved by anybody,
/// and what is lent yet.
async fn off(api: &Api, wait: Duration) -> Result<(u64, u64), Failure> {
    let ours = each_of_ours(api, Deed::Count).await?;
    set(api, false).await?;
    let until = Instant::now() + wait;
    loop {
        let waiting = each_of_ours(api, Deed::Give).await?;
        if waiting == 0 || Instant::now() >= until {
            return Ok((ours.saturating_sub(waiting), waiting));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Count,
    Give,
}

/// Goes through the sessions that this service owns and could lend; answers how many it owns then.
async fn each_of_ours(api: &Api, deed: Deed) -> Result<u64, Failure> {
    let mut request = v1::ListSessionsRequest {
        custody: v1::SessionCustody::Service.into(),
        states: vec![v1::SessionState::Authorized.into(), v1::SessionState::Stale.into()],
        page_size: PAGE,
        ..Default::default()
    };
    let mut left = 0;
    loop {
        let answer =
            api.sessions().list_sessions(ask(request.clone())).await.map_err(|status| refused(&status))?;
        let page = answer.into_inner();
        for session in page.sessions {
            if deed == Deed::Count {
                left += 1;
                continue;
            }
            let v1::Session { tenant_id, app_id, .. } = session;
            let give = v1::GiveCustodyRequest { tenant_id, app_id, ..Default::default() };
            let mut given = api.sessions().give_custody(ask(give.clone())).await;
            if given.as_ref().is_err_and(|status| status.code() == Code::Aborted) {
                // A server moved it at the same time.
                given = api.sessions().give_custody(ask(give)).await;
            }
            match given {
                Ok(_) => {}
                // Deleted meanwhile.
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) if status.code() == Code::Unavailable => return Err(refused(&status)),
                Err(_) => left += 1,
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(left);
        }
        request.page_token = page.next_page_token;
    }
}

impl On {
    pub(super) async fn run(self, format: Format) -> Done {
        let api = self.target.connect().await?;
        let done = set(&api, true).await;
        api.close().await;
        done?;
        match format {
            Format::Json => output::print_document(&json!({"grants_enabled": true})),
            Format::Table => output::print_text(
                "on: sessions of custody SERVICE are lent; the others stay the legacy system's until `usm custody take`",
            ),
        }
        Ok(())
    }
}

async fn set(api: &Api, enabled: bool) -> Result<(), Failure> {
    let request = v1::SetGrantsRequest { enabled, ..Default::default() };
    api.system().set_grants(ask(request)).await.map_err(|status| refused(&status))?;
    Ok(())
}

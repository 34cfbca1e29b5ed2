//! `usm custody take --sessions-dir`: takes sessions back together with what the legacy system did to their files.

use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt as _};
use usm_client::v1;

use super::{
    Done, Failure,
    connect::{Api, Target, ask, refused},
    outcome::{self, Line},
    output::Format,
};
use crate::{
    domain::{id::SessionKey, material},
    formats::{self, Addresses, LegacyFingerprint, SourceFile},
};

/// Files read and sent at the same time.
const PARALLEL: usize = 4;
/// Rows asked for at a time.
const PAGE: i32 = 1_000;

/// What becomes of a session whose file holds another authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Refused,
    Replaces,
}

/// Takes custody of one session, or of all that the legacy system has.
///
/// # Errors
/// When any was refused.
pub(super) async fn run(
    target: Target,
    tenant: Option<String>,
    app: Option<String>,
    root: PathBuf,
    other: Other,
    format: Format,
) -> Done {
    let api = target.connect().await?;
    let done = all(&api, tenant, app, &root, other).await;
    api.close().await;
    outcome::finish(done?, format)
}

async fn all(
    api: &Api,
    tenant: Option<String>,
    app: Option<String>,
    root: &Path,
    other: Other,
) -> Result<Vec<Line>, Failure> {
    let sessions = match (tenant, app) {
        (Some(tenant_id), Some(app_id)) => {
            let request = v1::GetSessionRequest { tenant_id, app_id };
            let answer = api.sessions().get_session(ask(request)).await.map_err(|status| refused(&status))?;
            answer.into_inner().session.into_iter().collect()
        }
        (tenant, _) => legacy(api, tenant.unwrap_or_default()).await?,
    };
    let count = sessions.len();
    let bar = outcome::progress(count);
    let lines = stream::iter(sessions)
        .map(|session| take(api, root, session, other))
        .buffer_unordered(PARALLEL)
        .inspect(|_| outcome::tick(&bar, count))
        .collect()
        .await;
    bar.finish_and_clear();
    Ok(lines)
}

async fn legacy(api: &Api, tenant_id: String) -> Result<Vec<v1::Session>, Failure> {
    let mut request = v1::ListSessionsRequest {
        tenant_id,
        custody: v1::SessionCustody::Legacy.into(),
        page_size: PAGE,
        ..Default::default()
    };
    let mut sessions = Vec::new();
    loop {
        let answer =
            api.sessions().list_sessions(ask(request.clone())).await.map_err(|status| refused(&status))?;
        let page = answer.into_inner();
        sessions.extend(page.sessions);
        if page.next_page_token.is_empty() {
            return Ok(sessions);
        }
        request.page_token = page.next_page_token;
    }
}

async fn take(api: &Api, root: &Path, session: v1::Session, other: Other) -> Line {
    let (tenant, app) = (session.tenant_id.as_str(), session.app_id.as_str());
    let Ok(key) = SessionKey::parse(tenant, app) else {
        return Line::refused(tenant, app, "name", "the service named a session as no session can be named");
    };
    if session.custody() == v1::SessionCustody::Service {
        return Line::done(tenant, app, "already_ours");
    }
    let source = match formats::read_file(root, &formats::path_of(root, &key), &Addresses::new()).await {
        Ok(source) => Some(source),
        Err(formats::Error::NotFound) => None,
        Err(error) => return Line::refused(tenant, app, error.code(), error),
    };
    let usable = matches!(session.state(), v1::SessionState::Authorized | v1::SessionState::Stale);
    match source {
        Some(source) if usable && !is_recorded(&session, &source.fingerprint) => {
            taken_changed(api, &session, &source, other).await
        }
        found => {
            let request = v1::TakeCustodyRequest {
                tenant_id: session.tenant_id.clone(),
                app_id: session.app_id.clone(),
                legacy_fingerprint: found
                    .as_ref()
                    .filter(|_| usable)
                    .map(|source| source.fingerprint.to_string())
                    .unwrap_or_default(),
                ..Default::default()
            };
            match api.sessions().take_custody(ask(request)).await {
                Ok(_) if found.is_none() => Line::done(tenant, app, "taken")
                    .warn(["there is no file of it to compare with".to_owned()]),
                Ok(_) => Line::done(tenant, app, "taken"),
                Err(status) => Line::by_service(tenant, app, &status),
            }
        }
    }
}

fn is_recorded(session: &v1::Session, found: &LegacyFingerprint) -> bool {
    LegacyFingerprint::parse(&session.legacy_fingerprint).as_ref() == Some(found)
}

/// The file was written to since it was recorded, if it was. The same authorization is taken with what is new; another one
/// only if that is wanted, and the service writes down that there is one.
async fn taken_changed(api: &Api, session: &v1::Session, source: &SourceFile, other: Other) -> Line {
    let (tenant, app) = (session.tenant_id.as_str(), session.app_id.as_str());
    let written = formats::write(&source.parsed.material, material::Format::Raw, &Addresses::new()).await;
    let raw = match written {
        Ok(written) => written.data,
        Err(error) => return Line::refused(tenant, app, error.code(), error),
    };
    let wanted = v1::ImportSessionRequest {
        tenant_id: session.tenant_id.clone(),
        app_id: session.app_id.clone(),
        format: v1::SessionFormat::Raw.into(),
        data: raw.to_vec(),
        legacy_stopped: true,
        replace: true,
        api_key_alias: session.api_key_alias.clone(),
        legacy_fingerprint: source.fingerprint.to_string(),
        ..Default::default()
    };
    let trial = v1::ImportSessionRequest { dry_run: true, ..wanted.clone() };
    let same = match api.sessions().import_session(ask(trial)).await {
        Ok(answer) => {
            answer.into_inner().session.is_some_and(|found| found.fingerprint == session.fingerprint)
        }
        Err(status) => return Line::by_service(tenant, app, &status),
    };
    let request = match (same, other) {
        (true, _) | (false, Other::Replaces) => wanted,
        (false, Other::Refused) => v1::ImportSessionRequest { replace: false, ..wanted },
    };
    let notes = source.parsed.notes.iter().map(ToString::to_string);
    match api.sessions().import_session(ask(request)).await {
        Ok(_) if same => Line::done(tenant, app, "taken_changed"),
        Ok(_) => Line::done(tenant, app, "replaced").warn(notes),
        Err(status) => Line::by_service(tenant, app, &status),
    }
}

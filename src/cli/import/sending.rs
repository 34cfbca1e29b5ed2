//! Reading one source and having the service take it in.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Semaphore;
use tonic::Code;
use tonic_types::StatusExt as _;
use usm_client::v1;
use zeroize::Zeroizing;

use super::{
    line::{Line, Outcome},
    passwords::Passwords,
    twice::Seen,
    walk::{Found, Source},
};
use crate::{
    cli::connect::{Api, ask_within},
    domain::{id::SessionKey, material, secret::Secret},
    formats::{self, Addresses, Note},
};

/// Bytes of sources that are read at once, in units of [`UNIT`]. A larger one is read alone.
const READ_AT_ONCE: u32 = 512;
const UNIT: u64 = 64 * 1024;
/// How long a call may take; Telegram may be asked meanwhile.
const CALL_LIMIT: Duration = Duration::from_secs(90);
/// Attempts at a call that the service did not answer, or wants repeated later.
const ATTEMPTS_MAX: u32 = 6;
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// A service that wants to be left alone for longer is asked in another run.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Refusals that pass by themselves.
const PASSING: &[&str] = &[
    "OVERLOADED",
    "RATE_LIMITED",
    "SERVICE_DRAINING",
    "STORE_CONFLICT",
    "STORE_UNAVAILABLE",
    "TELEGRAM_FLOOD_WAIT",
    "TELEGRAM_UNAVAILABLE",
];

/// What is asked of the service for every source.
pub(super) struct Order {
    pub(super) root: PathBuf,
    pub(super) salt: [u8; 32],
    pub(super) dry_run: bool,
    pub(super) legacy_stopped: bool,
    pub(super) validate: bool,
    pub(super) mint: bool,
    pub(super) replace: bool,
    pub(super) api_key_alias: String,
    pub(super) passwords: Passwords,
    /// Of locked folders of TDesktop.
    pub(super) passcode: Option<Secret>,
    /// Which account of a folder that holds several.
    pub(super) account: Option<usize>,
    pub(super) room: Semaphore,
}

impl Order {
    pub(super) fn room() -> Semaphore {
        Semaphore::new(READ_AT_ONCE as usize)
    }
}

/// A source that was read.
pub(super) struct Ready {
    pub(super) file: String,
    pub(super) key: SessionKey,
    raw: Zeroizing<Vec<u8>>,
    legacy_fingerprint: String,
    notes: Vec<Note>,
    /// Tells its authorization from others of this run.
    pub(super) mark: Option<[u8; 16]>,
}

/// What came of sending it.
pub(super) enum Sent {
    Line(Line),
    /// Nobody answered, so nothing is known of it and the rest is not worth a try.
    Unheard(Line),
}

impl Order {
    /// Reads a source, or tells why not.
    pub(super) async fn read(&self, found: Found) -> Result<Ready, Box<Line>> {
        let Found { source, name: file, key } = found;
        let key = match key {
            Ok(key) => key,
            Err(rule) => return Err(Box::new(Line::refused(file, None, rule.code, rule.text))),
        };
        let refused = |error: &formats::Error| {
            Box::new(Line::refused(file.clone(), Some(&key), error.code(), &error.to_string()))
        };
        let _room = self.take_room(&source).await;
        let none = Addresses::new();
        let (parsed, legacy_fingerprint) = match &source {
            Source::File(path) => match formats::read_file(&self.root, path, &none).await {
                Ok(source) => (source.parsed, source.fingerprint.to_string()),
                Err(error) => return Err(refused(&error)),
            },
            Source::Text(text) => match formats::parse(text, None, &none).await {
                Ok(parsed) => (parsed, String::new()),
                Err(error) => return Err(refused(&error)),
            },
            Source::Tdata(folder) => match self.read_tdata(folder).await {
                Ok(parsed) => (parsed, String::new()),
                Err(error) => return Err(refused(&error)),
            },
            Source::Nothing => return Err(refused(&formats::Error::NotFound)),
        };
        let mark = Seen::mark(&self.salt, &parsed.material);
        // What the journals beside the file say is in the material, but not in the file's own bytes.
        let written = formats::write(&parsed.material, material::Format::Raw, &none).await;
        let raw = match written {
            Ok(written) => written.data,
            Err(error) => return Err(refused(&error)),
        };
        Ok(Ready { file, key, raw, legacy_fingerprint, notes: parsed.notes, mark })
    }

    async fn read_tdata(&self, folder: &Path) -> Result<formats::Parsed, formats::Error> {
        let accounts =
            formats::read_tdata(&self.root, folder, &Addresses::new(), self.passcode.as_ref()).await?;
        formats::choose_tdata_account(accounts, self.account)
    }

    /// Room for as many bytes as the source has, so that large ones are not read all at once.
    async fn take_room(&self, source: &Source) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let Source::File(path) = source else { return None };
        let length = tokio::fs::metadata(path).await.map_or(0, |found| found.len());
        // Two copies at the worst: the file's, and that of SQLite.
        let units = u32::try_from(length.saturating_mul(2) / UNIT + 1).unwrap_or(READ_AT_ONCE);
        self.room.acquire_many(units.min(READ_AT_ONCE)).await.ok()
    }

    /// Has the service take it in.
    pub(super) async fn send(self: Arc<Self>, api: Arc<Api>, ready: Ready) -> Sent {
        let mut password = if self.mint { self.passwords.of(&ready.key) } else { None };
        let mut attempt = 0;
        loop {
            let request = v1::ImportSessionRequest {
                tenant_id: ready.key.tenant.to_string(),
                app_id: ready.key.app.to_string(),
                format: v1::SessionFormat::Raw.into(),
                data: ready.raw.to_vec(),
                legacy_stopped: self.legacy_stopped,
                dry_run: self.dry_run,
                validate: self.validate,
                mint: self.mint,
                replace: self.replace,
                password: password.as_ref().map(|it| it.expose_secret().to_owned()).unwrap_or_default(),
                api_key_alias: self.api_key_alias.clone(),
                legacy_fingerprint: ready.legacy_fingerprint.clone(),
                ..Default::default()
            };
            let status = match api.sessions().import_session(ask_within(request, CALL_LIMIT)).await {
                Ok(answer) => return Sent::Line(ready.done(answer.into_inner())),
                Err(status) => status,
            };
            let details = status.get_error_details();
            let info = details.error_info().filter(|info| info.domain == "usm");
            let reason = info.map(|info| info.reason.clone());
            let asked_again = reason.as_deref() == Some("PASSWORD_REQUIRED") && password.is_none();
            if asked_again && let Some(given) = self.passwords.ask(&ready.key).await {
                password = Some(given);
                continue;
            }
            let told = details.retry_info().and_then(|retry| retry.retry_delay);
            let pause = told.unwrap_or(PAUSE_MIN * (1 << attempt));
            let passing = match &reason {
                Some(reason) => PASSING.contains(&reason.as_str()),
                None => matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
            };
            attempt += 1;
            if passing && attempt < ATTEMPTS_MAX && pause <= PAUSE_MAX {
                tokio::time::sleep(pause).await;
                continue;
            }
            let conflict = info.and_then(|info| info.metadata.get("conflict")).map(String::as_str);
            let other = info.and_then(|info| info.metadata.get("session")).map(String::as_str);
            return ready.refused(&status, reason, conflict, other);
        }
    }
}

impl Ready {
    fn warnings(&self) -> Vec<String> {
        self.notes.iter().map(ToString::to_string).collect()
    }

    fn done(self, answer: v1::ImportSessionResponse) -> Line {
        let outcome = match answer.outcome() {
            v1::ImportOutcome::AlreadyThere => Outcome::AlreadyThere,
            v1::ImportOutcome::Differs => Outcome::Differs,
            v1::ImportOutcome::Imported | v1::ImportOutcome::Unspecified => Outcome::Imported,
            v1::ImportOutcome::Replaced => Outcome::Replaced,
            v1::ImportOutcome::Minted => Outcome::Minted,
        };
        let mut warnings = self.warnings();
        warnings.extend(answer.warnings);
        if outcome == Outcome::Differs {
            return Line { warnings, ..self.differs("SESSION_ALREADY_EXISTS") };
        }
        Line::done(self.file, &self.key, outcome, warnings)
    }

    fn differs(&self, reason: &str) -> Line {
        let message = "the name holds another authorization; import under another name, or with --replace";
        let line = Line::refused(self.file.clone(), Some(&self.key), reason, message);
        Line { outcome: Outcome::Differs, ..line }
    }

    fn refused(
        self,
        status: &tonic::Status,
        reason: Option<String>,
        conflict: Option<&str>,
        other: Option<&str>,
    ) -> Sent {
        let warnings = self.warnings();
        if conflict == Some("name") {
            let reason = reason.as_deref().unwrap_or("SESSION_ALREADY_EXISTS");
            return Sent::Line(Line { warnings, ..self.differs(reason) });
        }
        let message = match other {
            Some(other) => format!("{} ({other})", status.message()),
            None => status.message().to_owned(),
        };
        match reason {
            Some(reason) => {
                let line = Line::refused(self.file, Some(&self.key), &reason, &message);
                Sent::Line(Line { warnings, ..line })
            }
            None => {
                let code = format!("{:?}", status.code());
                let line = Line::refused(self.file, Some(&self.key), &code, &message);
                if status.code() == Code::Unavailable { Sent::Unheard(line) } else { Sent::Line(line) }
            }
        }
    }
}

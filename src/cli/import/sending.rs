//! Reading sources and having the service take them in, several at a time: a task and a call for each would cost more
//! than the work in it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::stream::{self, StreamExt as _};
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use usm_client::v1;
use zeroize::Zeroizing;

use super::{
    line::{Line, Outcome},
    passwords::Passwords,
    twice::{Mark, Seen},
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
/// Files up to this size are read together, one after the other, in bytes; larger ones for themselves.
const SMALL: u64 = 256 * 1024;
/// How long those may take together before each is read for itself.
const TOGETHER_LIMIT: Duration = Duration::from_secs(30);
/// Longer material has a call of its own, in bytes: 64 of this length are a quarter of the largest message.
const LENGTH_TOGETHER_MAX: usize = 64 * 1024;
/// Calls for single sources after a batch that failed: all of it, so that a service that is away is given up soon.
const SINGLE_PARALLEL: usize = 64;
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
    pub(super) mark: Option<Mark>,
}

/// What came of sending it.
pub(super) enum Sent {
    Line(Line),
    /// Nobody answered, so nothing is known of it and the rest is not worth a try.
    Unheard(Line),
}

impl Order {
    /// Reads sources, or tells why not.
    pub(super) async fn read_all(self: Arc<Self>, found: Vec<Found>) -> Vec<Result<Ready, Box<Line>>> {
        let found: Arc<[Found]> = found.into();
        let (order, small) = (Arc::clone(&self), Arc::clone(&found));
        let reading = tokio::task::spawn_blocking(move || {
            small.iter().map(|found| order.read_small(found)).collect::<Vec<_>>()
        });
        // On a file system that hangs each has a limit of its own.
        let read = tokio::time::timeout(TOGETHER_LIMIT, reading).await.ok().and_then(Result::ok);
        let read = read.unwrap_or_else(|| found.iter().map(|_| None).collect());
        let mut all = Vec::with_capacity(found.len());
        for (found, read) in found.iter().zip(read) {
            all.push(match read {
                Some(read) => read,
                None => self.read(found).await,
            });
        }
        all
    }

    /// Blocks. `None` for what is read for itself.
    fn read_small(&self, found: &Found) -> Option<Result<Ready, Box<Line>>> {
        let (Source::File(path), Ok(key)) = (&found.source, &found.key) else { return None };
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > SMALL) {
            return None;
        }
        let ready = formats::read_file_blocking(&self.root, path, &Addresses::new())
            .and_then(|source| self.ready(found, key, source.parsed, source.fingerprint.to_string()));
        Some(ready.map_err(|error| refused(found, key, &error)))
    }

    /// Reads a source, or tells why not.
    async fn read(&self, found: &Found) -> Result<Ready, Box<Line>> {
        let key = match &found.key {
            Ok(key) => key,
            Err(rule) => {
                return Err(Box::new(Line::refused(found.name.clone(), None, rule.code, rule.text)));
            }
        };
        let refused = |error: &formats::Error| refused(found, key, error);
        let _room = self.take_room(&found.source).await;
        let none = Addresses::new();
        let (parsed, legacy_fingerprint) = match &found.source {
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
        self.ready(found, key, parsed, legacy_fingerprint).map_err(|error| refused(&error))
    }

    fn ready(
        &self,
        found: &Found,
        key: &SessionKey,
        parsed: formats::Parsed,
        legacy_fingerprint: String,
    ) -> Result<Ready, formats::Error> {
        let mark = Seen::mark(&self.salt, &parsed.material);
        // What the journals beside the file say is in the material, but not in the file's own bytes.
        let written = formats::write_blocking(&parsed.material, material::Format::Raw, &Addresses::new())?;
        Ok(Ready {
            file: found.name.clone(),
            key: key.clone(),
            raw: written.data,
            legacy_fingerprint,
            notes: parsed.notes,
            mark,
        })
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

    /// Has the service take them in, by one call where that may be.
    pub(super) async fn send_all(
        self: Arc<Self>,
        api: Arc<Api>,
        read: Vec<Result<Ready, Box<Line>>>,
    ) -> Vec<Sent> {
        let fits = |ready: &Ready| ready.raw.len() <= LENGTH_TOGETHER_MAX;
        let together = !self.validate && !self.mint && read.len() > 1;
        let requests: Vec<_> = read
            .iter()
            .flatten()
            .filter(|ready| together && fits(ready))
            .map(|ready| self.request(ready, None))
            .collect();
        let mut results = self.results(&api, requests).await.into_iter();
        let sent = read.into_iter().map(|read| {
            let result = match &read {
                Ok(ready) if fits(ready) => results.next(),
                Ok(_) | Err(_) => None,
            };
            let (order, api) = (Arc::clone(&self), Arc::clone(&api));
            async move {
                match (read, result) {
                    (Err(line), _) => Sent::Line(*line),
                    (Ok(ready), Some(Ok(answer))) => Sent::Line(ready.done(answer)),
                    (Ok(ready), Some(Err(status))) if !Refusal::of(&status).is_passing => {
                        ready.refused(&status)
                    }
                    (Ok(ready), Some(Err(_)) | None) => order.send(api, ready).await,
                }
            }
        });
        stream::iter(sent).buffered(SINGLE_PARALLEL).collect().await
    }

    /// One for each request, or none: the batch was not taken, and each is to be sent for itself.
    async fn results(
        &self,
        api: &Api,
        requests: Vec<v1::ImportSessionRequest>,
    ) -> Vec<Result<v1::ImportSessionResponse, Status>> {
        use v1::batch_import_result::Result as Of;
        if requests.is_empty() {
            return Vec::new();
        }
        let count = requests.len();
        let request = v1::BatchImportSessionsRequest { requests, ..Default::default() };
        let answered = api.sessions().batch_import_sessions(ask_within(request, CALL_LIMIT)).await;
        let Ok(answer) = answered else { return Vec::new() };
        let results = answer.into_inner().results.into_iter().map(|result| match result.result {
            Some(Of::Imported(imported)) => Ok(imported),
            Some(Of::Status(status)) => Err(status_of(status)),
            None => Err(Status::unknown("the service answered nothing")),
        });
        let results: Vec<_> = results.collect();
        if results.len() == count { results } else { Vec::new() }
    }

    fn request(&self, ready: &Ready, password: Option<&Secret>) -> v1::ImportSessionRequest {
        v1::ImportSessionRequest {
            tenant_id: ready.key.tenant.to_string(),
            app_id: ready.key.app.to_string(),
            format: v1::SessionFormat::Raw.into(),
            data: ready.raw.to_vec(),
            legacy_stopped: self.legacy_stopped,
            dry_run: self.dry_run,
            validate: self.validate,
            mint: self.mint,
            replace: self.replace,
            password: password.map(|it| it.expose_secret().to_owned()).unwrap_or_default(),
            api_key_alias: self.api_key_alias.clone(),
            legacy_fingerprint: ready.legacy_fingerprint.clone(),
            ..Default::default()
        }
    }

    /// Has the service take it in by a call of its own, however often that takes.
    async fn send(self: Arc<Self>, api: Arc<Api>, ready: Ready) -> Sent {
        let mut password = if self.mint { self.passwords.of(&ready.key) } else { None };
        let mut attempt = 0;
        loop {
            let request = self.request(&ready, password.as_ref());
            let status = match api.sessions().import_session(ask_within(request, CALL_LIMIT)).await {
                Ok(answer) => return Sent::Line(ready.done(answer.into_inner())),
                Err(status) => status,
            };
            let refusal = Refusal::of(&status);
            let asked_again = refusal.reason.as_deref() == Some("PASSWORD_REQUIRED") && password.is_none();
            if asked_again && let Some(given) = self.passwords.ask(&ready.key).await {
                password = Some(given);
                continue;
            }
            let pause = refusal.pause.unwrap_or(PAUSE_MIN * (1 << attempt));
            attempt += 1;
            if refusal.is_passing && attempt < ATTEMPTS_MAX && pause <= PAUSE_MAX {
                tokio::time::sleep(pause).await;
                continue;
            }
            return ready.refused(&status);
        }
    }
}

fn refused(found: &Found, key: &SessionKey, error: &formats::Error) -> Box<Line> {
    Box::new(Line::refused(found.name.clone(), Some(key), error.code(), &error.to_string()))
}

/// An error as a single call would have ended with it.
fn status_of(details: Vec<u8>) -> Status {
    match tonic_types::pb::Status::decode(details.as_slice()) {
        Ok(status) => Status::with_details(Code::from_i32(status.code), status.message, details.into()),
        Err(_) => Status::unknown("the service answered an error that cannot be read"),
    }
}

/// What the service says of an error.
struct Refusal {
    reason: Option<String>,
    conflict: Option<String>,
    /// What it is about: the session that has the authorization, or the alias of an API key.
    about: Option<String>,
    pause: Option<Duration>,
    /// Whether it passes by itself.
    is_passing: bool,
}

impl Refusal {
    fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == "usm");
        let fact = |name| info.and_then(|info| info.metadata.get(name)).cloned();
        let reason = info.map(|info| info.reason.clone());
        let is_passing = match &reason {
            Some(reason) => PASSING.contains(&reason.as_str()),
            None => matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
        };
        let pause = details.retry_info().and_then(|retry| retry.retry_delay);
        Self {
            conflict: fact("conflict"),
            about: fact("session").or_else(|| fact("alias")),
            reason,
            pause,
            is_passing,
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

    fn refused(self, status: &Status) -> Sent {
        let warnings = self.warnings();
        let Refusal { reason, conflict, about, .. } = Refusal::of(status);
        if conflict.as_deref() == Some("name") {
            let reason = reason.as_deref().unwrap_or("SESSION_ALREADY_EXISTS");
            return Sent::Line(Line { warnings, ..self.differs(reason) });
        }
        let message = match about {
            Some(about) => format!("{} ({about})", status.message()),
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

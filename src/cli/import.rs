//! `usm import`: files of another system.

use std::{
    collections::BTreeMap,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tonic_types::StatusExt as _;
use usm_client::v1;

use super::{
    Done, Failure,
    connect::{Api, Target, ask},
    output::{self, Format},
};
use crate::{
    domain::{id::SessionKey, material},
    formats::{self, Addresses},
};

/// Files read and sent at the same time.
const PARALLEL: usize = 4;
/// Without a terminal a line tells of the progress after so many files.
const TELL_EVERY: u64 = 1_000;
/// Files one run takes; a larger folder is imported tenant by tenant.
const FILES_MAX: usize = 1_000_000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  usm import --sessions-dir /app/sessions --dry-run\n  \
                        usm import --sessions-dir /app/sessions --legacy-stopped --report import.json\n  \
                        usm import --sessions-dir /app/flat --tenant acme")]
pub(super) struct Import {
    /// Folder with <tenant>/<app>.session; files that lie directly in it need --tenant.
    #[arg(long, value_name = "DIR", env = "SESSIONS_BASE_PATH")]
    sessions_dir: PathBuf,
    /// Only this tenant: its folder, and the files that lie directly in the sessions folder.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// Do everything but write.
    #[arg(long)]
    dry_run: bool,
    /// The legacy system does not use these files any more: this service may lend the sessions.
    #[arg(long)]
    legacy_stopped: bool,
    /// Which configured api_id the sessions were made with.
    #[arg(long, value_name = "ALIAS", default_value = "")]
    api_key_alias: String,
    /// Where to write what became of each file, as JSON; text beside it with the ending .txt.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// A file and the session it is to become.
struct Candidate {
    path: PathBuf,
    key: Result<SessionKey, &'static str>,
}

/// What became of a file.
#[derive(Clone, Debug)]
struct Line {
    file: String,
    tenant_id: String,
    app_id: String,
    outcome: &'static str,
    /// The stable reason of a refusal, or the code of a file's fault.
    reason: String,
    message: String,
    warnings: Vec<String>,
}

impl Import {
    pub(super) async fn run(self, format: Format) -> Done {
        let candidates = self.candidates()?;
        if candidates.is_empty() {
            output::note(format!("no .session files in {}", self.sessions_dir.display()));
        }
        let files = candidates.len();
        let bar = progress(files);
        let report = self.report.clone();
        let Self { sessions_dir, dry_run, legacy_stopped, api_key_alias, target, .. } = self;
        let order = Order { root: sessions_dir, dry_run, legacy_stopped, api_key_alias };
        let api = target.connect().await?;
        let mut lines: Vec<Line> = stream::iter(candidates)
            .map(|candidate| order.take(&api, candidate))
            .buffer_unordered(PARALLEL)
            .inspect(|_| {
                bar.inc(1);
                if bar.is_hidden() && bar.position().is_multiple_of(TELL_EVERY) {
                    output::note(format!("{} of {files} files", bar.position()));
                }
            })
            .collect()
            .await;
        bar.finish_and_clear();
        api.close().await;
        lines.sort_by(|a, b| a.file.cmp(&b.file));
        show(&lines, format);
        if let Some(path) = report {
            write_report(&path, &lines)?;
        }
        let refused = lines.iter().filter(|line| line.outcome == "refused").count();
        if refused == 0 {
            Ok(())
        } else {
            Err(Failure::Failed(format!("{refused} of {} files were refused", lines.len())))
        }
    }

    /// The files in a fixed order, so that two runs tell the same.
    fn candidates(&self) -> Result<Vec<Candidate>, Failure> {
        let mut found = Vec::new();
        for entry in read_folder(&self.sessions_dir)? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_session(&entry) {
                let key = match &self.tenant {
                    Some(tenant) => key_of(tenant, &entry),
                    None => Err("lies outside a tenant's folder; name its tenant with --tenant"),
                };
                found.push(Candidate { path: entry, key });
            } else if entry.is_dir() && self.tenant.as_ref().is_none_or(|tenant| *tenant == name) {
                // Nothing outside the folder is looked at, so a link is told instead of followed.
                if entry.is_symlink() {
                    found.push(Candidate {
                        path: entry,
                        key: Err("is a link to a folder; import that folder itself"),
                    });
                    continue;
                }
                for file in read_folder(&entry)?.into_iter().filter(|file| is_session(file)) {
                    let key = key_of(&name, &file);
                    found.push(Candidate { path: file, key });
                }
            }
            if found.len() > FILES_MAX {
                return Err(Failure::Usage(
                    "the folder holds more than a million sessions; import it in parts".to_owned(),
                ));
            }
        }
        Ok(found)
    }
}

struct Order {
    root: PathBuf,
    dry_run: bool,
    legacy_stopped: bool,
    api_key_alias: String,
}

impl Order {
    async fn take(&self, api: &Api, candidate: Candidate) -> Line {
        let file = candidate.path.strip_prefix(&self.root).unwrap_or(&candidate.path).display().to_string();
        let key = match candidate.key {
            Ok(key) => key,
            Err(rule) => return Line::refused(file, None, "name", rule),
        };
        let source = match formats::read_file(&self.root, &candidate.path, &Addresses::new()).await {
            Ok(source) => source,
            Err(error) => return Line::refused(file, Some(&key), error.code(), &error.to_string()),
        };
        // What the journals beside the file say is in the material, but not in the file's own bytes.
        let raw =
            match formats::write(&source.parsed.material, material::Format::Raw, &Addresses::new()).await {
                Ok(written) => written.data,
                Err(error) => return Line::refused(file, Some(&key), error.code(), &error.to_string()),
            };
        let request = v1::ImportSessionRequest {
            tenant_id: key.tenant.to_string(),
            app_id: key.app.to_string(),
            format: v1::SessionFormat::Raw.into(),
            data: raw.to_vec(),
            legacy_stopped: self.legacy_stopped,
            dry_run: self.dry_run,
            api_key_alias: self.api_key_alias.clone(),
            legacy_fingerprint: source.fingerprint.to_string(),
            ..Default::default()
        };
        let warnings = source.parsed.notes.iter().map(ToString::to_string).collect();
        match api.sessions().import_session(ask(request)).await {
            Ok(answer) => Line::done(file, &key, answer.into_inner().outcome(), self.dry_run, warnings),
            Err(status) => {
                let details = status.get_error_details();
                let reason = details
                    .error_info()
                    .map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
                Line::refused(file, Some(&key), &reason, status.message())
            }
        }
    }
}

impl Line {
    fn refused(file: String, key: Option<&SessionKey>, reason: &str, message: &str) -> Self {
        Self {
            file,
            tenant_id: key.map(|key| key.tenant.to_string()).unwrap_or_default(),
            app_id: key.map(|key| key.app.to_string()).unwrap_or_default(),
            outcome: "refused",
            reason: reason.to_owned(),
            message: message.to_owned(),
            warnings: Vec::new(),
        }
    }

    fn done(
        file: String,
        key: &SessionKey,
        outcome: v1::ImportOutcome,
        dry_run: bool,
        warnings: Vec<String>,
    ) -> Self {
        let outcome = match outcome {
            v1::ImportOutcome::AlreadyThere => "already_there",
            v1::ImportOutcome::Differs => "differs",
            v1::ImportOutcome::Imported | v1::ImportOutcome::Replaced if dry_run => "would_import",
            v1::ImportOutcome::Imported | v1::ImportOutcome::Unspecified => "imported",
            v1::ImportOutcome::Replaced => "replaced",
            v1::ImportOutcome::Minted => "minted",
        };
        Self {
            file,
            tenant_id: key.tenant.to_string(),
            app_id: key.app.to_string(),
            outcome,
            reason: String::new(),
            message: String::new(),
            warnings,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "file": self.file, "tenant_id": self.tenant_id, "app_id": self.app_id, "outcome": self.outcome,
            "reason": self.reason, "message": self.message, "warnings": self.warnings,
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!("{:<13} {}", self.outcome, self.file);
        if !self.reason.is_empty() {
            text.push_str(&format!("  {}: {}", self.reason, self.message));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\n              note: {warning}"));
        }
        text
    }
}

fn show(lines: &[Line], format: Format) {
    match format {
        Format::Json => output::print_document(&document(lines)),
        Format::Table => {
            for line in lines {
                output::print_text(line.to_text());
            }
            let counts: Vec<String> =
                counts(lines).into_iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
            output::print_text(if counts.is_empty() {
                "nothing to do".to_owned()
            } else {
                counts.join(", ")
            });
        }
    }
}

fn document(lines: &[Line]) -> Value {
    json!({"counts": counts(lines), "files": lines.iter().map(Line::to_json).collect::<Vec<_>>()})
}

fn counts(lines: &[Line]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line.outcome).or_default() += 1;
    }
    counts
}

fn write_report(path: &Path, lines: &[Line]) -> Done {
    let told = |error: std::io::Error| {
        Failure::Failed(format!("the report {} cannot be written: {error}", path.display()))
    };
    std::fs::write(path, format!("{:#}\n", document(lines))).map_err(told)?;
    let text: String = lines.iter().map(|line| line.to_text() + "\n").collect();
    std::fs::write(path.with_extension("txt"), text).map_err(told)
}

fn read_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let told = |error: std::io::Error| {
        Failure::Failed(format!("the folder {} cannot be read: {error}", folder.display()))
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(told)? {
        entries.push(entry.map_err(told)?.path());
    }
    entries.sort();
    Ok(entries)
}

fn is_session(path: &Path) -> bool {
    // Telethon's own ending; compared as bytes, because a name need not be text.
    path.file_name().is_some_and(|name| name.as_bytes().to_ascii_lowercase().ends_with(b".session"))
        && !std::fs::metadata(path).is_ok_and(|found| found.is_dir())
}

fn key_of(tenant: &str, file: &Path) -> Result<SessionKey, &'static str> {
    let app = file.file_stem().and_then(|stem| stem.to_str()).ok_or("its name is not UTF-8")?;
    SessionKey::parse(tenant, app).map_err(
        |_| "its folder and name must be 1-128 characters of A-Z a-z 0-9 . _ - not starting with . or -",
    )
}

fn progress(files: usize) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(files as u64);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

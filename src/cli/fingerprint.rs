//! `usm fingerprint`: what a session file is known by, and whether a folder holds one authorization twice.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::{
    Done, Failure,
    output::{self, Format},
};
use crate::{
    domain::fingerprint,
    formats::{self, Addresses},
};

/// Files one run looks at.
const FILES_MAX: usize = 1_000_000;
/// How deep a folder of sessions is: `<tenant>/<app>.session`.
const DEPTH_MAX: usize = 2;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  usm fingerprint /app/sessions/acme/news.session\n  \
                        usm fingerprint --dir /app/sessions      finds one authorization under two names, before an import\n\n\
                        A file's fingerprint is sha256:size:mtime, as the legacy system has it.")]
pub(super) struct Fingerprint {
    #[arg(required_unless_present = "dir", conflicts_with = "dir")]
    file: Option<PathBuf>,
    /// Look through a folder of sessions for copies; exit code 1 if there are any.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Fingerprint {
    pub(super) async fn run(self, format: Format) -> Done {
        match (self.file, self.dir) {
            (Some(file), _) => of_file(file, format).await,
            (None, Some(folder)) => copies(&folder, format).await,
            (None, None) => Err(Failure::Usage("name a file, or a folder with --dir".to_owned())),
        }
    }
}

async fn of_file(file: PathBuf, format: Format) -> Done {
    let path = file.clone();
    // Reading blocks, on a file system over a network for long.
    let read = tokio::task::spawn_blocking(move || formats::fingerprint_file(&path)).await?;
    let fingerprint =
        read.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?.to_string();
    match format {
        Format::Json => output::print_document(&json!({"file": file, "fingerprint": fingerprint})),
        Format::Table => output::print_text(fingerprint),
    }
    Ok(())
}

/// Keyed with what nobody else knows, so that the table tells nothing of a key.
async fn copies(folder: &Path, format: Format) -> Done {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::Failed(format!("the system has no randomness: {error}")))?;
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    let mut unread = BTreeMap::new();
    let files = session_files(folder)?;
    for path in &files {
        let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        match formats::read_file(folder, path, &Addresses::new()).await {
            Ok(source) => {
                if let Some(print) = fingerprint::Fingerprint::of(&source.parsed.material, &secret) {
                    names.entry(print.as_str().to_owned()).or_default().push(name);
                }
            }
            Err(error) => {
                unread.insert(name, error.code());
            }
        }
    }
    let mut copies: Vec<Vec<String>> = names.into_values().filter(|files| files.len() > 1).collect();
    copies.sort();
    match format {
        Format::Json => {
            output::print_document(&json!({"files": files.len(), "copies": copies, "unread": unread}))
        }
        Format::Table => {
            for group in &copies {
                let group: Vec<_> = group.iter().map(|name| output::harmless(name)).collect();
                output::print_text(format!("one authorization: {}", group.join(", ")));
            }
            for (name, code) in &unread {
                output::print_text(format!("not read: {}  {code}", output::harmless(name)));
            }
            output::print_text(format!(
                "{} files, {} authorizations under more than one name, {} not read",
                files.len(),
                copies.len(),
                unread.len()
            ));
        }
    }
    if copies.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(
        "an authorization under two names would be used twice at once, which ends it: keep one name of each"
            .to_owned(),
    ))
}

/// Session files of the folder and of the folders in it, in a fixed order. Links to folders are not followed.
fn session_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 1)];
    while let Some((folder, depth)) = folders.pop() {
        let told = |error: std::io::Error| {
            Failure::Failed(format!("the folder {} cannot be read: {error}", folder.display()))
        };
        for entry in std::fs::read_dir(&folder).map_err(told)? {
            let entry = entry.map_err(told)?;
            let kind = entry.file_type().map_err(told)?;
            let path = entry.path();
            if kind.is_dir() && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if !kind.is_dir()
                && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("session"))
            {
                found.push(path);
            }
            if found.len() > FILES_MAX {
                return Err(Failure::Usage(
                    "the folder holds more than a million sessions; look at it in parts".to_owned(),
                ));
            }
        }
    }
    found.sort();
    Ok(found)
}

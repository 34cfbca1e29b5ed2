//! The report: written line by line while the import runs, and there under its name only when it is whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use serde_json::{Value, json};

use super::{
    Done, Failure,
    line::{Line, Outcome},
};
use crate::cli::output::{self, Format};

/// How many of each outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(BTreeMap<Outcome, u64>);

impl Counts {
    pub(super) fn count(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }

    pub(super) fn all(&self) -> u64 {
        self.0.values().sum()
    }

    pub(super) fn refusals(&self) -> u64 {
        self.0.iter().filter(|(outcome, _)| outcome.is_refusal()).map(|(_, count)| count).sum()
    }

    fn to_json(&self) -> Value {
        self.0.iter().map(|(outcome, count)| (outcome.name().to_owned(), json!(count))).collect()
    }

    fn to_text(&self) -> String {
        let counts: Vec<_> =
            self.0.iter().map(|(outcome, count)| format!("{count} {}", outcome.name())).collect();
        if counts.is_empty() { "nothing to do".to_owned() } else { counts.join(", ") }
    }
}

/// What the run was, beside its lines.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) dry_run: bool,
    /// Why not all was looked at.
    pub(super) interrupted: Option<String>,
}

/// Where lines go: the terminal or a program, and the report's files.
pub(super) struct Report {
    format: Format,
    files: Option<Files>,
    lines: u64,
    pub(super) counts: Counts,
}

impl Report {
    /// # Errors
    /// When the report cannot be begun.
    pub(super) fn begin(format: Format, path: Option<&Path>) -> Result<Self, Failure> {
        let files = path.map(Files::begin).transpose()?;
        if format == Format::Json {
            output::print_text("{\"files\": [");
        }
        Ok(Self { format, files, lines: 0, counts: Counts::default() })
    }

    /// # Errors
    /// When the report cannot be written.
    pub(super) fn add(&mut self, line: &Line) -> Done {
        self.counts.count(line.outcome);
        let comma = if self.lines > 0 { "," } else { "" };
        self.lines += 1;
        match self.format {
            Format::Json => output::print_text(format_args!("{comma}{}", line.to_json())),
            Format::Table => output::print_text(line.to_text()),
        }
        match &mut self.files {
            None => Ok(()),
            Some(files) => files.add(comma, line),
        }
    }

    /// Tells the counts and gives the report its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn end(self, summary: &Summary) -> Result<Counts, Failure> {
        let tail = format!(
            "], \"counts\": {}, \"dry_run\": {}, \"interrupted\": {}}}",
            self.counts.to_json(),
            summary.dry_run,
            json!(summary.interrupted.clone().unwrap_or_default()),
        );
        let mut text = self.counts.to_text();
        if summary.dry_run {
            text.push_str(" (dry run: nothing was written)");
        }
        if let Some(why) = &summary.interrupted {
            text.push_str(&format!("\ninterrupted: {why}"));
        }
        match self.format {
            Format::Json => output::print_text(&tail),
            Format::Table => output::print_text(&text),
        }
        if let Some(files) = self.files {
            files.end(&tail, &text)?;
        }
        Ok(self.counts)
    }
}

/// JSON, and the same for people.
struct Files {
    json: Part,
    text: Part,
}

impl Files {
    fn begin(path: &Path) -> Result<Self, Failure> {
        let mut files = Self { json: Part::begin(path)?, text: Part::begin(&path.with_extension("txt"))? };
        files.json.write("{\"files\": [\n")?;
        Ok(files)
    }

    fn add(&mut self, comma: &str, line: &Line) -> Done {
        self.json.write(&format!("{comma}{}\n", line.to_json()))?;
        self.text.write(&format!("{}\n", line.to_text()))
    }

    fn end(mut self, tail: &str, text: &str) -> Done {
        self.json.write(&format!("{tail}\n"))?;
        self.text.write(&format!("{text}\n"))?;
        self.json.end()?;
        self.text.end()
    }
}

/// A file in the making, beside the place it is for. It names accounts, so nobody else may read it.
struct Part {
    path: PathBuf,
    made: PathBuf,
    out: BufWriter<File>,
    named: bool,
}

impl Part {
    fn begin(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = path.with_file_name(format!(".{name}.part"));
        // One that a killed run left behind, perhaps under another's rights.
        let _ = fs::remove_file(&made);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&made)
            .map_err(|error| unwritten(path, &error))?;
        Ok(Self { path: path.to_owned(), made, out: BufWriter::new(file), named: false })
    }

    fn write(&mut self, text: &str) -> Done {
        self.out.write_all(text.as_bytes()).map_err(|error| unwritten(&self.path, &error))
    }

    /// On disk, then under its name: never half of it.
    fn end(mut self) -> Done {
        let mut named = || -> io::Result<()> {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            fs::rename(&self.made, &self.path)?;
            self.named = true;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        named().map_err(|error| unwritten(&self.path, &error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.named {
            // Whatever is left has a name that says what it is.
            let _ = fs::remove_file(&self.made);
        }
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("the report {} cannot be written: {error}", path.display()))
}

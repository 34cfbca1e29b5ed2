//! What became of each file, told as it happens.

use serde_json::{Value, json};

use crate::{
    cli::output::{self, Format},
    domain::material,
    formats::Converted,
};

/// What became of one source.
pub(super) struct Line {
    file: String,
    /// The code and text of a refusal.
    refusal: Option<(String, String)>,
    from: Option<material::Format>,
    to: Option<material::Format>,
    notes: Vec<String>,
}

impl Line {
    pub(super) fn converted(file: String, to: material::Format, converted: &Converted) -> Self {
        let notes = converted.notes.iter().map(ToString::to_string).collect();
        Self { file, refusal: None, from: Some(converted.from), to: Some(to), notes }
    }

    pub(super) fn refused(file: String, code: &str, message: &str) -> Self {
        let refusal = Some((code.to_owned(), message.to_owned()));
        Self { file, refusal, from: None, to: None, notes: Vec::new() }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    fn to_json(&self) -> Value {
        let (reason, message) = self.refusal.clone().unwrap_or_default();
        json!({
            "file": self.file,
            "outcome": if self.is_refused() { "refused" } else { "converted" },
            "from": self.from.map(material::Format::name),
            "to": self.to.map(material::Format::name),
            "reason": reason, "message": message, "notes": self.notes,
        })
    }

    fn to_text(&self) -> String {
        let file = output::harmless(&self.file);
        match (&self.refusal, self.from, self.to) {
            (Some((code, message)), ..) => format!("refused    {file}  {code}: {message}"),
            (None, Some(from), Some(to)) if self.notes.is_empty() => {
                format!("converted  {file}  {} to {}", from.name(), to.name())
            }
            (None, Some(from), Some(to)) => {
                format!("converted  {file}  {} to {}; {}", from.name(), to.name(), self.notes.join("; "))
            }
            (None, ..) => format!("converted  {file}"),
        }
    }
}

/// Tells of each file once, and of all in the end.
pub(super) struct Report {
    format: Format,
    /// Whether standard output is free for it; sessions may be on their way there.
    is_standard: bool,
    pub(super) converted: u64,
    pub(super) lossy: u64,
    pub(super) refused: u64,
}

impl Report {
    pub(super) fn new(format: Format, is_standard: bool) -> Self {
        Self { format, is_standard, converted: 0, lossy: 0, refused: 0 }
    }

    pub(super) fn add(&mut self, line: &Line) {
        if line.is_refused() {
            self.refused += 1;
        } else {
            self.converted += 1;
            self.lossy += u64::from(!line.notes.is_empty());
        }
        self.tell(&match self.format {
            Format::Json => line.to_json().to_string(),
            Format::Table => line.to_text(),
        });
    }

    /// The counts, after the last file of a folder.
    pub(super) fn sum(&self) {
        self.tell(&match self.format {
            Format::Json => json!({
                "counts": {"converted": self.converted, "with_notes": self.lossy, "refused": self.refused}
            })
            .to_string(),
            Format::Table => {
                format!(
                    "{} converted, {} of them with notes, {} refused",
                    self.converted, self.lossy, self.refused
                )
            }
        });
    }

    fn tell(&self, text: &str) {
        if self.is_standard { output::print_text(text) } else { output::note(text) }
    }
}

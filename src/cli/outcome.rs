//! One line per session of commands that go through many of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use super::{
    Done, Failure,
    output::{self, Format},
};

/// What such a line says of a session that was not done.
pub(super) const REFUSED: &str = "refused";

/// What became of one session.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) tenant_id: String,
    pub(super) app_id: String,
    pub(super) outcome: &'static str,
    /// The stable reason of a refusal, or the code of a file's fault.
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) warnings: Vec<String>,
}

impl Line {
    pub(super) fn done(tenant_id: &str, app_id: &str, outcome: &'static str) -> Self {
        Self {
            tenant_id: tenant_id.to_owned(),
            app_id: app_id.to_owned(),
            outcome,
            reason: String::new(),
            message: String::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn refused(tenant_id: &str, app_id: &str, reason: &str, message: impl ToString) -> Self {
        let (reason, message) = (reason.to_owned(), message.to_string());
        Self { reason, message, ..Self::done(tenant_id, app_id, REFUSED) }
    }

    /// As the service refused it.
    pub(super) fn by_service(tenant_id: &str, app_id: &str, status: &tonic::Status) -> Self {
        let details = status.get_error_details();
        let reason =
            details.error_info().map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
        Self::refused(tenant_id, app_id, &reason, status.message())
    }

    #[must_use]
    pub(super) fn warn(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    fn to_json(&self) -> Value {
        json!({
            "tenant_id": self.tenant_id, "app_id": self.app_id, "outcome": self.outcome, "reason": self.reason,
            "message": self.message, "warnings": self.warnings,
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!("{:<18} {}/{}", self.outcome, self.tenant_id, self.app_id);
        if !self.reason.is_empty() {
            text.push_str(&format!("  {}: {}", self.reason, output::harmless(&self.message)));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\n                   note: {}", output::harmless(warning)));
        }
        text
    }
}

/// Prints all lines, ordered by name, and how many of each kind there are.
///
/// # Errors
/// When any was refused.
pub(super) fn finish(mut lines: Vec<Line>, format: Format) -> Done {
    lines.sort_by(|a, b| (&a.tenant_id, &a.app_id).cmp(&(&b.tenant_id, &b.app_id)));
    let mut counts = BTreeMap::<&str, usize>::new();
    for line in &lines {
        *counts.entry(line.outcome).or_default() += 1;
    }
    match format {
        Format::Json => output::print_document(&json!({
            "counts": counts, "sessions": lines.iter().map(Line::to_json).collect::<Vec<_>>(),
        })),
        Format::Table => {
            lines.iter().for_each(|line| output::print_text(line.to_text()));
            let counts: Vec<_> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
            output::print_text(if counts.is_empty() {
                "nothing to do".to_owned()
            } else {
                counts.join(", ")
            });
        }
    }
    match counts.get(REFUSED) {
        None => Ok(()),
        Some(refused) => Err(Failure::Failed(format!("{refused} of {} sessions were refused", lines.len()))),
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress(sessions: usize) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(sessions as u64);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// Counts one on the bar; without a terminal a line tells of every thousandth.
pub(super) fn tick(bar: &indicatif::ProgressBar, sessions: usize) {
    bar.inc(1);
    if bar.is_hidden() && bar.position().is_multiple_of(1_000) {
        output::note(format!("{} of {sessions} sessions", bar.position()));
    }
}

//! What became of one source, as reports and the terminal show it.

use serde_json::{Value, json};

use crate::{cli::output, domain::id::SessionKey};

/// One line of the report.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) file: String,
    pub(super) tenant_id: String,
    pub(super) app_id: String,
    pub(super) outcome: Outcome,
    /// The stable reason of a refusal, or the code of a file's fault.
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    AlreadyThere,
    Differs,
    Imported,
    Minted,
    Refused,
    Replaced,
}

impl Outcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AlreadyThere => "already_there",
            Self::Differs => "differs",
            Self::Imported => "imported",
            Self::Minted => "minted",
            Self::Refused => "refused",
            Self::Replaced => "replaced",
        }
    }

    /// Whether the session is not there now, or not as the source has it.
    pub(super) const fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::Differs)
    }
}

impl Line {
    pub(super) fn done(file: String, key: &SessionKey, outcome: Outcome, warnings: Vec<String>) -> Self {
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

    pub(super) fn refused(file: String, key: Option<&SessionKey>, reason: &str, message: &str) -> Self {
        Self {
            file,
            tenant_id: key.map(|key| key.tenant.to_string()).unwrap_or_default(),
            app_id: key.map(|key| key.app.to_string()).unwrap_or_default(),
            outcome: Outcome::Refused,
            reason: reason.to_owned(),
            message: message.to_owned(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "file": self.file, "tenant_id": self.tenant_id, "app_id": self.app_id,
            "outcome": self.outcome.name(), "reason": self.reason, "message": self.message,
            "warnings": self.warnings,
        })
    }

    pub(super) fn to_text(&self) -> String {
        // A file may be called whatever a terminal would obey.
        let mut text = format!("{:<13} {}", self.outcome.name(), output::harmless(&self.file));
        if !self.reason.is_empty() {
            text.push_str(&format!("  {}: {}", self.reason, output::harmless(&self.message)));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\n              note: {}", output::harmless(warning)));
        }
        text
    }
}

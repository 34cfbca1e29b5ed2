//! What `Debug` shows in place of a secret field. Used by the generated code only.

use std::fmt;

/// Stands for a secret: tells whether there is one, never what or how long it is.
pub(crate) enum Redacted {
    Empty,
    Present,
}

impl Redacted {
    pub(crate) fn of(secret: &impl AsRef<[u8]>) -> Self {
        if secret.as_ref().is_empty() { Self::Empty } else { Self::Present }
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "\"\"",
            Self::Present => "[redacted]",
        })
    }
}

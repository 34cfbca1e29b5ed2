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

#[cfg(test)]
mod tests {
    use crate::v1;

    const MARKER: &str = "open sesame";

    /// Whether the text shows the marker, as text or as a list of bytes.
    fn shows(text: &str) -> bool {
        let bytes = format!("{:?}", MARKER.as_bytes());
        text.contains(MARKER) || text.contains(bytes.trim_matches(['[', ']']))
    }

    #[test]
    fn debug_of_every_message_with_secrets_shows_none() {
        let samples = v1::debug_samples(MARKER);
        assert!(samples.len() > 15, "{} messages", samples.len());
        for (name, text) in samples {
            assert!(text.contains("[redacted]"), "{name}: {text}");
            assert!(!shows(&text), "{name}: {text}");
        }
    }

    #[test]
    fn debug_of_a_message_that_contains_another_shows_no_secret() {
        let lease = v1::Lease { lease_id: MARKER.into(), holder: "worker-7".into(), ..Default::default() };
        let proxy = v1::Proxy { password: MARKER.into(), ..Default::default() };
        let material = v1::SessionMaterial { data: MARKER.into(), proxy: Some(proxy), ..Default::default() };
        let login = v1::Login { ticket: MARKER.into(), qr_url: MARKER.into(), ..Default::default() };
        let attach = v1::HoldLeaseAttach { lease_id: MARKER.into(), epoch: 3 };
        let granted =
            v1::hold_lease_response::Step::Granted(v1::Granted { material: Some(material.clone()) });
        let shown = v1::QrShown { qr_url: MARKER.into(), ..Default::default() };
        let texts = [
            format!(
                "{:?}",
                v1::AcquireLeaseResponse { lease: Some(lease.clone()), material: Some(material) }
            ),
            format!(
                "{:?}",
                v1::HoldLeaseRequest { step: Some(v1::hold_lease_request::Step::Attach(attach)) }
            ),
            format!("{:?}", v1::HoldLeaseResponse { lease: Some(lease), step: Some(granted) }),
            format!(
                "{:#?}",
                v1::WatchLoginResponse {
                    login: Some(login),
                    step: Some(v1::watch_login_response::Step::QrShown(shown))
                }
            ),
        ];
        for text in texts {
            assert!(text.contains("[redacted]") && !shows(&text), "{text}");
        }
    }

    #[test]
    fn debug_shows_what_is_no_secret() {
        let lease =
            v1::Lease { holder: "worker-7".into(), state: v1::LeaseState::Held.into(), ..Default::default() };
        let text = format!("{lease:?}");
        assert!(
            text.contains("worker-7") && text.contains("Held") && text.contains("lease_id: \"\""),
            "{text}"
        );
    }
}

//! What a call can end with: an answer of the service with its reason, or no answer.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use crate::v1;

/// Domain of the `google.rpc.ErrorInfo` that carries a reason of this service.
const DOMAIN: &str = "usm";
/// No wait that an answer asks for is taken as longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why something of this crate failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one of a server: `http://host:port` or `https://host:port`.
    #[error("the server address is not a URL with http or https")]
    Address,
    /// No connection to the server.
    #[error("cannot connect to the server")]
    Connect(#[source] tonic::transport::Error),
    /// The service refused, or the call got no answer.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The lease is over; every connection that used its material must be closed.
    #[error("the lease is lost: {0}")]
    Lost(#[source] crate::Loss),
}

/// How a call failed, from its gRPC status and the details that travel with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC code.
    pub code: Code,
    /// Name of an [`v1::ErrorReason`] without `ERROR_REASON_`, for example `SESSION_LEASED`. Empty if the service did
    /// not say one, as when it was not reached. Expect names that this version does not know.
    pub reason: String,
    /// Explanation for people.
    pub message: String,
    /// When to ask again, if the service says so.
    pub retry_after: Option<Duration>,
    /// Further facts such as `attempts_left`.
    pub metadata: HashMap<String, String>,
}

impl Refusal {
    /// The reason as an enum; `Unspecified` if there is none or this version does not know it.
    pub fn known_reason(&self) -> v1::ErrorReason {
        v1::ErrorReason::from_str_name(&format!("ERROR_REASON_{}", self.reason)).unwrap_or_default()
    }

    /// Whether the service may not have got the call, or was unable to answer it just now.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
        )
    }

    /// Whether the answer says that the lease of the call is not held any more or will not be renewed. By the reason,
    /// else by the code: a reason of a later version must not keep a holder going.
    pub(crate) fn ends_lease(&self) -> bool {
        self.names_end_of_lease() || matches!(self.code, Code::FailedPrecondition | Code::NotFound)
    }

    /// Whether the answer says by its reason that the lease of the call is over or not renewed any more. For answers
    /// whose code alone may come from something between here and the service.
    pub(crate) fn names_end_of_lease(&self) -> bool {
        matches!(
            self.known_reason(),
            v1::ErrorReason::LeaseNotHeld | v1::ErrorReason::LeaseEpochStale | v1::ErrorReason::LeaseDraining
        )
    }

    pub(crate) fn timeout() -> Self {
        Self {
            code: Code::DeadlineExceeded,
            reason: String::new(),
            message: "no answer in time".into(),
            retry_after: None,
            metadata: HashMap::new(),
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        // The transport says CANCELLED where a deadline of this side ran out.
        let timed_out =
            std::error::Error::source(&status).is_some_and(|source| source.is::<TimeoutExpired>());
        Self {
            code: if timed_out { Code::DeadlineExceeded } else { status.code() },
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            retry_after: details
                .retry_info()
                .and_then(|retry| retry.retry_delay)
                .map(|delay| delay.min(RETRY_AFTER_MAX)),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Box::new(Refusal::from(status)).into()
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Box::new(refusal).into()
    }
}

impl Error {
    /// The service's answer, if it was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Lost(crate::Loss::Refused(refusal)) => Some(refusal),
            Self::Lost(_) | Self::Address | Self::Connect(_) => None,
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.reason.is_empty() { self.code.description() } else { &self.reason };
        write!(f, "{name}: {}", self.message)?;
        match self.retry_after {
            Some(wait) => write!(f, " (retry after {:.1} s)", wait.as_secs_f32()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn status(domain: &str, reason: &str, code: Code) -> Status {
        let mut details = ErrorDetails::new();
        details
            .set_error_info(reason, domain, HashMap::from([("holder".to_owned(), "worker-7".to_owned())]))
            .set_retry_info(Some(Duration::from_millis(12_500)));
        Status::with_error_details(code, "somebody holds the session", details)
    }

    #[test]
    fn reason_wait_and_metadata_come_from_the_details() {
        let refusal = Refusal::from(status("usm", "SESSION_LEASED", Code::Aborted));
        assert_eq!(refusal.reason, "SESSION_LEASED");
        assert_eq!(refusal.known_reason(), v1::ErrorReason::SessionLeased);
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(12_500)));
        assert_eq!(refusal.metadata["holder"], "worker-7");
        assert_eq!(refusal.to_string(), "SESSION_LEASED: somebody holds the session (retry after 12.5 s)");
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let refusal = Refusal::from(status("proxy.example", "LEASE_NOT_HELD", Code::Unavailable));
        assert_eq!(refusal.reason, "");
        assert!(refusal.metadata.is_empty() && !refusal.ends_lease());
    }

    #[test]
    fn a_status_without_details_keeps_its_code() {
        let refusal = Refusal::from(Status::unavailable("gone"));
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unavailable, ""));
        assert!(refusal.is_transient());
    }

    #[test]
    fn an_unknown_reason_counts_by_its_code() {
        assert!(Refusal::from(status("usm", "LEASE_OF_TOMORROW", Code::FailedPrecondition)).ends_lease());
        assert!(Refusal::from(status("usm", "LEASE_EPOCH_STALE", Code::Aborted)).ends_lease());
        assert!(!Refusal::from(status("usm", "STORE_CONFLICT", Code::Aborted)).ends_lease());
        assert!(!Refusal::from(Status::unauthenticated("expired")).ends_lease());
    }
}

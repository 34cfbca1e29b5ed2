//! Between the contract's messages and the domain's types. Requests are parsed here once; behind it values are valid.

pub(crate) mod lease;
pub(crate) mod login;
pub(crate) mod loss;
pub(crate) mod material;
pub(crate) mod session;
pub(crate) mod system;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use crate::domain::{
    error::{Error, Reason},
    id::RequestId,
    page::PageRequest,
    time::Timestamp,
};

/// The longest wait a request may ask for.
const WAIT_MAX: Duration = Duration::from_secs(600);

pub(crate) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let millis = time.as_millis();
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// A time of a request, to the millisecond. What lies beyond any calendar is taken as its end.
pub(crate) fn time_given(time: prost_types::Timestamp) -> Timestamp {
    Timestamp::from_millis(
        time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000)),
    )
}

pub(crate) fn duration(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0) }
}

/// A span of a request.
///
/// # Errors
/// `ARGUMENT_INVALID` for a negative one.
pub(crate) fn span(
    field: &'static str,
    given: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Error> {
    given
        .map(|given| match (u64::try_from(given.seconds), u32::try_from(given.nanos)) {
            (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => {
                Err(Error::invalid(field, "must be a span that is not negative"))
            }
        })
        .transpose()
}

/// How long a request would wait; nothing said means not at all.
///
/// # Errors
/// `ARGUMENT_INVALID` unless 0-10 minutes.
pub(crate) fn wait(given: Option<prost_types::Duration>) -> Result<Duration, Error> {
    let wait = span("wait", given)?.unwrap_or_default();
    if wait <= WAIT_MAX { Ok(wait) } else { Err(Error::invalid("wait", "must be 0-10 minutes")) }
}

/// # Errors
/// `PAGE_TOKEN_INVALID` or `ARGUMENT_INVALID`.
pub(crate) fn page(size: i32, token: &str) -> Result<PageRequest, Error> {
    PageRequest::parse(size, token).map_err(|error| match error.field {
        Some(("page_token", _)) => Error { reason: Reason::PageTokenInvalid, ..error },
        Some(_) | None => error,
    })
}

/// # Errors
/// `ARGUMENT_INVALID` unless empty or a UUID.
pub(crate) fn request_id(text: &str) -> Result<Option<RequestId>, Error> {
    RequestId::parse_optional(text)
}

/// Text that may be left out.
pub(crate) fn given(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

/// An account that may be left out.
///
/// # Errors
/// `ARGUMENT_INVALID` for a negative id.
pub(crate) fn account(field: &'static str, id: i64) -> Result<Option<i64>, Error> {
    match id {
        0 => Ok(None),
        1.. => Ok(Some(id)),
        i64::MIN..=-1 => Err(Error::invalid(field, "must be a Telegram user id, or 0")),
    }
}

/// # Errors
/// `ARGUMENT_INVALID` beyond the limits of `Session.labels`.
pub(crate) fn labels(
    given: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Error> {
    let labels: BTreeMap<String, String> = given.into_iter().collect();
    let name = |name: &String| {
        (1..=63).contains(&name.len())
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
    };
    let value = |value: &String| value.chars().count() <= 256 && !value.chars().any(char::is_control);
    if labels.len() > 64 {
        return Err(Error::invalid("labels", "must be 64 or fewer"));
    }
    if !labels.keys().all(name) {
        return Err(Error::invalid("labels", "must have names of 1-63 characters of a-z 0-9 . _ -"));
    }
    if !labels.values().all(value) {
        return Err(Error::invalid(
            "labels",
            "must have values of at most 256 characters without control characters",
        ));
    }
    Ok(labels)
}

/// A guard against concurrent change.
///
/// # Errors
/// `ARGUMENT_INVALID` for a negative one.
pub(crate) fn revision(field: &'static str, given: i64) -> Result<Option<i64>, Error> {
    match given {
        0 => Ok(None),
        1.. => Ok(Some(given)),
        i64::MIN..=-1 => Err(Error::invalid(field, "must be a revision, or 0 for any")),
    }
}

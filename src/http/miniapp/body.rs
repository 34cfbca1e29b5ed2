//! JSON bodies, read strictly: bounded, of the right type, and without fields that nobody knows.

use axum::extract::rejection::{BytesRejection, QueryRejection};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::domain::error::{Error, Reason};

/// How much of a name that nobody knows is repeated to whoever wrote it.
const NAME_LENGTH_MAX: usize = 64;

/// A body as it came, or why it did not.
pub(super) type Given = Result<Bytes, BytesRejection>;

/// `?ticket=`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) ticket: String,
}

/// # Errors
/// `ARGUMENT_INVALID` unless there is one ticket and nothing else.
pub(super) fn query(given: Result<axum::extract::Query<Named>, QueryRejection>) -> Result<String, Error> {
    match given {
        Ok(axum::extract::Query(named)) => Ok(named.ticket),
        Err(_) => Err(Error::invalid("ticket", "must be given once in the query, and nothing else")),
    }
}

/// The bytes of the body.
///
/// # Errors
/// `MESSAGE_TOO_LARGE`, or `ARGUMENT_INVALID` for one that broke off.
pub(super) fn bytes(given: Given) -> Result<Bytes, Error> {
    given.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(Reason::MessageTooLarge, "the body is longer than 16 KiB")
        }
        _ => Error::invalid("body", "must come whole"),
    })
}

/// The body as JSON with these fields and no others.
///
/// # Errors
/// `ARGUMENT_INVALID`. The parser's own words may quote the body, so they go nowhere.
pub(super) fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
    known: &[&str],
) -> Result<T, Error> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Error::invalid("content-type", "must be application/json"));
    }
    serde_json::from_slice(body).map_err(|_| {
        let fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => {
                Error::invalid("body", "has a field that is not known").fact("field", plain(unknown))
            }
            None => Error::invalid("body", "must be a JSON object with the fields of this route"),
        }
    })
}

/// A name that may be repeated: it could have been anything.
fn plain(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '?' };
    name.chars().take(NAME_LENGTH_MAX).map(letter).collect()
}

//! Reading what admin calls say.

use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::Failure;
use crate::crypto::auth_key::KeyId;

/// A body as it arrives, or why it did not.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Reads a JSON body; an empty one counts as `{}`.
pub(super) fn body<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::bad("the body is too large"),
        _ => Failure::bad("the body cannot be read"),
    })?;
    let text = if bytes.iter().all(u8::is_ascii_whitespace) { &b"{}"[..] } else { &bytes[..] };
    // The message names places and members, never the values themselves.
    serde_json::from_slice(text).map_err(|error| Failure::bad(format!("bad JSON: {error}")))
}

/// A member that may be absent, null or a value: absent is `None`, null is `Some(None)`.
pub(super) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(d).map(Some)
}

/// The number of a key: 16 hex digits.
pub(super) fn key(text: &str) -> Result<KeyId, Failure> {
    text.parse().map_err(|_| Failure::bad("`key` is 16 hex digits, as `GET /keys` shows them"))
}

/// A login token: hex, base64url, or the link of a QR.
pub(super) fn token(text: &str) -> Result<Vec<u8>, Failure> {
    let text = text.trim();
    let bare = text.strip_prefix("tg://login?token=").unwrap_or(text);
    let as_hex = hex::decode(bare).ok().filter(|bytes| bytes.len() == 32);
    as_hex
        .or_else(|| URL_SAFE_NO_PAD.decode(bare).or_else(|_| URL_SAFE.decode(bare)).ok())
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| Failure::bad("`token` is hex, base64url or a tg://login?token= link"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_in_all_its_forms() {
        let bytes: Vec<u8> = (200..232).collect();
        let coded = URL_SAFE_NO_PAD.encode(&bytes);
        let forms =
            [hex::encode(&bytes), coded.clone(), format!("tg://login?token={coded}"), format!("{coded}=")];
        for form in forms {
            assert_eq!(token(&form).expect(&form), bytes);
        }
        assert!(token("tg://login?token=").is_err());
        assert!(token("no token at all").is_err());
    }
}

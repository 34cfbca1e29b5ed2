//! The signature of a back end that calls back: over method, path, time and body, accepted once.
//!
//! Pure: takes the time and remembers nothing.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::domain::{
    error::{Error, Reason},
    secret::Secret,
    time::Timestamp,
};

const SIGNATURE: &str = "x-miniapp-signature";
const TIMESTAMP: &str = "x-timestamp";
/// Seconds since 1970 have ten digits for the next 260 years.
const TIMESTAMP_LENGTH_MAX: usize = 12;

/// What signs callbacks, and how far their clock may be off.
#[derive(Clone, Debug)]
pub struct Callbacks {
    pub secret: Secret,
    pub tolerance: Duration,
}

/// A call as it is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl Callbacks {
    /// What names the signature among those that were used.
    ///
    /// # Errors
    /// `ARGUMENT_INVALID` for missing headers and a time that is off, `UNAUTHENTICATED` for a wrong signature.
    pub(super) fn judge(&self, call: Signed<'_>, now: Timestamp) -> Result<String, Error> {
        let signature = header(call.headers, SIGNATURE)
            .ok_or_else(|| Error::invalid(SIGNATURE, "must be there once, in hexadecimal"))?;
        let timestamp = header(call.headers, TIMESTAMP)
            .filter(|text| text.len() <= TIMESTAMP_LENGTH_MAX && text.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| Error::invalid(TIMESTAMP, "must be there once, in seconds since 1970"))?;
        let seconds: i64 = timestamp.parse().unwrap_or(i64::MAX / 1000);
        let then = Timestamp::from_millis(seconds * 1000);
        if now.since(then) > self.tolerance || then.since(now) > self.tolerance {
            return Err(Error::invalid(TIMESTAMP, "is too far from the time here; sign the call anew"));
        }
        let tag = hex::decode(signature).map_err(|_| wrong())?;
        let key = self.secret.expose_secret().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let body = hex::encode(Sha256::digest(call.body));
        mac.update([call.method, call.path, timestamp, &body].join("\n").as_bytes());
        mac.verify_slice(&tag).map_err(|_| wrong())?;
        let mut digest = Sha256::new();
        digest.update(b"usm callback");
        digest.update(&tag);
        Ok(hex::encode(digest.finalize()))
    }
}

fn wrong() -> Error {
    Error::new(Reason::Unauthenticated, "the signature is not that of this call").fact("why", "forged")
}

pub(super) fn used() -> Error {
    Error::new(Reason::Unauthenticated, "the signature was used before; sign each call anew")
        .fact("why", "used")
}

/// A header that is there exactly once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const PATH: &str = "/api/qr/callback";

    fn callbacks() -> Callbacks {
        Callbacks { secret: Secret::new("0123456789abcdef"), tolerance: Duration::from_secs(300) }
    }

    /// As a back end would write it.
    fn sign(method: &str, path: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"0123456789abcdef").expect("any length");
        mac.update(
            format!("{method}\n{path}\n{timestamp}\n{}", hex::encode(Sha256::digest(body))).as_bytes(),
        );
        hex::encode(mac.finalize().into_bytes())
    }

    fn judge(
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &[u8],
    ) -> Result<String, Reason> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        callbacks().judge(Signed { method, path, headers: &map, body }, NOW).map_err(|error| error.reason)
    }

    #[test]
    fn a_call_is_good_as_it_was_signed_and_in_no_other_way() {
        let (time, body) = ("1800000000", b"{}".as_slice());
        let good = sign("POST", PATH, time, body);
        let headers = [(SIGNATURE, good.as_str()), (TIMESTAMP, time)];
        let name = judge("POST", PATH, &headers, body).expect("good");
        let upper = good.to_uppercase();
        let same = judge("POST", PATH, &[(SIGNATURE, &upper), (TIMESTAMP, time)], body).expect("good");
        assert_eq!(name, same, "one signature, however it is spelled");

        let forged = Err(Reason::Unauthenticated);
        assert_eq!(judge("GET", PATH, &headers, body), forged);
        assert_eq!(judge("POST", "/api/qr/cancel", &headers, body), forged);
        assert_eq!(judge("POST", PATH, &headers, b"{ }"), forged);
        assert_eq!(judge("POST", PATH, &[(SIGNATURE, &good), (TIMESTAMP, "1800000001")], body), forged);
        let mut flipped = good.clone().into_bytes();
        flipped[0] = if flipped[0] == b'0' { b'1' } else { b'0' };
        let flipped = String::from_utf8(flipped).expect("ASCII");
        for bad in [&good[..62], &format!("{good}00"), &flipped, "xyz", &"0".repeat(64)] {
            assert_eq!(judge("POST", PATH, &[(SIGNATURE, bad), (TIMESTAMP, time)], body), forged, "{bad}");
        }
    }

    #[test]
    fn missing_doubled_and_untimely_headers_are_bad_requests() {
        let bad = Err(Reason::ArgumentInvalid);
        let at = |time: &str| {
            let signature = sign("POST", PATH, time, b"");
            judge("POST", PATH, &[(SIGNATURE, &signature), (TIMESTAMP, time)], b"")
        };
        assert!(at("1799999700").is_ok() && at("1800000300").is_ok());
        for time in ["1799999699", "1800000301", "0", "-1", "1800000000000000", "1800000000.0", " 1800000000"]
        {
            assert_eq!(at(time), bad, "{time}");
        }
        let time = "1800000000";
        let signature = sign("POST", PATH, time, b"");
        let (signed, timed) = ((SIGNATURE, signature.as_str()), (TIMESTAMP, time));
        for headers in
            [vec![], vec![signed], vec![timed], vec![signed, signed, timed], vec![signed, timed, timed]]
        {
            assert_eq!(judge("POST", PATH, &headers, b""), bad, "{headers:?}");
        }
    }
}

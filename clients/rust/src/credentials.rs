//! What a caller proves itself with: a bearer token in the metadata of every call.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use zeroize::Zeroizing;

/// The bearer token of a caller, or none. Neither `Debug` nor an error ever shows it.
#[derive(Clone, Default)]
pub struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
}

/// The token contains characters that no HTTP header may carry.
#[derive(Debug, thiserror::Error)]
#[error("the token is empty or has characters other than visible ASCII")]
pub struct InvalidToken;

impl Credentials {
    /// A JSON Web Token or another bearer token that the service knows. Surrounding white space, as a file or a shell
    /// leaves it, is dropped.
    ///
    /// # Errors
    /// [`InvalidToken`] if nothing or something unprintable is left.
    pub fn bearer(token: &str) -> Result<Self, InvalidToken> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken);
        }
        let text = Zeroizing::new(format!("Bearer {token}"));
        let mut authorization = MetadataValue::try_from(text.as_str()).map_err(|_| InvalidToken)?;
        authorization.set_sensitive(true);
        Ok(Self { authorization: Some(authorization) })
    }

    /// No token: enough for health and reflection.
    pub fn none() -> Self {
        Self::default()
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.authorization.is_some() { "Credentials(..)" } else { "Credentials(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_travels_with_every_call_and_shows_in_no_debug() {
        let mut credentials = Credentials::bearer(" open-sesame\n").unwrap();
        let request = credentials.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer open-sesame");
        assert!(!format!("{credentials:?} {request:?}").contains("sesame"));
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        for token in ["", "  ", "two words", "tab\there", "schlüssel"] {
            assert!(Credentials::bearer(token).is_err(), "{token:?}");
        }
    }

    #[test]
    fn without_a_token_nothing_is_sent() {
        let request = Credentials::none().call(Request::new(())).unwrap();
        assert!(request.metadata().is_empty());
    }
}

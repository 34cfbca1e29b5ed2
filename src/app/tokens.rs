//! Tokens of earlier log-outs, with which an account signs in again without a code. Kept per session, sealed, newest
//! first.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{App, as_service};
use crate::{
    domain::{
        caller::Caller,
        error::Error,
        id::SessionKey,
        material::{FUTURE_AUTH_TOKEN_LENGTH_MAX, FUTURE_AUTH_TOKENS_MAX, FutureAuthToken},
        session::Session,
    },
    store::Change,
};

const CONTEXT: &str = "future auth tokens";
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Each token goes after its length.
const LENGTH_BYTES: usize = 2;

impl App {
    /// Those known of a session. None, if they cannot be read: a code does as well.
    pub(super) async fn future_auth_tokens(&self, key: &SessionKey) -> Vec<FutureAuthToken> {
        match self.read_tokens(key).await {
            Ok(tokens) => tokens,
            Err(error) => {
                tracing::warn!(session.id = %key, error = %error, "Tokens of earlier log-outs are not used");
                Vec::new()
            }
        }
    }

    async fn read_tokens(&self, key: &SessionKey) -> Result<Vec<FutureAuthToken>, Error> {
        let caller = as_service("usm:tokens", READ_LIMIT);
        let Some(sealed) = self.0.store.future_auth_tokens(&caller, key).await? else {
            return Ok(Vec::new());
        };
        let plain = self.0.vault.unseal_blob(CONTEXT, &self.bound_to(key), &sealed)?;
        Ok(parse(&plain))
    }

    /// The sealed tokens of a session with one more, to be written with the change that brought it; `None` without
    /// one.
    pub(super) async fn with_token(
        &self,
        session: &Session,
        token: Option<FutureAuthToken>,
    ) -> Option<Vec<u8>> {
        let token = token?;
        let mut tokens = match self.read_tokens(&session.key).await {
            Ok(tokens) => tokens,
            // What cannot be read is not written over.
            Err(error) => {
                tracing::warn!(session.id = %session.key, error = %error, "A token of a log-out is lost; a code will do");
                return None;
            }
        };
        token.remember(&mut tokens);
        match self.0.vault.seal_blob(CONTEXT, &self.bound_to(&session.key), &text_of(&tokens)) {
            Ok(sealed) => Some(sealed),
            Err(error) => {
                tracing::warn!(session.id = %session.key, error = %error, "A token of a log-out is lost; a code will do");
                None
            }
        }
    }

    /// Keeps a token that came apart from any other change.
    pub(super) async fn keep_token(&self, caller: &Caller, key: &SessionKey, token: Option<FutureAuthToken>) {
        if token.is_none() {
            return;
        }
        let kept: Result<(), Error> = async {
            let Some(session) = self.0.store.get(caller, key).await? else { return Ok(()) };
            let future_auth_tokens = self.with_token(&session, token).await;
            self.commit(caller, Change { future_auth_tokens, ..Change::of(session) }).await?;
            Ok(())
        }
        .await;
        if let Err(error) = kept {
            tracing::debug!(session.id = %key, error = %error, "A token of a log-out is lost; a code will do");
        }
    }

    fn bound_to(&self, key: &SessionKey) -> Vec<u8> {
        format!("{key} {}", self.0.settings.environment.as_str()).into_bytes()
    }
}

fn text_of(tokens: &[FutureAuthToken]) -> Zeroizing<Vec<u8>> {
    let room = FUTURE_AUTH_TOKENS_MAX * (LENGTH_BYTES + FUTURE_AUTH_TOKEN_LENGTH_MAX);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    for token in tokens {
        let bytes = token.expose_secret();
        text.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        text.extend_from_slice(bytes);
    }
    text
}

fn parse(mut text: &[u8]) -> Vec<FutureAuthToken> {
    let mut tokens = Vec::new();
    while let Some((length, rest)) = text.split_first_chunk::<LENGTH_BYTES>()
        && let Some((token, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
    {
        tokens.push(FutureAuthToken::new(token.to_vec()));
        text = rest;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_bytes_newest_first_and_no_more_than_are_read() {
        let mut tokens = Vec::new();
        for number in 0..30_u8 {
            FutureAuthToken::new(vec![number; 40]).remember(&mut tokens);
            FutureAuthToken::new(vec![number; 40]).remember(&mut tokens);
        }
        FutureAuthToken::new(Vec::new()).remember(&mut tokens);
        FutureAuthToken::new(vec![1; FUTURE_AUTH_TOKEN_LENGTH_MAX + 1]).remember(&mut tokens);
        assert_eq!(tokens.len(), FUTURE_AUTH_TOKENS_MAX);
        assert_eq!(tokens[0].expose_secret(), [29; 40]);
        assert_eq!(parse(&text_of(&tokens)), tokens);
        assert_eq!(parse(&text_of(&tokens)[..50]).len(), 1, "a cut one is none");
    }
}

//! Signing in as a bot, with its token.

use std::time::Instant;

use grammers_tl_types::functions;

use crate::{
    domain::secret::Secret,
    telegram::{
        error::Error,
        sign_in::{Phase, SignIn, Step},
    },
};

impl SignIn {
    pub(super) async fn import_bot(&mut self, token: &Secret, until: Instant) -> Result<Option<Step>, Error> {
        let request = functions::auth::ImportBotAuthorization {
            flags: 0,
            api_id: self.api_key.api_id,
            api_hash: self.api_key.api_hash.expose_secret().to_owned(),
            bot_auth_token: token.expose_secret().to_owned(),
        };
        match self.ask_fateful(&request, "signing in as a bot", until).await {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => {
                let authorized = self.authorized(answer)?;
                self.disconnect().await;
                Ok(Some(Step::Authorized(authorized)))
            }
            Err(Error::MigrateTo { dc }) => {
                self.move_to(dc).await?;
                self.phase = Phase::Bot { token: token.clone(), moved: Some(dc) };
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

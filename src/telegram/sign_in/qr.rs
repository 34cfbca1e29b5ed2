//! Signing in by QR code: exporting tokens, waiting for a scan, moving to where the account lives, importing.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use grammers_tl_types::{enums, functions, types};
use zeroize::Zeroizing;

use crate::{
    domain::secret::Secret,
    telegram::{
        connection::Heard,
        error::Error,
        probe::LOGIN_URL,
        sign_in::{ACCEPT_MARGIN, Phase, SignIn, Step, Told},
    },
};

/// How much earlier than it expires a shown token is replaced, at most.
const REFRESH_EARLY_MAX: Duration = Duration::from_secs(3);
/// Telegram's tokens live for half a minute. A clock gone astray must not make us show one for longer than
/// somebody would look at it.
const TOKEN_LIFE_MIN: Duration = Duration::from_secs(1);
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(300);
/// For how long after a move the new data centre's refusals are taken for its not knowing yet, and how often
/// to ask it.
const SETTLING: Duration = Duration::from_secs(5);
const SETTLING_PAUSE: Duration = Duration::from_millis(400);
/// How soon after a resumption it is looked whether the code shown before was accepted while nobody listened.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

impl SignIn {
    pub(super) async fn export(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        let request = functions::auth::ExportLoginToken {
            api_id: self.api_key.api_id,
            api_hash: self.api_key.api_hash.expose_secret().to_owned(),
            except_ids: Vec::new(),
        };
        match self.ask_fateful(&request, "exporting a login token", until).await {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => self.take(answer).await,
            Err(Error::PasswordNeeded) => {
                self.phase = Phase::Password { told: Told::NotYet };
                Ok(None)
            }
            Err(Error::MigrateTo { dc }) => {
                self.move_to(dc).await?;
                Ok(None)
            }
            Err(Error::Unauthorized) if self.began.elapsed() < SETTLING => {
                self.pace.wait(Instant::now() + SETTLING_PAUSE);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn take(&mut self, answer: enums::auth::LoginToken) -> Result<Option<Step>, Error> {
        match answer {
            enums::auth::LoginToken::Token(token) => Ok(Some(self.show(token))),
            enums::auth::LoginToken::MigrateTo(to) => {
                self.count_migration(to.dc_id)?;
                self.phase = Phase::Import {
                    token: Zeroizing::new(to.token),
                    told: Told::NotYet,
                    since: Instant::now(),
                };
                self.origin.get_or_insert(self.dc);
                self.dc = to.dc_id;
                self.disconnect().await;
                Ok(None)
            }
            enums::auth::LoginToken::Success(success) => {
                // Remembered before the wait, so that the step is repeated if this is dropped meanwhile.
                let authorized = self.authorized(success.authorization)?;
                self.disconnect().await;
                Ok(Some(Step::Authorized(authorized)))
            }
        }
    }

    fn show(&mut self, token: types::auth::LoginToken) -> Step {
        let bytes = Zeroizing::new(token.token);
        let now = Instant::now();
        let expires_in = self
            .connection
            .as_ref()
            .map_or(TOKEN_LIFE_MIN, |connection| connection.until_server_date(token.expires))
            .clamp(TOKEN_LIFE_MIN, TOKEN_LIFE_MAX);
        let mut refresh = now + expires_in - REFRESH_EARLY_MAX.min(expires_in / 5);
        if std::mem::take(&mut self.unheard) {
            refresh = refresh.min(now + LOOK_AGAIN_AFTER);
        }
        self.phase = Phase::Shown { refresh };
        let acceptable_until = now + expires_in + ACCEPT_MARGIN;
        self.shown_until = Some(self.shown_until.map_or(acceptable_until, |t| t.max(acceptable_until)));
        let mut url = Zeroizing::new(String::from(LOGIN_URL));
        BASE64_URL_SAFE_NO_PAD.encode_string(&*bytes, &mut url);
        Step::Token { url: Secret::new(url.as_str()), expires_in }
    }

    pub(super) async fn wait_for_scan(&mut self, refresh: Instant, until: Instant) {
        if refresh <= Instant::now() {
            self.phase = Phase::Export;
            return;
        }
        let heard = match &mut self.connection {
            Some(connection) => connection.listen(until.min(refresh)).await,
            // Lost while somebody else was asked something; the export finds what was missed.
            None => Ok(Heard::LoginToken),
        };
        match heard {
            Ok(Heard::LoginToken) => self.phase = Phase::Export,
            Ok(Heard::Nothing) => {}
            Err(_) => {
                self.lost();
                self.phase = Phase::Export;
            }
        }
    }

    /// Gets a key and a connection where the account lives, and tells.
    pub(super) async fn arrive(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        match self.connected(until).await? {
            None => Ok(None),
            Some(_) => {
                if let Phase::Import { told, .. } = &mut self.phase {
                    *told = Told::Once;
                }
                Ok(Some(Step::Migrated { dc: self.dc }))
            }
        }
    }

    pub(super) async fn import(
        &mut self,
        token: &[u8],
        since: Instant,
        until: Instant,
    ) -> Result<Option<Step>, Error> {
        let request = functions::auth::ImportLoginToken { token: token.to_vec() };
        match self.ask_fateful(&request, "importing a login token", until).await {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => self.take(answer).await,
            Err(Error::PasswordNeeded) => {
                self.origin = None;
                self.phase = Phase::Password { told: Told::NotYet };
                Ok(None)
            }
            Err(Error::Unauthorized) if since.elapsed() < SETTLING => {
                self.pace.wait(Instant::now() + SETTLING_PAUSE);
                Ok(None)
            }
            // Too late here; where the login came from there is another token, or another way.
            Err(Error::TokenUnusable) => {
                self.disconnect().await;
                self.dc = self.origin.take().unwrap_or(self.dc);
                self.phase = Phase::Export;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

//! Short visits with a stored key: does it live, and ending it. Each visit is one connection, closed before
//! the answer is returned.

use std::time::{Duration, Instant};

use grammers_tl_types::{RemoteCall, enums, functions, types};

use crate::{
    domain::{
        material::{FutureAuthToken, Material},
        session::Account,
    },
    telegram::{
        ATTEMPT_MAX, Telegram,
        connection::{Client, Connection, Route},
        error::Error,
        refuse_proxy,
    },
};

/// Between two attempts of one visit: a server that has just dropped a connection is given a moment.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Between a refusal that may be false and the second look at it.
const SECOND_LOOK_PAUSE: Duration = Duration::from_secs(2);

/// That an authorization lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Whose it is.
    pub account: Account,
}

impl Telegram {
    /// Asks the home data centre who the key belongs to. The caller must own the session: no other connection
    /// may be open with the key, and `material.api_id` must be set.
    ///
    /// # Errors
    /// `Lost`, `Unauthorized` and `KeyUnknown` tell how the authorization ended or seems to have; `Frozen`;
    /// `FloodWait`; `Unavailable` and `TimedOut` prove nothing about it.
    pub async fn probe(&self, material: &Material, deadline: Instant) -> Result<Proof, Error> {
        let request = functions::users::GetUsers { id: vec![enums::InputUser::UserSelf] };
        let users = self.visit(material, &request, "asking whose key it is", deadline).await?;
        match users.into_iter().next() {
            Some(user) => Ok(Proof { account: account_of(user) }),
            None => Err(Error::Unauthorized),
        }
    }

    /// Ends the authorization, and answers what lets its account sign in again without a code. One that has ended
    /// already is no error.
    ///
    /// # Errors
    /// `FloodWait`, `Unavailable`, `TimedOut` and `Refused`: the authorization may live on; try again.
    pub async fn log_out(
        &self,
        material: &Material,
        deadline: Instant,
    ) -> Result<Option<FutureAuthToken>, Error> {
        const DOING: &str = "logging out";
        let request = functions::auth::LogOut {};
        match self.visit(material, &request, DOING, deadline).await {
            // This one is false at times, and what is forgotten here cannot be ended later.
            Err(Error::Unauthorized) => {
                tokio::time::sleep_until((Instant::now() + SECOND_LOOK_PAUSE).min(deadline).into()).await;
                ended(self.visit(material, &request, DOING, deadline).await)
            }
            answer => ended(answer),
        }
    }

    /// One call on one connection; once more on another if the first one failed for a passing reason.
    async fn visit<R: RemoteCall>(
        &self,
        material: &Material,
        request: &R,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<R::Return, Error> {
        refuse_proxy(material.proxy.as_ref())?;
        match self.visit_once(material, request, doing, deadline).await {
            Err(error) if error.is_transient() && Instant::now() + RETRY_PAUSE < deadline => {
                tokio::time::sleep(RETRY_PAUSE).await;
                self.visit_once(material, request, doing, deadline).await
            }
            answer => answer,
        }
    }

    async fn visit_once<R: RemoteCall>(
        &self,
        material: &Material,
        request: &R,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<R::Return, Error> {
        let deadline = deadline.min(Instant::now() + ATTEMPT_MAX);
        let home = material.home().ok_or(Error::KeyUnknown)?;
        let address = self.address(material.home_dc)?;
        let route = Route { address, auth_key: &home.auth_key, salt: 0 };
        let client = Client { api_id: material.api_id, device: &material.device };
        let mut connection = Connection::open(&route, &client, deadline).await?;
        let answer = connection.call(request, doing, deadline).await;
        connection.close().await;
        answer
    }
}

/// Whether an answer to `auth.logOut` means that the authorization is over, and what Telegram gave in exchange.
pub(super) fn ended(answer: Result<enums::auth::LoggedOut, Error>) -> Result<Option<FutureAuthToken>, Error> {
    match answer {
        Ok(enums::auth::LoggedOut::Out(types::auth::LoggedOut { future_auth_token })) => {
            Ok(future_auth_token.map(FutureAuthToken::new))
        }
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn account_of(user: enums::User) -> Account {
    match user {
        enums::User::User(user) => Account {
            telegram_user_id: user.id,
            // Accounts with bought names list them all and leave the plain one out.
            username: user.username.or_else(|| {
                user.usernames
                    .into_iter()
                    .flatten()
                    .find_map(|enums::Username::Username(name)| name.active.then_some(name.username))
            }),
            is_bot: user.bot,
        },
        enums::User::Empty(user) => Account { telegram_user_id: user.id, username: None, is_bot: false },
    }
}

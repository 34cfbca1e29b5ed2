//! Short visits with a stored key: does it live, and ending it. Each visit is one connection, closed before
//! the answer is returned.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use grammers_tl_types::{RemoteCall, enums, functions, types};

use crate::{
    domain::{
        material::{FutureAuthToken, Material},
        secret::Secret,
        session::Account,
        time::Timestamp,
        validation::Authorization,
    },
    telegram::{
        ATTEMPT_MAX, Telegram,
        connection::{Client, Connection, Route},
        error::Error,
        key_exchange, refuse_proxy,
    },
};

/// What links of login tokens begin with.
pub(super) const LOGIN_URL: &str = "tg://login?token=";

/// Between two attempts of one visit: a server that has just dropped a connection is given a moment.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Between a refusal that may be false and the second look at it.
const SECOND_LOOK_PAUSE: Duration = Duration::from_secs(2);
/// How long a visit waits for what is good to know and proves nothing.
const ASIDE_MAX: Duration = Duration::from_secs(3);

/// That an authorization lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Whose it is.
    pub account: Account,
    /// What Telegram lists about it; bots are not told, and a failure of this question is no failure of the proof.
    pub authorization: Option<Authorization>,
    /// Telegram asked not to be asked for that list again so soon.
    pub pause: Option<Duration>,
}

impl Telegram {
    /// Asks the home data centre who the key belongs to, and what it lists about this authorization. The caller must
    /// own the session: no other connection may be open with the key, and `material.api_id` must be set.
    ///
    /// # Errors
    /// `Lost`, `Unauthorized` and `KeyUnknown` tell how the authorization ended or seems to have; `Frozen`;
    /// `FloodWait`; `Unavailable` and `TimedOut` prove nothing about it.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection at once; nothing is known then.
    pub async fn probe(&self, material: &Material, deadline: Instant) -> Result<Proof, Error> {
        refuse_proxy(material.proxy.as_ref())?;
        at_most_twice(deadline, || self.probe_once(material, deadline)).await
    }

    async fn probe_once(&self, material: &Material, deadline: Instant) -> Result<Proof, Error> {
        let deadline = deadline.min(Instant::now() + ATTEMPT_MAX);
        let mut connection = self.connect(material, deadline).await?;
        let proof = prove(&mut connection, deadline).await;
        connection.close().await;
        proof
    }

    /// Whether the data centre answers at all: it is asked for the first step of a key exchange, which needs no key.
    ///
    /// # Errors
    /// `DcUnknown`, `Unavailable`, `TimedOut`, `Untrusted`.
    pub async fn greet(&self, dc: i32, deadline: Instant) -> Result<(), Error> {
        key_exchange::greet(self.address(dc)?, deadline.min(Instant::now() + ATTEMPT_MAX)).await
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

    /// Lets a login in whose token was exported elsewhere, as a signed-in phone does that scans its code. Asks once: an
    /// answer that is lost may have been a yes, which the login itself finds out.
    ///
    /// # Errors
    /// As [`Self::probe`], and `TokenUnusable`. After `Unavailable` and `TimedOut` it may have been accepted.
    pub async fn accept_login_token(
        &self,
        material: &Material,
        url: &Secret,
        deadline: Instant,
    ) -> Result<(), Error> {
        refuse_proxy(material.proxy.as_ref())?;
        let token = url.expose_secret().strip_prefix(LOGIN_URL).ok_or(Error::TokenUnusable)?;
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::TokenUnusable)?;
        let request = functions::auth::AcceptLoginToken { token };
        self.visit_once(material, &request, "accepting a login", deadline).await?;
        Ok(())
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
        at_most_twice(deadline, || self.visit_once(material, request, doing, deadline)).await
    }

    async fn visit_once<R: RemoteCall>(
        &self,
        material: &Material,
        request: &R,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<R::Return, Error> {
        let deadline = deadline.min(Instant::now() + ATTEMPT_MAX);
        let mut connection = self.connect(material, deadline).await?;
        let answer = connection.call(request, doing, deadline).await;
        connection.close().await;
        answer
    }

    /// A connection to the home data centre with the stored key.
    async fn connect(&self, material: &Material, deadline: Instant) -> Result<Connection, Error> {
        let home = material.home().ok_or(Error::KeyUnknown)?;
        let address = self.address(material.home_dc)?;
        let route = Route { address, auth_key: &home.auth_key, salt: 0 };
        let client = Client { api_id: material.api_id, device: &material.device };
        Connection::open(&route, &client, deadline).await
    }
}

/// Once more if the first attempt failed for a passing reason.
async fn at_most_twice<T, F>(deadline: Instant, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    // Boxed: a connection is large, and this is part of many futures.
    match Box::pin(attempt()).await {
        Err(error) if error.is_transient() && Instant::now() + RETRY_PAUSE < deadline => {
            tokio::time::sleep(RETRY_PAUSE).await;
            Box::pin(attempt()).await
        }
        answer => answer,
    }
}

async fn prove(connection: &mut Connection, deadline: Instant) -> Result<Proof, Error> {
    let whose = functions::users::GetUsers { id: vec![enums::InputUser::UserSelf] };
    let users = connection.call(&whose, "asking whose key it is", deadline).await?;
    let Some(user) = users.into_iter().next() else { return Err(Error::Unauthorized) };
    let mut proof = Proof { account: account_of(user), authorization: None, pause: None };
    if proof.account.is_bot {
        return Ok(proof);
    }
    let aside = deadline.min(Instant::now() + ASIDE_MAX);
    let list = functions::account::GetAuthorizations {};
    match connection.call(&list, "asking for the list of authorizations", aside).await {
        Ok(list) => proof.authorization = own_of(list),
        Err(Error::FloodWait { retry_after }) => proof.pause = Some(retry_after),
        Err(error) => {
            tracing::debug!(error = %error, "An authorization lives, and telegram does not list it")
        }
    }
    Ok(proof)
}

/// The row of the list that is about whoever asked.
fn own_of(list: enums::account::Authorizations) -> Option<Authorization> {
    let enums::account::Authorizations::Authorizations(list) = list;
    let time = |seconds: i32| Timestamp::from_millis(i64::from(seconds) * 1000);
    list.authorizations.into_iter().find_map(|enums::Authorization::Authorization(row)| {
        row.current.then(|| Authorization {
            ip: row.ip,
            country: row.country,
            create_time: time(row.date_created),
            active_time: time(row.date_active),
            unconfirmed: row.unconfirmed,
            ttl_days: list.authorization_ttl_days,
        })
    })
}

/// Whether an answer to `auth.logOut` means that the authorization is over, and what Telegram gave in exchange.
pub(super) fn ended(answer: Result<enums::auth::LoggedOut, Error>) -> Result<Option<FutureAuthToken>, Error> {
    match answer {
        Ok(enums::auth::LoggedOut::Out(types::auth::LoggedOut { future_auth_token })) => {
            Ok(future_auth_token.map(FutureAuthToken::new))
        }
        Err(error) if error.is_gone() => Ok(None),
        // Whoever scanned never gave their password, so there is no authorization.
        Err(Error::PasswordNeeded) => Ok(None),
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

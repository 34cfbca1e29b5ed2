//! Accounts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::parse::{self, Body, nullable};
use super::{Failure, Outcome, saved};
use crate::crypto::random_i64;
use crate::crypto::srp::Verifier;
use crate::rpc;
use crate::shared::Shared;
use crate::state::World;
use crate::state::fault::RpcError;
use crate::state::user::{User, UserId};

/// Accounts at a time.
const USERS_MAX: usize = 100_000;
/// Bytes of each text of an account.
const TEXT_MAX: usize = 256;
/// User numbers that Telegram uses fit in 52 bits.
const ID_MAX: UserId = 1 << 52;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    id: UserId,
    phone: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    username: Option<String>,
    dc: Option<i32>,
    password: Option<String>,
    hint: Option<String>,
    is_bot: Option<bool>,
    bot_token: Option<String>,
}

impl NewUser {
    fn check(&self) -> Result<(), Failure> {
        if !(1..ID_MAX).contains(&self.id) {
            return Err(Failure::bad("`id` is a positive number below 2^52"));
        }
        let texts = [
            &self.phone,
            &self.first_name,
            &self.last_name,
            &self.username,
            &self.password,
            &self.hint,
            &self.bot_token,
        ];
        if texts.into_iter().flatten().any(|text| text.len() > TEXT_MAX) {
            return Err(Failure::bad("a text of the account is longer than 256 bytes"));
        }
        if self.phone.as_ref().is_some_and(|phone| !(5..=15).contains(&rpc::digits(phone).len())) {
            return Err(Failure::bad("`phone` has 5 to 15 digits"));
        }
        if self.bot_token.as_deref() == Some("") || self.password.as_deref() == Some("") {
            return Err(Failure::bad("`bot_token` and `password` are absent or not empty"));
        }
        if self.bot_token.is_some() && self.is_bot == Some(false) {
            return Err(Failure::bad("an account with `bot_token` is a bot"));
        }
        Ok(())
    }
}

pub(super) async fn put(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let new: NewUser = parse::body(body)?;
    new.check()?;
    let password = verifier(&shared, new.password.clone()).await?;
    let answer = {
        let mut world = shared.world();
        let user = build(&world, new, password)?;
        let answer = describe(&user);
        world.users.insert(user.id, user);
        world.changed();
        answer
    };
    saved(&shared, answer).await
}

async fn verifier(shared: &Shared, password: Option<String>) -> Result<Option<Verifier>, Failure> {
    let Some(password) = password else { return Ok(None) };
    let made = shared.compute(move || Verifier::new(&password)).await;
    made.map(Some).ok_or_else(|| Failure::conflict("the sandbox is stopping"))
}

fn known_dc(world: &World, dc: i32) -> Result<i32, Failure> {
    if world.dcs.contains_key(&dc) { Ok(dc) } else { Err(Failure::bad(format!("no DC {dc} here"))) }
}

fn build(world: &World, new: NewUser, password: Option<Verifier>) -> Result<User, Failure> {
    let old = world.users.get(&new.id);
    if old.is_none() && world.users.len() >= USERS_MAX {
        return Err(Failure::conflict("too many accounts"));
    }
    let phone = new.phone.as_deref().map(rpc::digits);
    let others = || world.users.values().filter(|user| user.id != new.id);
    if phone.is_some() && others().any(|user| user.phone == phone) {
        return Err(Failure::conflict("another account has this `phone`"));
    }
    if new.bot_token.is_some() && others().any(|user| user.bot_token == new.bot_token) {
        return Err(Failure::conflict("another account has this `bot_token`"));
    }
    Ok(User {
        id: new.id,
        access_hash: old.map_or_else(random_i64, |old| old.access_hash),
        phone,
        first_name: new.first_name.unwrap_or_else(|| format!("User {}", new.id)),
        last_name: new.last_name,
        username: new.username,
        dc: known_dc(world, new.dc.unwrap_or_else(|| world.default_dc()))?,
        password,
        hint: new.hint,
        is_bot: new.is_bot.unwrap_or(new.bot_token.is_some()),
        bot_token: new.bot_token,
        state: None,
        logout_tokens: Vec::new(),
        messages: old.map_or(0, |old| old.messages),
    })
}

fn describe(user: &User) -> Value {
    json!({
        "id": user.id,
        "phone": user.phone,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "username": user.username,
        "dc": user.dc,
        "has_password": user.password.is_some(),
        "hint": user.hint,
        "is_bot": user.is_bot,
        "bot_token": user.bot_token,
        "state": user.state,
    })
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.world().users.values().map(describe).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserState {
    user_id: UserId,
    #[serde(default, deserialize_with = "nullable")]
    state: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    password: Option<Option<String>>,
    dc: Option<i32>,
}

pub(super) async fn set_state(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let wanted: UserState = parse::body(body)?;
    let named = wanted.state.iter().flatten().all(|state| RpcError::parse(state).is_some());
    if !named {
        return Err(Failure::bad("`state` is the name of an error such as USER_DEACTIVATED_BAN, or null"));
    }
    if wanted.password.iter().flatten().any(|text| text.is_empty() || text.len() > TEXT_MAX) {
        return Err(Failure::bad("`password` is null or has 1 to 256 bytes"));
    }
    let password = match wanted.password {
        Some(password) => Some(verifier(&shared, password).await?),
        None => None,
    };
    let answer = {
        let mut world = shared.world();
        let dc = wanted.dc.map(|dc| known_dc(&world, dc)).transpose()?;
        let user = world.users.get_mut(&wanted.user_id).ok_or_else(|| unknown(wanted.user_id))?;
        user.dc = dc.unwrap_or(user.dc);
        if let Some(state) = wanted.state {
            user.state = state;
        }
        if let Some(password) = password {
            user.password = password;
        }
        let answer = describe(user);
        world.changed();
        answer
    };
    saved(&shared, answer).await
}

/// The failure of a call that names an account which is not here.
pub(super) fn unknown(user: UserId) -> Failure {
    Failure::bad(format!("no user {user}"))
}

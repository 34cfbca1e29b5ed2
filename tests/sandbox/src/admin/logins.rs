//! Logins under way, and what a phone or Telegram itself would do to them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::parse::{self, Body};
use super::{Failure, Outcome, saved, users};
use crate::crypto::auth_key::KeyId;
use crate::rpc;
use crate::shared::Shared;
use crate::state::World;
use crate::state::user::{User, UserId};

/// What a pushed message says unless told otherwise.
const MESSAGE: &str = "Hello from the sandbox";
/// Bytes of a pushed message.
const MESSAGE_MAX: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    token: String,
    user_id: UserId,
}

pub(super) async fn scan(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let wanted: Scan = parse::body(body)?;
    let token = parse::token(&wanted.token)?;
    let answer = {
        let mut world = shared.world();
        let user = world.users.get(&wanted.user_id).ok_or_else(|| users::unknown(wanted.user_id))?;
        let (home, needs_password) = (user.dc, user.password.is_some());
        let key = rpc::scan(&mut world, &token, wanted.user_id).map_err(|e| Failure::conflict(e.name))?;
        let dc = world.keys.get(&key).map(|key| key.dc);
        json!({ "key": key, "dc": dc, "user": wanted.user_id, "migrate": dc != Some(home), "password": needs_password })
    };
    saved(&shared, answer).await
}

pub(super) async fn codes(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    let now = world.now();
    let waiting = world.codes.iter().filter(|code| code.until > now).map(|code| {
        json!({
            "phone": code.phone,
            "hash": code.hash,
            "code": code.code,
            "until": code.until,
            "tries": code.tries,
            "key": code.key,
        })
    });
    Json(waiting.collect())
}

pub(super) async fn tokens(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    let now = world.now_exact();
    let tokens = world.tokens.iter().map(|token| {
        json!({
            "token": hex::encode(&token.token),
            "key": token.key,
            "dc": token.dc,
            "user": token.user,
            "expires_in": token.expires as f64 - now,
            "used": token.used,
            "api_id": token.api_id,
        })
    });
    Json(tokens.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    user_id: Option<UserId>,
    key: Option<String>,
    update: Update,
    text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Update {
    Message,
    Status,
    LoginToken,
}

enum Target {
    User(UserId),
    Key(KeyId),
}

pub(super) async fn push(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let wanted: Push = parse::body(body)?;
    if wanted.text.as_ref().is_some_and(|text| text.len() > MESSAGE_MAX) {
        return Err(Failure::bad("`text` is longer than 4096 bytes"));
    }
    let mut world = shared.world();
    let target = match (wanted.user_id, wanted.key.as_deref()) {
        (Some(user), None) if world.users.contains_key(&user) => Target::User(user),
        (Some(user), None) => return Err(users::unknown(user)),
        (None, Some(key)) => Target::Key(parse::key(key)?),
        _ => return Err(Failure::bad("name either `user_id` or `key`")),
    };
    let owner = match target {
        Target::User(user) => Some(user),
        Target::Key(key) => world.keys.get(&key).ok_or_else(|| Failure::bad("no such key"))?.user,
    };
    let (name, update) = write(&mut world, wanted.update, owner, wanted.text.as_deref());
    let sent = match target {
        Target::User(user) => world.push_to_user(user, name, &update),
        Target::Key(key) => usize::from(world.push_to_key(key, name, &update)),
    };
    Ok(Json(json!({ "sent": sent })))
}

fn write(
    world: &mut World,
    update: Update,
    owner: Option<UserId>,
    text: Option<&str>,
) -> (&'static str, Vec<u8>) {
    let now = world.now();
    match update {
        Update::Message => {
            let owner = owner.and_then(|owner| world.users.get_mut(&owner));
            let pts = owner.map_or(1, User::next_pts);
            ("updateShortMessage", rpc::message_update(text.unwrap_or(MESSAGE), pts, now))
        }
        Update::Status => ("updateUserStatus", rpc::status_update(owner.unwrap_or_default(), now)),
        Update::LoginToken => ("updateLoginToken", rpc::token_update(now)),
    }
}

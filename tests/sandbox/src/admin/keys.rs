//! Authorization keys and the connections that use them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::parse::{self, Body, nullable};
use super::{Failure, Outcome, saved, users};
use crate::crypto::auth_key::AuthKey;
use crate::crypto::random_i64;
use crate::shared::Shared;
use crate::state::World;
use crate::state::connection::{Closing, ConnId};
use crate::state::fault::RpcError;
use crate::state::key::{Broken, Key};
use crate::state::user::UserId;
use crate::state::world::{KEYS_MAX, machine_now};

pub(super) async fn public_key(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let rsa = &shared.rsa;
    Json(json!({
        "pem": rsa.public_pem(),
        "fingerprint": rsa.fingerprint(),
        "n": rsa.modulus(),
        "e": rsa.exponent(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mint {
    dc: i32,
    user_id: Option<UserId>,
}

pub(super) async fn mint(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let wanted: Mint = parse::body(body)?;
    let answer = {
        let mut world = shared.world();
        let Some(port) = world.dcs.get(&wanted.dc).map(std::net::SocketAddr::port) else {
            return Err(Failure::bad(format!("no DC {} here", wanted.dc)));
        };
        if let Some(user) = wanted.user_id.filter(|user| !world.users.contains_key(user)) {
            return Err(users::unknown(user));
        }
        if world.keys.len() >= KEYS_MAX {
            return Err(Failure::conflict("too many keys"));
        }
        let key = Key::new(AuthKey::generate(), wanted.dc, random_i64(), machine_now());
        let (id, auth_key) = (key.id(), hex::encode(key.auth.expose()));
        world.keys.insert(id, key);
        match wanted.user_id {
            Some(user) => world.log_in(id, user, None),
            None => world.changed(),
        }
        json!({ "key": id, "auth_key": auth_key, "dc": wanted.dc, "port": port })
    };
    saved(&shared, answer).await
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    let mut keys: Vec<&Key> = world.keys.values().filter(|key| key.temporary.is_none()).collect();
    keys.sort_by(|a, b| a.created.total_cmp(&b.created));
    Json(keys.into_iter().map(|key| describe(&world, key)).collect())
}

fn describe(world: &World, key: &Key) -> Value {
    let id = key.id();
    let bound = |other: &&Key| other.temporary.as_ref().is_some_and(|temp| temp.bound_to == Some(id));
    let sessions =
        key.sessions.len() + world.keys.values().filter(bound).map(|temp| temp.sessions.len()).sum::<usize>();
    let broken = key.broken.as_ref().map(|broken| match broken {
        Broken::Error(name) => name.as_str(),
        Broken::Forgotten => "forget",
    });
    let init = key.init.as_ref().map(|init| json!(init));
    json!({
        "key": id,
        "dc": key.dc,
        "user": key.user,
        "pending_2fa": key.pending_2fa,
        "broken": broken,
        "layer": key.layer,
        "init": init,
        "sessions": sessions,
        "open_connections": world.conns.values().filter(|conn| conn.key == Some(id)).count(),
        "ips": key.ips,
        "created": key.created,
        "logged_in": key.logged_in,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    key: String,
    #[serde(default, deserialize_with = "nullable")]
    mode: Option<Option<String>>,
}

pub(super) async fn revoke(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let wanted: Revoke = parse::body(body)?;
    let id = parse::key(&wanted.key)?;
    let Some(mode) = wanted.mode else {
        return Err(Failure::bad("`mode` is an error name, \"forget\", \"logout\" or null"));
    };
    let answer = {
        let mut world = shared.world();
        if !world.keys.contains_key(&id) {
            return Err(Failure::bad("no such key"));
        }
        match mode.as_deref() {
            None => mend(&mut world, id),
            Some("logout") => world.log_out(id),
            Some("forget") => {
                if let Some(key) = world.keys.get_mut(&id) {
                    key.broken = Some(Broken::Forgotten);
                }
            }
            Some(name) if RpcError::parse(name).is_some() => world.break_login(id, name),
            Some(_) => {
                return Err(Failure::bad("`mode` is an error name, \"forget\", \"logout\" or null"));
            }
        }
        world.changed();
        let key = world.keys.get(&id).ok_or_else(|| Failure::bad("no such key"))?;
        describe(&world, key)
    };
    saved(&shared, answer).await
}

fn mend(world: &mut World, id: crate::crypto::auth_key::KeyId) {
    for key in world.keys.values_mut().filter(|key| key.id() == id || key.root == Some(id)) {
        key.broken = None;
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    key: Option<String>,
    #[serde(default)]
    reset: bool,
}

pub(super) async fn kick(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let wanted: Kick = parse::body(body)?;
    let key = wanted.key.as_deref().map(parse::key).transpose()?;
    let closing = if wanted.reset { Closing::Reset } else { Closing::Orderly };
    let mut world = shared.world();
    if key.is_some_and(|key| !world.keys.contains_key(&key)) {
        return Err(Failure::bad("no such key"));
    }
    let hit: Vec<ConnId> = world
        .conns
        .iter_mut()
        .filter(|(_, conn)| key.is_none() || conn.key == key)
        .map(|(id, conn)| {
            conn.shut(closing, "kicked");
            *id
        })
        .collect();
    Ok(Json(json!({ "closed": hit.len() })))
}

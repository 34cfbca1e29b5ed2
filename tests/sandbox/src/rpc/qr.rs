//! Login by QR: tokens are exported by who wants in, accepted by who is in, and imported at another DC.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call, account, login, object, sign_in};
use crate::crypto::random;
use crate::state::World;
use crate::state::fault::RpcError;
use crate::state::token::{LoginToken, TOKENS_MAX};
use crate::state::user::UserId;
use crate::tl::{Reader, Writer};

const LOGIN_TOKEN_SUCCESS: u32 = 0x390d_5c5e;

pub(super) fn export(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (api_id, _api_hash, except) = (r.i32()?, r.bytes()?, r.longs()?);
    if api_id <= 0 {
        return Err(RpcError::new(400, "API_ID_INVALID"));
    }
    if world.keys.get(&call.key).is_some_and(|key| key.pending_2fa.is_some()) {
        return Err(RpcError::new(401, "SESSION_PASSWORD_NEEDED"));
    }
    let now = world.now();
    let mine = |token: &&mut LoginToken| token.key == call.key && token.expires > now && !token.used;
    if let Some(token) = world.tokens.iter_mut().rev().filter(mine).find(|token| token.user.is_some()) {
        let (bytes, user) = (token.token.clone(), token.user);
        return redeem(world, call, &bytes, user);
    }
    if let Some(user) = world.user_of(call.key).map(|user| user.id) {
        return success(&object::authorization(world, call.key, user)?);
    }
    Ok(fresh(world, call, api_id, except))
}

fn fresh(world: &mut World, call: &Call, api_id: i32, except: Vec<UserId>) -> Vec<u8> {
    let token = random::<32>().to_vec();
    // Rounded up: a client that waits until `expires` must not find the token still valid, nor dead before.
    let expires = world.now_exact().ceil() as i64 + i64::from(world.settings.qr_ttl);
    if world.tokens.len() == TOKENS_MAX {
        world.tokens.pop_front();
    }
    world.tokens.push_back(LoginToken {
        token: token.clone(),
        key: call.key,
        conn: call.to.conn,
        session: call.to.session,
        dc: call.dc,
        expires,
        user: None,
        used: false,
        except,
        api_id,
    });
    enums::auth::LoginToken::Token(types::auth::LoginToken { expires: expires as i32, token }).to_bytes()
}

fn success(authorization: &[u8]) -> Answer {
    Ok(Writer::boxed(LOGIN_TOKEN_SUCCESS).raw(authorization).finish())
}

/// Turns an accepted token into a login here, or points to the account's home DC.
fn redeem(world: &mut World, call: &Call, token: &[u8], user: Option<UserId>) -> Answer {
    let invalid = || RpcError::new(400, "AUTH_TOKEN_INVALID");
    let user = user.ok_or_else(invalid)?;
    let home = world.users.get(&user).ok_or_else(invalid)?.dc;
    if home != call.dc {
        let pointer = types::auth::LoginTokenMigrateTo { dc_id: home, token: token.to_vec() };
        return Ok(enums::auth::LoginToken::MigrateTo(pointer).to_bytes());
    }
    if let Some(found) = world.tokens.iter_mut().find(|found| found.token == token) {
        found.used = true;
    }
    success(&sign_in(world, call, user)?)
}

pub(super) fn import(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let wanted = r.bytes()?;
    let now = world.now();
    let found = world.tokens.iter().find(|token| token.token == wanted);
    let found = found.ok_or_else(|| RpcError::new(400, "AUTH_TOKEN_INVALID"))?;
    if found.used {
        return Err(RpcError::new(400, "AUTH_TOKEN_ALREADY_ACCEPTED"));
    }
    if found.expires <= now {
        return Err(RpcError::new(400, "AUTH_TOKEN_EXPIRED"));
    }
    let user = found.user;
    redeem(world, call, wanted, user)
}

pub(super) fn accept(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let user = login(world, call)?;
    let token = r.bytes()?.to_vec();
    let exporter = scan(world, &token, user)?;
    let Some(key) = world.keys.get(&exporter) else { return Err(RpcError::new(400, "AUTH_TOKEN_INVALID")) };
    Ok(account::authorization(key, account::Whose::Another).to_bytes())
}

/// A logged-in account accepts a token; the connection that exported it is told.
pub(crate) fn scan(
    world: &mut World,
    token: &[u8],
    user: UserId,
) -> Result<crate::crypto::auth_key::KeyId, RpcError> {
    let now = world.now();
    let accepted_ttl = i64::from(world.settings.qr_accepted_ttl);
    let found = world.tokens.iter_mut().find(|found| found.token == token);
    let found = found.ok_or_else(|| RpcError::new(400, "AUTH_TOKEN_INVALID"))?;
    if found.used || found.user.is_some() {
        return Err(RpcError::new(400, "AUTH_TOKEN_ALREADY_ACCEPTED"));
    }
    if found.expires <= now {
        return Err(RpcError::new(400, "AUTH_TOKEN_EXPIRED"));
    }
    if found.except.contains(&user) {
        return Err(RpcError::new(400, "AUTH_TOKEN_EXCEPTION"));
    }
    found.user = Some(user);
    found.expires = now + accepted_ttl;
    let (conn, key, session) = (found.conn, found.key, found.session);
    let same =
        |conn: &&crate::state::connection::Connection| conn.key == Some(key) && conn.session == Some(session);
    if world.conns.get(&conn).filter(same).is_some() {
        world.push(conn, "updateLoginToken", object::token_update(now));
    }
    Ok(key)
}

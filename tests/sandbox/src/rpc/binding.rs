//! `auth.bindTempAuthKey`: a temporary key starts to speak for a permanent one.

use super::{Answer, Call, object};
use crate::crypto::auth_key::KeyId;
use crate::crypto::bind;
use crate::state::World;
use crate::state::fault::RpcError;
use crate::tl::Reader;

pub(super) fn bind(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (perm_id, nonce, expires_at) = (KeyId(r.i64()?), r.i64()?, r.i32()?);
    let invalid = || RpcError::new(400, "ENCRYPTED_MESSAGE_INVALID");
    let perm = world.keys.get(&perm_id).filter(|key| key.temporary.is_none() && !key.forgotten());
    let perm = perm.filter(|key| key.dc == call.dc).ok_or_else(invalid)?;
    let binding = bind::open(&perm.auth, r.bytes()?).map_err(|_| invalid())?;
    let expected = bind::Binding {
        msg_id: call.msg_id,
        nonce,
        temp_key: call.to.key.0,
        perm_key: perm_id.0,
        temp_session: call.to.session,
        expires_at,
    };
    if binding != expected {
        return Err(invalid());
    }
    let temporary = world.keys.get_mut(&call.to.key).and_then(|key| key.temporary.as_mut());
    let temporary = temporary.ok_or_else(|| RpcError::new(400, "TEMP_AUTH_KEY_EMPTY"))?;
    if temporary.bound_to.is_some_and(|bound| bound != perm_id) {
        return Err(RpcError::new(400, "TEMP_AUTH_KEY_ALREADY_BOUND"));
    }
    temporary.bound_to = Some(perm_id);
    temporary.expires = temporary.expires.min(i64::from(expires_at));
    if let Some(conn) = world.conns.get_mut(&call.to.conn) {
        conn.key = Some(perm_id);
        conn.requests = 0;
    }
    Ok(object::boolean(true))
}

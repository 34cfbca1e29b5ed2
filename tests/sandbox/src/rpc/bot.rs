//! Login of bots by their token.

use super::{Answer, Call, sign_in};
use crate::state::World;
use crate::state::fault::RpcError;
use crate::tl::Reader;

pub(super) fn import(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (_flags, api_id, _api_hash, token) = (r.i32()?, r.i32()?, r.bytes()?, r.string()?);
    if api_id <= 0 {
        return Err(RpcError::new(400, "API_ID_INVALID"));
    }
    let bot = world.users.values().find(|user| user.bot_token.as_deref() == Some(token.as_str()));
    let bot = bot.ok_or_else(|| RpcError::new(400, "ACCESS_TOKEN_INVALID"))?;
    if bot.dc != call.dc {
        return Err(RpcError::new(303, format!("USER_MIGRATE_{}", bot.dc)));
    }
    let user = bot.id;
    sign_in(world, call, user)
}

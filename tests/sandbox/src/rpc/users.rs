//! `users.*`.

use super::{Answer, Call, login, object};
use crate::state::World;
use crate::state::fault::RpcError;
use crate::state::user::{User, UserId};
use crate::tl::{Malformed, Reader, Writer};

const INPUT_USER_EMPTY: u32 = 0xb988_86cf;
const INPUT_USER_SELF: u32 = 0xf7c1_b13f;
const INPUT_USER: u32 = 0xf211_58c6;
const USERS_USER_FULL: u32 = 0x3b6d_152e;

fn input(r: &mut Reader<'_>, own: UserId) -> Result<Option<UserId>, Malformed> {
    match r.u32()? {
        INPUT_USER_EMPTY => Ok(None),
        INPUT_USER_SELF => Ok(Some(own)),
        INPUT_USER => {
            let id = r.i64()?;
            r.i64()?;
            Ok(Some(id))
        }
        _ => Err(Malformed),
    }
}

fn written(world: &World, call: &Call, user: &User, own: UserId) -> Vec<u8> {
    let view = if user.id == own { object::View::Oneself } else { object::View::Stranger };
    object::user(user, view, object::layer_of(world, call.key), world.now())
}

pub(super) fn get_users(world: &World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let own = login(world, call)?;
    let mut users = Vec::new();
    for _ in 0..r.count(4)? {
        let user = input(r, own)?.and_then(|id| world.users.get(&id));
        users.extend(user.map(|user| written(world, call, user, own)));
    }
    Ok(Writer::new().vector(&users).finish())
}

pub(super) fn get_full_user(world: &World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let own = login(world, call)?;
    let user = input(r, own)?.and_then(|id| world.users.get(&id));
    let user = user.ok_or_else(|| RpcError::new(400, "USER_ID_INVALID"))?;
    let shape = object::shape(object::layer_of(world, call.key));
    let flags = Writer::boxed(shape.user_full).u32(0);
    let flags = if shape.second_flags { flags.u32(0) } else { flags };
    let full =
        flags.i64(user.id).id(shape.peer_settings).u32(0).id(shape.notify_settings).u32(0).i32(0).finish();
    Ok(Writer::boxed(USERS_USER_FULL)
        .raw(&full)
        .vector(&[])
        .vector(&[written(world, call, user, own)])
        .finish())
}

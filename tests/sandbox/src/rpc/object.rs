//! API objects that are written by hand: those that carry a `user`, whose number depends on the client's layer.

use super::Answer;
use crate::crypto::auth_key::KeyId;
use crate::state::World;
use crate::state::fault::RpcError;
use crate::state::user::{User, UserId};
use crate::tl::{Writer, id};

const AUTH_AUTHORIZATION: u32 = 0x2ea2_c0d4;
const USER_STATUS_OFFLINE: u32 = 0x008c_703f;
const USER_STATUS_ONLINE: u32 = 0xedb9_3949;
const UPDATES_SHORT: u32 = 0x78d4_dec1;
const UPDATE_LOGIN_TOKEN: u32 = 0x564f_e691;
const UPDATE_USER_STATUS: u32 = 0xe5bd_f8de;
const UPDATE_SHORT_MESSAGE: u32 = 0x313b_c7f8;

/// The first layers of the shapes that were compared; between them the older shape is sent.
const LAYER_USER_229: i32 = 229;
const LAYER_USER_225: i32 = 200;
const LAYER_USER_198: i32 = 180;

/// Telegram's own account, which sends login codes.
const SERVICE_USER: UserId = 777_000;

/// The shapes of objects for one client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) user: u32,
    pub(super) user_full: u32,
    /// Whether `userFull` has flags twice.
    pub(super) second_flags: bool,
    pub(super) peer_settings: u32,
    pub(super) notify_settings: u32,
}

pub(super) fn shape(layer: i32) -> Shape {
    let newest = Shape {
        user: id::USER_229,
        user_full: id::USER_FULL_225,
        second_flags: true,
        peer_settings: id::PEER_SETTINGS_225,
        notify_settings: id::PEER_NOTIFY_SETTINGS_198,
    };
    if layer >= LAYER_USER_229 {
        newest
    } else if layer >= LAYER_USER_225 {
        Shape { user: id::USER_225, ..newest }
    } else if layer >= LAYER_USER_198 {
        let (user_full, peer_settings) = (id::USER_FULL_198, id::PEER_SETTINGS_198);
        Shape { user: id::USER_198, user_full, peer_settings, ..newest }
    } else {
        Shape {
            user: id::USER_158,
            user_full: id::USER_FULL_158,
            second_flags: false,
            peer_settings: id::PEER_SETTINGS_158,
            notify_settings: id::PEER_NOTIFY_SETTINGS_158,
        }
    }
}

pub(super) fn layer_of(world: &World, key: KeyId) -> i32 {
    world.keys.get(&key).and_then(|key| key.layer).unwrap_or(LAYER_USER_229)
}

/// How a user looks to the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Oneself,
    Stranger,
}

/// A `user`. Only members that all layers write alike are used.
pub(super) fn user(user: &User, view: View, layer: i32, now: i64) -> Vec<u8> {
    let phone = user.phone.as_deref().filter(|_| view == View::Oneself);
    let flag = |bit: u32, on: bool| u32::from(on) << bit;
    let flags = 1
        | flag(1, true)
        | flag(2, user.last_name.is_some())
        | flag(3, user.username.is_some())
        | flag(4, phone.is_some())
        | flag(6, !user.is_bot)
        | flag(10, view == View::Oneself)
        | flag(14, user.is_bot);
    let w = Writer::boxed(shape(layer).user)
        .u32(flags)
        .u32(0)
        .i64(user.id)
        .i64(user.access_hash)
        .str(&user.first_name)
        .opt_str(user.last_name.as_deref())
        .opt_str(user.username.as_deref())
        .opt_str(phone);
    if user.is_bot { w.i32(1).finish() } else { w.id(USER_STATUS_OFFLINE).i32(now as i32).finish() }
}

/// `auth.authorization` for a key that was just logged in.
pub(super) fn authorization(world: &World, key: KeyId, user_id: UserId) -> Answer {
    let found = world.users.get(&user_id).ok_or_else(|| RpcError::new(400, "USER_ID_INVALID"))?;
    let body = user(found, View::Oneself, layer_of(world, key), world.now());
    Ok(Writer::boxed(AUTH_AUTHORIZATION).u32(0).raw(&body).finish())
}

pub(super) fn boolean(value: bool) -> Vec<u8> {
    Writer::boxed(if value { id::BOOL_TRUE } else { id::BOOL_FALSE }).finish()
}

/// The update that tells of a scanned QR.
pub(crate) fn token_update(now: i64) -> Vec<u8> {
    Writer::boxed(UPDATES_SHORT).id(UPDATE_LOGIN_TOKEN).i32(now as i32).finish()
}

/// The update that tells that an account came online.
pub(crate) fn status_update(user: UserId, now: i64) -> Vec<u8> {
    Writer::boxed(UPDATES_SHORT)
        .id(UPDATE_USER_STATUS)
        .i64(user)
        .id(USER_STATUS_ONLINE)
        .i32(now as i32 + 300)
        .i32(now as i32)
        .finish()
}

/// A message from Telegram's service account.
pub(crate) fn message_update(text: &str, pts: i32, now: i64) -> Vec<u8> {
    Writer::boxed(UPDATE_SHORT_MESSAGE)
        .u32(0)
        .i32(pts)
        .i64(SERVICE_USER)
        .str(text)
        .i32(pts)
        .i32(1)
        .i32(now as i32)
        .finish()
}

#[cfg(test)]
mod tests {
    use grammers_tl_types::{Deserializable, enums};

    use super::*;

    fn someone() -> User {
        User {
            id: 77,
            access_hash: 5,
            phone: Some("9996621234".into()),
            first_name: "Ada".into(),
            last_name: None,
            username: Some("ada".into()),
            dc: 2,
            password: None,
            hint: None,
            bot_token: None,
            is_bot: false,
            state: None,
            logout_tokens: Vec::new(),
            messages: 0,
        }
    }

    #[test]
    fn the_client_library_reads_a_user_of_its_layer() {
        let bytes = user(&someone(), View::Oneself, grammers_tl_types::LAYER, 1000);
        let enums::User::User(read) = enums::User::from_bytes(&bytes).expect("it reads") else {
            panic!("an empty user")
        };
        assert_eq!((read.id, read.is_self, read.phone.as_deref()), (77, true, Some("9996621234")));
        assert_eq!((read.first_name.as_deref(), read.username.as_deref()), (Some("Ada"), Some("ada")));
        let bot = User { is_bot: true, ..someone() };
        let bytes = user(&bot, View::Stranger, grammers_tl_types::LAYER, 1000);
        let Ok(enums::User::User(read)) = enums::User::from_bytes(&bytes) else { panic!("not a user") };
        assert!(read.bot && read.phone.is_none() && !read.is_self);
    }

    #[test]
    fn each_layer_gets_its_own_number_and_the_same_rest() {
        let numbers = [158, 198, 225, 229, 230].map(|layer| user(&someone(), View::Oneself, layer, 1));
        let ids: Vec<u32> = numbers.iter().map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(ids, [id::USER_158, id::USER_198, id::USER_225, id::USER_229, id::USER_229]);
        assert!(numbers.iter().all(|bytes| bytes[4..] == numbers[0][4..]));
    }

    #[test]
    fn the_client_library_reads_every_update() {
        for bytes in [token_update(9), status_update(77, 9), message_update("hello", 3, 9)] {
            assert!(enums::Updates::from_bytes(&bytes).is_ok());
        }
    }
}

//! The logins of an account: listing and ending them.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call, login, object};
use crate::crypto::auth_key::KeyId;
use crate::crypto::random;
use crate::state::World;
use crate::state::fault::RpcError;
use crate::state::key::Key;
use crate::state::user::UserId;
use crate::state::world::machine_now;
use crate::tl::Reader;

/// What an ended login's calls get from now on.
const REVOKED: &str = "SESSION_REVOKED";
/// Days after which Telegram ends an unused login by default.
const TTL_DAYS: i32 = 180;

/// Whose entry in the list of logins it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Current,
    Another,
}

pub(super) fn log_out(world: &mut World, call: &Call) -> Answer {
    let key = world.keys.get(&call.key).ok_or_else(super::unregistered)?;
    let user = key.user.or(key.pending_2fa).ok_or_else(super::unregistered)?;
    world.log_out(call.key);
    let token = random::<32>().to_vec();
    if let Some(user) = world.users.get_mut(&user).filter(|user| !user.is_bot) {
        user.keep_logout_token(token.clone());
    }
    let out = types::auth::LoggedOut { future_auth_token: Some(token) };
    Ok(enums::auth::LoggedOut::Out(out).to_bytes())
}

/// The home-DC logins of an account that still live.
fn logins(world: &World, user: UserId) -> impl Iterator<Item = &Key> {
    world.keys.values().filter(move |key| {
        key.user == Some(user) && key.root.is_none() && key.broken.is_none() && key.temporary.is_none()
    })
}

pub(super) fn authorization(key: &Key, whose: Whose) -> enums::Authorization {
    let init = key.init.clone().unwrap_or_default();
    let current = whose == Whose::Current;
    enums::Authorization::Authorization(types::Authorization {
        current,
        official_app: false,
        password_pending: false,
        encrypted_requests_disabled: false,
        call_requests_disabled: false,
        unconfirmed: false,
        hash: if current { 0 } else { key.authorization },
        device_model: init.device_model,
        platform: String::new(),
        system_version: init.system_version,
        api_id: init.api_id,
        app_name: "sandbox client".to_owned(),
        app_version: init.app_version,
        date_created: key.logged_in.unwrap_or(key.created) as i32,
        date_active: key.last_active as i32,
        ip: key.ips.iter().next_back().map(ToString::to_string).unwrap_or_default(),
        country: "Loopback".to_owned(),
        region: String::new(),
    })
}

pub(super) fn authorizations(world: &World, call: &Call) -> Answer {
    let user = login(world, call)?;
    let own = home_key(world, call);
    let mut keys: Vec<&Key> = logins(world, user).collect();
    keys.sort_by_key(|key| key.id() != own);
    let authorizations = keys
        .into_iter()
        .map(|key| authorization(key, if key.id() == own { Whose::Current } else { Whose::Another }))
        .collect();
    let list = types::account::Authorizations { authorization_ttl_days: TTL_DAYS, authorizations };
    Ok(enums::account::Authorizations::Authorizations(list).to_bytes())
}

/// The login behind a key, which may be a copy of it at another DC.
fn home_key(world: &World, call: &Call) -> KeyId {
    world.keys.get(&call.key).and_then(|key| key.root).unwrap_or(call.key)
}

fn old_enough(world: &World, call: &Call) -> Result<(), RpcError> {
    let since = world.keys.get(&call.key).and_then(|key| key.logged_in).unwrap_or_default();
    if machine_now() - since < f64::from(world.settings.fresh_reset) {
        return Err(RpcError::new(406, "FRESH_RESET_AUTHORISATION_FORBIDDEN"));
    }
    Ok(())
}

pub(super) fn reset_authorization(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let user = login(world, call)?;
    let hash = r.i64()?;
    let own = home_key(world, call);
    let found = logins(world, user).find(|key| key.authorization == hash && key.id() != own).map(Key::id);
    let found = found.ok_or_else(|| RpcError::new(400, "HASH_INVALID"))?;
    old_enough(world, call)?;
    world.break_login(found, REVOKED);
    Ok(object::boolean(true))
}

pub(super) fn reset_authorizations(world: &mut World, call: &Call) -> Answer {
    let user = login(world, call)?;
    old_enough(world, call)?;
    let own = home_key(world, call);
    let others: Vec<KeyId> = logins(world, user).map(Key::id).filter(|key| *key != own).collect();
    others.into_iter().for_each(|key| world.break_login(key, REVOKED));
    Ok(object::boolean(true))
}

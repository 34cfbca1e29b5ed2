//! Taking a login to another DC.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call, login, object};
use crate::crypto::random;
use crate::state::World;
use crate::state::fault::RpcError;
use crate::state::world::Exported;
use crate::tl::Reader;

/// Exports kept at a time; the oldest goes first.
const EXPORTED_MAX: usize = 1000;

pub(super) fn export(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let user = login(world, call)?;
    let dc = r.i32()?;
    if dc == call.dc || !world.dcs.contains_key(&dc) {
        return Err(RpcError::new(400, "DC_ID_INVALID"));
    }
    let bytes = random::<96>().to_vec();
    let root = world.keys.get(&call.key).and_then(|key| key.root).unwrap_or(call.key);
    if world.exported.len() == EXPORTED_MAX {
        world.exported.pop_front();
    }
    world.exported.push_back(Exported { user, root, dc, bytes: bytes.clone() });
    let exported = types::auth::ExportedAuthorization { id: user, bytes };
    Ok(enums::auth::ExportedAuthorization::Authorization(exported).to_bytes())
}

pub(super) fn import(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (id, bytes) = (r.i64()?, r.bytes()?);
    let fits = |e: &Exported| e.user == id && e.bytes == bytes && e.dc == call.dc;
    let at = world.exported.iter().position(fits);
    let exported = at.and_then(|at| world.exported.remove(at));
    let exported = exported.ok_or_else(|| RpcError::new(400, "AUTH_BYTES_INVALID"))?;
    if world.keys.get(&exported.root).is_none_or(|root| root.user != Some(id)) {
        return Err(RpcError::new(400, "AUTH_BYTES_INVALID"));
    }
    world.log_in(call.key, exported.user, Some(exported.root));
    object::authorization(world, call.key, exported.user)
}

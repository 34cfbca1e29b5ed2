//! The two-step password.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call, Reply, object, unregistered};
use crate::crypto::group::{GENERATOR, PRIME};
use crate::crypto::random;
use crate::crypto::srp::{Challenge, Verifier};
use crate::state::World;
use crate::state::fault::RpcError;
use crate::state::user::UserId;
use crate::tl::Reader;

const INPUT_CHECK_PASSWORD_EMPTY: u32 = 0x9880_f658;
const INPUT_CHECK_PASSWORD_SRP: u32 = 0xd27f_f082;

/// Who is asked for the password: the one that logs in, or the one that is in.
fn subject(world: &World, call: &Call) -> Result<UserId, RpcError> {
    let key = world.keys.get(&call.key).ok_or_else(unregistered)?;
    key.pending_2fa.or(key.user).ok_or_else(unregistered)
}

pub(super) fn question(world: &World, call: &Call) -> Result<Reply, RpcError> {
    let user = world.users.get(&subject(world, call)?).ok_or_else(unregistered)?;
    let hint = user.hint.clone();
    let Some(verifier) = user.password.clone() else { return Ok(Reply::Now(object_of(None, hint))) };
    Ok(Reply::Later(Box::new(move || {
        let challenge = Challenge::new(&verifier);
        Box::new(move |world, call| {
            let body = object_of(Some((&verifier, &challenge)), hint);
            world.keys.get_mut(&call.key).ok_or_else(unregistered)?.ask(challenge);
            Ok(body)
        })
    })))
}

fn algorithm(salt1: Vec<u8>, salt2: Vec<u8>) -> enums::PasswordKdfAlgo {
    types::PasswordKdfAlgoSha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow {
        salt1,
        salt2,
        g: GENERATOR as i32,
        p: PRIME.to_vec(),
    }
    .into()
}

fn object_of(current: Option<(&Verifier, &Challenge)>, hint: Option<String>) -> Vec<u8> {
    let secure = types::SecurePasswordKdfAlgoPbkdf2Hmacsha512iter100000 { salt: random::<8>().to_vec() };
    let password = types::account::Password {
        has_recovery: false,
        has_secure_values: false,
        has_password: current.is_some(),
        current_algo: current.map(|(v, _)| algorithm(v.salt1.clone(), v.salt2.clone())),
        srp_b: current.map(|(_, challenge)| challenge.b_public.to_vec()),
        srp_id: current.map(|(_, challenge)| challenge.srp_id),
        hint: hint.filter(|_| current.is_some()),
        email_unconfirmed_pattern: None,
        new_algo: algorithm(random::<8>().to_vec(), random::<16>().to_vec()),
        new_secure_algo: secure.into(),
        secure_random: random::<256>().to_vec(),
        pending_reset_date: None,
        login_email_pattern: None,
    };
    enums::account::Password::Password(password).to_bytes()
}

pub(super) fn check(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Result<Reply, RpcError> {
    let user = subject(world, call)?;
    let has_password = world.users.get(&user).is_some_and(|user| user.password.is_some());
    match r.u32()? {
        INPUT_CHECK_PASSWORD_EMPTY if !has_password => admit(world, call, user).map(Reply::Now),
        INPUT_CHECK_PASSWORD_SRP if has_password => {
            let (srp_id, a, m1) = (r.i64()?, r.bytes()?.to_vec(), r.bytes()?.to_vec());
            let key = world.keys.get_mut(&call.key).ok_or_else(unregistered)?;
            let asked = key.challenges.iter().find(|challenge| challenge.srp_id == srp_id).cloned();
            let challenge = asked.ok_or_else(|| RpcError::new(400, "SRP_ID_INVALID"))?;
            Ok(Reply::Later(Box::new(move || {
                let proven = challenge.proves(&a, &m1);
                Box::new(move |world, call| if proven { admit(world, call, user) } else { Err(wrong()) })
            })))
        }
        _ => Err(wrong()),
    }
}

fn wrong() -> RpcError {
    RpcError::new(400, "PASSWORD_HASH_INVALID")
}

fn admit(world: &mut World, call: &Call, user: UserId) -> Answer {
    let key = world.keys.get_mut(&call.key).ok_or_else(unregistered)?;
    key.challenges.clear();
    let pending = key.pending_2fa == Some(user);
    if !pending && key.user != Some(user) {
        return Err(unregistered());
    }
    if pending {
        world.log_in(call.key, user, None);
    }
    object::authorization(world, call.key, user)
}

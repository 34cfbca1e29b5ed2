//! Login by phone number and code.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call, object, sign_in as finish_sign_in};
use crate::crypto::random;
use crate::state::World;
use crate::state::code::{CODES_MAX, SentCode};
use crate::state::fault::RpcError;
use crate::state::user::UserId;
use crate::tl::{Reader, Writer};

const CODE_SETTINGS: u32 = 0xad25_3d78;
const SENT_CODE_SUCCESS: u32 = 0x2390_fe44;
const SIGN_UP_REQUIRED: u32 = 0x4474_7e9a;
/// Digits of a phone number with country code.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 5..=15;
/// After this many resends there is no other way left to deliver a code.
const RESENDS_MAX: u32 = 2;

/// A phone number reduced to its digits.
pub(crate) fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

fn error(name: &str) -> RpcError {
    RpcError::new(400, name)
}

fn account_of(world: &World, phone: &str) -> Option<UserId> {
    world.users.values().find(|user| user.phone.as_deref() == Some(phone)).map(|user| user.id)
}

pub(super) fn send_code(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (phone, api_id, _api_hash) = (digits(&r.string()?), r.i32()?, r.bytes()?);
    let logout_tokens = settings(r)?;
    if api_id <= 0 {
        return Err(error("API_ID_INVALID"));
    }
    if !PHONE_DIGITS.contains(&phone.len()) {
        return Err(error("PHONE_NUMBER_INVALID"));
    }
    let user = account_of(world, &phone);
    if let Some(found) = user.and_then(|user| world.users.get(&user)) {
        if found.dc != call.dc {
            return Err(RpcError::new(303, format!("PHONE_MIGRATE_{}", found.dc)));
        }
        match found.state.as_deref() {
            Some(state) if state.starts_with("USER_DEACTIVATED") => return Err(error("PHONE_NUMBER_BANNED")),
            Some(state) => return Err(RpcError::parse(state).unwrap_or_else(super::unregistered)),
            None => {}
        }
    }
    if let Some(user) = user.filter(|user| spend_logout_token(world, *user, &logout_tokens)) {
        let authorization = finish_sign_in(world, call, user)?;
        return Ok(Writer::boxed(SENT_CODE_SUCCESS).raw(&authorization).finish());
    }
    let now = world.now();
    world.codes.retain(|code| code.until > now && !(code.phone == phone && code.key == call.key));
    if world.codes.len() == CODES_MAX {
        world.codes.pop_front();
    }
    let code = SentCode {
        code: new_code(world),
        hash: hex::encode(random::<9>()),
        until: now + i64::from(world.settings.code_ttl),
        tries: world.settings.code_tries,
        key: call.key,
        resends: 0,
        phone,
    };
    if let Some(user) = user {
        tell_other_logins(world, user, &code.code);
    }
    let answer = sent(&code, world.settings.resend_after);
    world.codes.push_back(code);
    Ok(answer)
}

/// Reads `codeSettings` as far as the tokens of earlier log-outs.
fn settings(r: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, RpcError> {
    if r.u32()? != CODE_SETTINGS {
        return Err(error("INPUT_FETCH_ERROR"));
    }
    let flags = r.u32()?;
    Ok(if flags & 1 << 6 != 0 { r.byte_strings()? } else { Vec::new() })
}

fn spend_logout_token(world: &mut World, user: UserId, tokens: &[Vec<u8>]) -> bool {
    let Some(found) = world.users.get_mut(&user) else { return false };
    let before = found.logout_tokens.len();
    found.logout_tokens.retain(|token| !tokens.contains(token));
    let spent = found.logout_tokens.len() < before;
    if spent {
        world.changed();
    }
    spent
}

fn new_code(world: &World) -> String {
    if world.settings.code.is_empty() {
        format!("{:05}", u32::from_le_bytes(random()) % 100_000)
    } else {
        world.settings.code.clone()
    }
}

/// Codes arrive in the apps where the account is logged in.
fn tell_other_logins(world: &mut World, user: UserId, code: &str) {
    let now = world.now();
    let Some(found) = world.users.get_mut(&user) else { return };
    let update = object::message_update(&format!("Login code: {code}"), found.next_pts(), now);
    world.push_to_user(user, "updateShortMessage", &update);
}

fn sent(code: &SentCode, resend_after: u32) -> Vec<u8> {
    let length = code.code.len() as i32;
    let r#type = if code.resends == 0 {
        enums::auth::SentCodeType::App(types::auth::SentCodeTypeApp { length })
    } else {
        enums::auth::SentCodeType::Sms(types::auth::SentCodeTypeSms { length })
    };
    let more = code.resends < RESENDS_MAX;
    let sent = types::auth::SentCode {
        r#type,
        phone_code_hash: code.hash.clone(),
        next_type: more.then_some(enums::auth::CodeType::Sms),
        timeout: more.then_some(i32::try_from(resend_after).unwrap_or(i32::MAX)),
    };
    enums::auth::SentCode::Code(sent).to_bytes()
}

/// The place of a code that this key asked for and that still lives.
fn find(world: &World, call: &Call, phone: &str, hash: &str) -> Result<usize, RpcError> {
    let now = world.now();
    let fits = |code: &SentCode| code.phone == phone && code.hash == hash && code.key == call.key;
    let at = world.codes.iter().position(fits).ok_or_else(|| error("PHONE_CODE_EXPIRED"))?;
    if world.codes[at].until <= now { Err(error("PHONE_CODE_EXPIRED")) } else { Ok(at) }
}

pub(super) fn resend_code(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (_flags, phone, hash) = (r.u32()?, digits(&r.string()?), r.string()?);
    let at = find(world, call, &phone, &hash)?;
    if world.codes[at].resends >= RESENDS_MAX {
        return Err(RpcError::new(406, "SEND_CODE_UNAVAILABLE"));
    }
    let (code, until) = (new_code(world), world.now() + i64::from(world.settings.code_ttl));
    let resend_after = world.settings.resend_after;
    let found = &mut world.codes[at];
    found.code = code;
    found.until = until;
    found.resends += 1;
    Ok(sent(found, resend_after))
}

pub(super) fn cancel_code(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (phone, hash) = (digits(&r.string()?), r.string()?);
    let at = find(world, call, &phone, &hash)?;
    world.codes.remove(at);
    Ok(object::boolean(true))
}

pub(super) fn sign_in(world: &mut World, call: &Call, r: &mut Reader<'_>) -> Answer {
    let (flags, phone, hash) = (r.u32()?, digits(&r.string()?), r.string()?);
    let code = if flags & 1 != 0 { r.string()? } else { String::new() };
    if code.is_empty() {
        return Err(error("PHONE_CODE_EMPTY"));
    }
    let at = find(world, call, &phone, &hash)?;
    if world.codes[at].code != code {
        world.codes[at].tries -= 1;
        if world.codes[at].tries == 0 {
            world.codes.remove(at);
        }
        return Err(error("PHONE_CODE_INVALID"));
    }
    world.codes.remove(at);
    match account_of(world, &phone) {
        Some(user) => finish_sign_in(world, call, user),
        None => Ok(Writer::boxed(SIGN_UP_REQUIRED).u32(0).finish()),
    }
}

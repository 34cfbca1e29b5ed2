//! API calls: from the bytes of a request to its answer.
//!
//! A call walks through stages: an ordered fault, lasting errors of its key or account, parallel connections, the
//! method itself. What cannot be done at once is handed back as a [`Step`] and continued by the connection's task.

mod account;
mod binding;
mod bot;
mod dispatch;
mod help;
mod messages;
mod object;
mod password;
mod phone;
mod qr;
mod transfer;
mod unwrap;
mod updates;
mod users;

use std::fmt;
use std::time::{Duration, Instant};

use crate::crypto::auth_key::KeyId;
use crate::state::World;
use crate::state::fault::{self, Action, Fault, RpcError};
use crate::state::journal::Kind;
use crate::state::key::Broken;
use crate::state::transmit::Address;
use crate::state::user::UserId;
use crate::tl::Malformed;

pub(crate) use object::{message_update, status_update, token_update};
pub(crate) use phone::digits;
pub(crate) use qr::scan;

/// The result of a method: an object, or an error.
pub(crate) type Answer = Result<Vec<u8>, RpcError>;
/// What follows CPU work, back under the lock.
pub(crate) type Finish = Box<dyn FnOnce(&mut World, &Call) -> Answer + Send>;
/// CPU work for a blocking thread.
pub(crate) type Job = Box<dyn FnOnce() -> Finish + Send>;

impl From<Malformed> for RpcError {
    fn from(_: Malformed) -> Self {
        Self::new(400, "INPUT_FETCH_ERROR")
    }
}

/// What a method comes to.
pub(crate) enum Reply {
    Now(Vec<u8>),
    Later(Job),
}

/// An API call on its way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) to: Address,
    /// The permanent key it belongs to.
    pub(crate) key: KeyId,
    pub(crate) dc: i32,
    pub(crate) msg_id: i64,
    pub(crate) name: String,
    method: u32,
    args: Vec<u8>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Arrived,
    Faulted(Option<Action>),
    Gate { since: Option<Instant> },
}

/// What a call needs next.
pub(crate) enum Step {
    Answer(Answer),
    Silent,
    Close,
    Sleep(Duration),
    /// Wait until another connection ends, at most so long.
    AwaitRivals(Duration),
    Compute(Job),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer(_) => "Answer",
            Self::Silent => "Silent",
            Self::Close => "Close",
            Self::Sleep(_) => "Sleep",
            Self::AwaitRivals(_) => "AwaitRivals",
            Self::Compute(_) => "Compute",
        })
    }
}

/// Reads a request and notes what its wrappers tell about the client.
pub(crate) fn accept(
    world: &mut World,
    to: Address,
    key: KeyId,
    msg_id: i64,
    body: &[u8],
) -> Result<Call, RpcError> {
    world.journal.counters.rpc_calls += 1;
    let request = unwrap::unwrap(body).inspect_err(|_| {
        world.journal.counters.rpc_errors += 1;
        world.record(to.conn, Kind::Rpc, "unreadable", "INPUT_FETCH_ERROR");
    })?;
    if let Some(found) = world.keys.get_mut(&key) {
        let told = (request.layer.is_some() && request.layer != found.layer)
            || (request.init.is_some() && request.init != found.init);
        found.layer = request.layer.or(found.layer);
        found.init = request.init.or(found.init.take());
        if told {
            world.changed();
        }
    }
    if let Some(found) = world.keys.get_mut(&to.key) {
        let (session, _) = found.session(to.session);
        session.running.insert(msg_id);
        session.wants_updates |= request.updates;
    }
    let dc = world.conns.get_mut(&to.conn).map_or(0, |conn| {
        conn.requests += 1;
        conn.dc
    });
    let name = dispatch::name(request.method);
    Ok(Call { to, key, dc, msg_id, name, method: request.method, args: request.args, stage: Stage::Arrived })
}

/// Takes a call as far as it gets without waiting.
pub(crate) fn advance(world: &mut World, call: &mut Call) -> Step {
    loop {
        match &mut call.stage {
            Stage::Arrived => {
                let fault = order_for(world, call);
                let delay = fault.as_ref().map(|fault| fault.delay).filter(|delay| !delay.is_zero());
                call.stage = Stage::Faulted(fault.and_then(|fault| fault.action));
                if let Some(delay) = delay {
                    return Step::Sleep(delay);
                }
            }
            Stage::Faulted(action) => match action.take() {
                None => call.stage = Stage::Gate { since: None },
                Some(Action::Error(error)) => return Step::Answer(Err(error)),
                Some(Action::Silent) => {
                    if let Some(key) = world.keys.get_mut(&call.to.key) {
                        key.session(call.to.session).0.running.remove(&call.msg_id);
                    }
                    world.record(call.to.conn, Kind::Rpc, &call.name, "silent");
                    return Step::Silent;
                }
                Some(Action::Drop) => {
                    world.record(call.to.conn, Kind::Rpc, &call.name, "dropped");
                    return Step::Close;
                }
            },
            Stage::Gate { since } => {
                let since = *since.get_or_insert_with(Instant::now);
                if let Err(error) = gate(world, call) {
                    return Step::Answer(Err(error));
                }
                let rivals = world.rivals(call.to.conn, call.key);
                if !rivals.is_empty() {
                    let grace = Duration::from_millis(u64::from(world.settings.dup_grace_ms));
                    let left = grace.saturating_sub(since.elapsed());
                    if !left.is_zero() {
                        return Step::AwaitRivals(left);
                    }
                    world.kill_duplicated(call.to.conn, &rivals, call.key);
                    return Step::Answer(Err(RpcError::new(406, "AUTH_KEY_DUPLICATED")));
                }
                return match dispatch::dispatch(world, call) {
                    Ok(Reply::Now(body)) => Step::Answer(Ok(body)),
                    Ok(Reply::Later(job)) => Step::Compute(job),
                    Err(error) => Step::Answer(Err(error)),
                };
            }
        }
    }
}

/// Notes the end of a call; false if the client no longer wants the answer.
pub(crate) fn settle(world: &mut World, call: &Call, answer: &Answer) -> bool {
    let result = match answer {
        Ok(_) => "ok",
        Err(error) => {
            world.journal.counters.rpc_errors += 1;
            &error.name
        }
    };
    world.record(call.to.conn, Kind::Rpc, &call.name, result);
    let Some(key) = world.keys.get_mut(&call.to.key) else { return false };
    key.session(call.to.session).0.running.remove(&call.msg_id)
}

fn order_for(world: &mut World, call: &Call) -> Option<Fault> {
    let user = world.keys.get(&call.key).and_then(|key| key.user.or(key.pending_2fa));
    let fault = fault::take(&mut world.faults, &call.name, Some(call.key), user)?;
    world.journal.counters.faults += 1;
    Some(fault)
}

/// Lasting errors of the key and of its account.
fn gate(world: &World, call: &Call) -> Result<(), RpcError> {
    let key = world.keys.get(&call.key).ok_or_else(unregistered)?;
    if let Some(Broken::Error(name)) = &key.broken {
        return Err(RpcError::parse(name).unwrap_or_else(unregistered));
    }
    if key.temporary.is_some() && !call.name.ends_with("bindTempAuthKey") {
        return Err(RpcError::new(401, "AUTH_KEY_PERM_EMPTY"));
    }
    if key.layer.is_none() && !call.name.ends_with("bindTempAuthKey") {
        return Err(RpcError::new(400, "CONNECTION_NOT_INITED"));
    }
    let state = world.user_of(call.key).and_then(|user| user.state.as_deref());
    match state.filter(|_| !call.name.starts_with("help.")) {
        Some(state) => Err(RpcError::parse(state).unwrap_or_else(unregistered)),
        None => Ok(()),
    }
}

fn unregistered() -> RpcError {
    RpcError::new(401, "AUTH_KEY_UNREGISTERED")
}

/// The account that makes a call which only logged-in clients may make.
fn login(world: &World, call: &Call) -> Result<UserId, RpcError> {
    let key = world.keys.get(&call.key).ok_or_else(unregistered)?;
    if key.pending_2fa.is_some() {
        return Err(RpcError::new(401, "SESSION_PASSWORD_NEEDED"));
    }
    let user = world.user_of(call.key).ok_or_else(unregistered)?;
    Ok(user.id)
}

/// Logs the calling key in as an account whose identity is proven up to the password.
fn sign_in(world: &mut World, call: &Call, user: UserId) -> Answer {
    let found = world.users.get(&user).ok_or_else(|| RpcError::new(400, "USER_ID_INVALID"))?;
    if let Some(state) = &found.state {
        return Err(RpcError::parse(state).unwrap_or_else(unregistered));
    }
    if found.password.is_some() {
        if let Some(key) = world.keys.get_mut(&call.key) {
            key.log_out();
            key.pending_2fa = Some(user);
        }
        world.changed();
        return Err(RpcError::new(401, "SESSION_PASSWORD_NEEDED"));
    }
    world.log_in(call.key, user, None);
    object::authorization(world, call.key, user)
}

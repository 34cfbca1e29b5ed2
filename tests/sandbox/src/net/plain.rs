//! Plain messages: the key exchange of a connection.

use std::sync::Arc;

use crate::crypto::exchange::{self, Exchange, Refusal, Server, Step};
use crate::shared::Shared;
use crate::state::connection::ConnId;
use crate::state::journal::Kind;
use crate::state::key::{Key, Temporary};
use crate::state::world::{KEYS_MAX, machine_now};
use crate::tl::{Malformed, Reader, Writer};
use crate::transport::Outbound;

/// Transport codes.
const UNKNOWN: i32 = -404;
const FLOOD: i32 = -429;
const WRONG_DC: i32 = -444;

/// Takes a plain packet.
///
/// # Errors
/// The transport code after which the connection ends.
pub(super) async fn receive(
    shared: &Arc<Shared>,
    conn: ConnId,
    dc: i32,
    state: &mut Option<Exchange>,
    packet: &[u8],
) -> Result<(), i32> {
    let body = body_of(packet).map_err(|Malformed| UNKNOWN)?.to_vec();
    let name = exchange::name_of(&body);
    let now = shared.world().now() as i32;
    let (taken, own) = (state.take(), shared.clone());
    let step = shared
        .compute(move || exchange::advance(Server { rsa: &own.rsa, dc, now }, taken, &body))
        .await
        .unwrap_or(Err(Refusal::Unknown));
    let (answer, result) = match step {
        Ok(step) => conclude(shared, dc, state, step)?,
        Err(refusal) => {
            let code = match refusal {
                Refusal::Unknown => UNKNOWN,
                Refusal::WrongDc => WRONG_DC,
            };
            shared.world().record(conn, Kind::Handshake, name, &code.to_string());
            return Err(code);
        }
    };
    let mut world = shared.world();
    world.record(conn, Kind::Handshake, name, result);
    let msg_id = world.next_msg_id(1);
    let packet = Writer::new().i64(0).i64(msg_id).u32(answer.len() as u32).raw(&answer).finish();
    world.queue(conn, Outbound::Packet(packet));
    Ok(())
}

fn body_of(packet: &[u8]) -> Result<&[u8], Malformed> {
    let mut r = Reader::new(packet);
    let (_key, _msg_id, len) = (r.i64()?, r.i64()?, r.u32()?);
    r.take(len as usize)
}

fn conclude(
    shared: &Shared,
    dc: i32,
    state: &mut Option<Exchange>,
    step: Step,
) -> Result<(Vec<u8>, &'static str), i32> {
    match step {
        Step::Next { answer, exchange } => {
            *state = Some(exchange);
            Ok((answer, "ok"))
        }
        Step::End { answer } => Ok((answer, "fail")),
        Step::Agreed(agreed) => {
            let mut world = shared.world();
            if world.keys.len() >= KEYS_MAX {
                return Err(FLOOD);
            }
            if world.keys.contains_key(&agreed.key.id()) {
                drop(world);
                return conclude(shared, dc, state, agreed.retry());
            }
            let mut key = Key::new(agreed.key.clone(), dc, agreed.first_salt, machine_now());
            let expires = agreed.expires_in.map(|seconds| world.now() + i64::from(seconds));
            key.temporary = expires.map(|expires| Temporary { expires, bound_to: None });
            world.keys.insert(key.id(), key);
            world.journal.counters.handshakes += 1;
            world.changed();
            drop(world);
            shared.note_changes();
            Ok((agreed.commit(), "ok"))
        }
    }
}

//! Messages of the session layer that are no API calls.

use std::time::{Duration, Instant};

use super::{Message, Turn};
use crate::state::connection::Closing;
use crate::state::journal::Kind;
use crate::state::key::Broken;
use crate::state::transmit::Outgoing;
use crate::tl::{Malformed, Reader, Writer, id};

/// The longest time that `ping_delay_disconnect` may ask for, in seconds.
const DISCONNECT_DELAY_MAX: i32 = 3600;

/// What `msgs_state_info` says of one message number.
const STATE_UNKNOWN: u8 = 1;
const STATE_RECEIVED: u8 = 4;

impl Turn<'_> {
    /// Handles a service message; false if it is none.
    pub(super) fn service(
        &mut self,
        message: Message<'_>,
        constructor: u32,
        mut r: Reader<'_>,
    ) -> Result<bool, Malformed> {
        let name = match constructor {
            // Some clients number acknowledgements as if they were content; Telegram lets it pass.
            id::MSGS_ACK => {
                self.acknowledged(&r.longs()?);
                "msgs_ack"
            }
            id::PING => {
                self.pong(message.msg_id, r.i64()?);
                "ping"
            }
            id::PING_DELAY_DISCONNECT => {
                let ping_id = r.i64()?;
                let delay = r.i32()?.clamp(1, DISCONNECT_DELAY_MAX).unsigned_abs();
                if let Some(conn) = self.world.conns.get_mut(&self.to.conn) {
                    conn.disconnect_at = Some(Instant::now() + Duration::from_secs(u64::from(delay)));
                }
                self.pong(message.msg_id, ping_id);
                "ping_delay_disconnect"
            }
            id::GET_FUTURE_SALTS => {
                self.future_salts(message.msg_id, r.i32()?);
                "get_future_salts"
            }
            id::MSGS_STATE_REQ | id::MSG_RESEND_ANS_REQ => {
                self.message_states(message.msg_id, &r.longs()?);
                "msgs_state_req"
            }
            id::MSG_RESEND_REQ => {
                self.resend(message.msg_id, &r.longs()?);
                "msg_resend_req"
            }
            id::RPC_DROP_ANSWER => {
                self.drop_answer(message.msg_id, r.i64()?);
                "rpc_drop_answer"
            }
            id::DESTROY_SESSION => {
                self.destroy_session(r.i64()?);
                "destroy_session"
            }
            id::DESTROY_AUTH_KEY => {
                self.destroy_auth_key(message.msg_id);
                "destroy_auth_key"
            }
            id::MSGS_STATE_INFO | id::MSGS_ALL_INFO => "msgs_state_info",
            id::HTTP_WAIT => "http_wait",
            _ => return Ok(false),
        };
        self.world.record(self.to.conn, Kind::Service, name, "ok");
        Ok(true)
    }

    fn acknowledged(&mut self, msg_ids: &[i64]) {
        if let Some(key) = self.world.keys.get_mut(&self.to.key) {
            key.session(self.to.session).0.acknowledged(msg_ids);
        }
    }

    fn pong(&mut self, msg_id: i64, ping_id: i64) {
        self.out.push(Outgoing::Notice(Writer::boxed(id::PONG).i64(msg_id).i64(ping_id).finish()));
    }

    fn future_salts(&mut self, msg_id: i64, wanted: i32) {
        let (now, ttl) = (self.world.now(), self.world.settings.salt_ttl);
        let Some(key) = self.world.keys.get(&self.to.key) else { return };
        let salts = key.future_salts(wanted, now, ttl);
        // A bare vector of bare items: no constructors inside.
        let head = Writer::boxed(id::FUTURE_SALTS).i64(msg_id).i32(now as i32).u32(salts.len() as u32);
        let body = salts
            .into_iter()
            .fold(head, |w, (since, until, salt)| w.i32(since as i32).i32(until as i32).i64(salt))
            .finish();
        self.out.push(Outgoing::Notice(body));
    }

    fn message_states(&mut self, msg_id: i64, asked: &[i64]) {
        let Some(key) = self.world.keys.get_mut(&self.to.key) else { return };
        let (session, _) = key.session(self.to.session);
        let states: Vec<u8> = asked
            .iter()
            .map(|asked| if session.knows(*asked) { STATE_RECEIVED } else { STATE_UNKNOWN })
            .collect();
        let body = Writer::boxed(id::MSGS_STATE_INFO).i64(msg_id).bytes(&states).finish();
        self.out.push(Outgoing::Notice(body));
    }

    fn resend(&mut self, msg_id: i64, asked: &[i64]) {
        let Some(key) = self.world.keys.get_mut(&self.to.key) else { return };
        let (session, _) = key.session(self.to.session);
        let copies: Vec<Outgoing> =
            asked.iter().filter_map(|asked| session.sent(*asked).cloned()).map(Outgoing::Copy).collect();
        if copies.len() < asked.len() {
            self.message_states(msg_id, asked);
        }
        self.out.extend(copies);
    }

    fn drop_answer(&mut self, msg_id: i64, request: i64) {
        let Some(key) = self.world.keys.get_mut(&self.to.key) else { return };
        let (session, _) = key.session(self.to.session);
        let verdict = if session.running.remove(&request) {
            Writer::boxed(id::RPC_ANSWER_DROPPED_RUNNING)
        } else if let Some(sent) = session.drop_answer(request) {
            Writer::boxed(id::RPC_ANSWER_DROPPED).i64(sent.msg_id).i32(sent.seqno).u32(sent.body.len() as u32)
        } else {
            Writer::boxed(id::RPC_ANSWER_UNKNOWN)
        };
        let body = Writer::boxed(id::RPC_RESULT).i64(msg_id).raw(&verdict.finish()).finish();
        self.out.push(Outgoing::Answer { request: msg_id, body });
    }

    fn destroy_session(&mut self, session: i64) {
        let Some(key) = self.world.keys.get_mut(&self.to.key) else { return };
        // The session that asks stays: it carries the answer.
        let known = session != self.to.session && key.destroy_session(session);
        let verdict = if known { id::DESTROY_SESSION_OK } else { id::DESTROY_SESSION_NONE };
        self.out.push(Outgoing::Notice(Writer::boxed(verdict).i64(session).finish()));
    }

    fn destroy_auth_key(&mut self, msg_id: i64) {
        let verdict = Writer::boxed(id::DESTROY_AUTH_KEY_OK).finish();
        let body = Writer::boxed(id::RPC_RESULT).i64(msg_id).raw(&verdict).finish();
        // The answer is still encrypted with the key, so it goes out before the key does.
        let answer = vec![Outgoing::Answer { request: msg_id, body }];
        self.world.transmit(self.to, answer);
        self.world.log_out(self.to.key);
        if let Some(key) = self.world.keys.get_mut(&self.to.key) {
            key.broken = Some(Broken::Forgotten);
        }
        if let Some(conn) = self.world.conns.get_mut(&self.to.conn) {
            conn.shut(Closing::Orderly, "key destroyed");
        }
        self.world.changed();
    }
}

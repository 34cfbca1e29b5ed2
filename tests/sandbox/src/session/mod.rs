//! The session layer: from a decrypted packet to service answers and API calls.

mod service;
mod unpack;

use crate::crypto::auth_key::KeyId;
use crate::crypto::envelope;
use crate::rpc::{self, Call, Step};
use crate::state::World;
use crate::state::connection::ConnId;
use crate::state::journal::Kind;
use crate::state::session::Arrival;
use crate::state::transmit::{Address, Outgoing};
use crate::tl::{Malformed, Reader, Writer, id};

pub(crate) use unpack::inflate;

/// Transport code for a key that the server does not know.
pub(crate) const UNKNOWN_KEY: i32 = -404;
/// Message numbers may be so far behind the server's clock, in seconds.
const BEHIND_MAX: i64 = 300;
/// And so far ahead of it.
const AHEAD_MAX: i64 = 30;
/// Messages in a container, as at Telegram.
const CONTAINER_MAX: usize = 1020;
/// API calls of one connection that may wait for their answers at a time.
pub(crate) const PENDING_MAX: usize = 128;

/// Why a packet ends its connection: with a transport code, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Code(i32),
    Close(&'static str),
}

/// A call that cannot be answered at once, and what it waits for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) call: Box<Call>,
    pub(crate) step: Step,
}

/// The handling of one packet.
struct Turn<'w> {
    world: &'w mut World,
    to: Address,
    /// The permanent key behind the one that encrypted the packet.
    perm: KeyId,
    out: Vec<Outgoing>,
    pending: Vec<Pending>,
    acks: Vec<i64>,
    refused: Option<Refused>,
}

/// One message of a packet.
#[derive(Debug, Clone, Copy)]
struct Message<'a> {
    msg_id: i64,
    seqno: i32,
    body: &'a [u8],
}

/// Takes an encrypted packet: sends what can be answered at once and hands back the calls that need time.
pub(crate) fn receive(world: &mut World, conn: ConnId, packet: &[u8]) -> Result<Vec<Pending>, Refused> {
    let wire_key = envelope::key_of(packet).map_err(|_| Refused::Code(UNKNOWN_KEY))?;
    let now = world.now();
    let key = world.keys.get(&wire_key).filter(|key| !key.forgotten());
    let expired = |temp: &crate::state::key::Temporary| temp.expires <= now;
    let Some(key) = key.filter(|key| !key.temporary.as_ref().is_some_and(expired)) else {
        return Err(Refused::Code(UNKNOWN_KEY));
    };
    let perm = key.temporary.as_ref().and_then(|temp| temp.bound_to).unwrap_or(wire_key);
    if world.conns.get(&conn).is_none_or(|conn| conn.dc != key.dc) {
        return Err(Refused::Code(UNKNOWN_KEY));
    }
    if world.keys.get(&perm).is_none_or(crate::state::key::Key::forgotten) {
        return Err(Refused::Code(UNKNOWN_KEY));
    }
    let opened = envelope::open(&key.auth, packet).map_err(|_| Refused::Close("packet does not decrypt"))?;
    attach(world, conn, wire_key, perm, opened.session);
    let to = Address { conn, key: wire_key, session: opened.session };
    let mut turn =
        Turn { world, to, perm, out: Vec::new(), pending: Vec::new(), acks: Vec::new(), refused: None };
    turn.packet(opened.salt, Message { msg_id: opened.msg_id, seqno: opened.seqno, body: &opened.body });
    turn.finish()
}

/// Ties a connection to the key and session that a packet names.
fn attach(world: &mut World, conn: ConnId, wire_key: KeyId, perm: KeyId, session: i64) {
    let Some(found) = world.conns.get_mut(&conn) else { return };
    if found.key != Some(perm) {
        found.requests = 0;
    }
    found.key = Some(perm);
    found.wire_key = Some(wire_key);
    found.session = Some(session);
    let ip = found.src.ip();
    let now = crate::state::world::machine_now();
    if let Some(key) = world.keys.get_mut(&perm) {
        key.seen_from(ip);
        key.last_active = now;
    }
}

impl Turn<'_> {
    fn packet(&mut self, salt: i64, message: Message<'_>) {
        if let Some(code) = self.number_fault(message.msg_id) {
            return self.bad_message(message, code);
        }
        if !self.salt_fits(salt) {
            return self.bad_salt(message);
        }
        let conn = self.to.conn;
        let Some(key) = self.world.keys.get_mut(&self.to.key) else { return };
        let (session, new) = key.session(self.to.session);
        session.conn = Some(conn);
        if new {
            self.greet(message.msg_id);
        }
        if self.message(message, 0).is_err() {
            self.world.record(conn, Kind::Service, "unreadable", "malformed");
            self.bad_message(message, 64);
        }
    }

    /// The announcement of a session that the server did not know.
    fn greet(&mut self, first_msg_id: i64) {
        let (now, ttl) = (self.world.now(), self.world.settings.salt_ttl);
        let Some(key) = self.world.keys.get(&self.to.key) else { return };
        let body = Writer::boxed(id::NEW_SESSION_CREATED)
            .i64(first_msg_id)
            .i64(crate::crypto::random_i64())
            .i64(key.current_salt(now, ttl))
            .finish();
        self.out.push(Outgoing::Own(body));
        self.world.record(self.to.conn, Kind::Server, "new_session_created", "sent");
    }

    fn number_fault(&self, msg_id: i64) -> Option<i32> {
        let (at, now) = (msg_id >> 32, self.world.now());
        if msg_id & 3 != 0 {
            Some(18)
        } else if at < now - BEHIND_MAX {
            Some(16)
        } else if at > now + AHEAD_MAX {
            Some(17)
        } else {
            None
        }
    }

    fn salt_fits(&self, salt: i64) -> bool {
        let (now, ttl) = (self.world.now(), self.world.settings.salt_ttl);
        self.world.keys.get(&self.to.key).is_some_and(|key| key.accepts_salt(salt, now, ttl))
    }

    fn bad_message(&mut self, message: Message<'_>, code: i32) {
        let body =
            Writer::boxed(id::BAD_MSG_NOTIFICATION).i64(message.msg_id).i32(message.seqno).i32(code).finish();
        self.world.record(self.to.conn, Kind::Server, "bad_msg_notification", &code.to_string());
        self.out.push(Outgoing::Notice(body));
    }

    fn bad_salt(&mut self, message: Message<'_>) {
        let (now, ttl) = (self.world.now(), self.world.settings.salt_ttl);
        let Some(key) = self.world.keys.get(&self.to.key) else { return };
        let body = Writer::boxed(id::BAD_SERVER_SALT)
            .i64(message.msg_id)
            .i32(message.seqno)
            .i32(48)
            .i64(key.current_salt(now, ttl))
            .finish();
        self.world.record(self.to.conn, Kind::Server, "bad_server_salt", "sent");
        self.out.push(Outgoing::Notice(body));
    }

    fn message(&mut self, message: Message<'_>, depth: u8) -> Result<(), Malformed> {
        let mut r = Reader::new(message.body);
        match r.u32()? {
            id::MSG_CONTAINER if depth == 0 => self.container(r),
            id::MSG_CONTAINER => Err(Malformed),
            id::GZIP_PACKED => {
                let clear = inflate(r.bytes()?)?;
                if Reader::new(&clear).u32()? == id::GZIP_PACKED {
                    return Err(Malformed);
                }
                self.message(Message { body: &clear, ..message }, depth)
            }
            constructor => self.single(message, constructor, r),
        }
    }

    fn container(&mut self, mut r: Reader<'_>) -> Result<(), Malformed> {
        let count = r.u32()? as usize;
        if count > CONTAINER_MAX {
            return Err(Malformed);
        }
        for _ in 0..count {
            let (msg_id, seqno, len) = (r.i64()?, r.i32()?, r.u32()? as usize);
            let message = Message { msg_id, seqno, body: r.take(len)? };
            match self.number_fault(msg_id) {
                Some(code) => self.bad_message(message, code),
                None => self.message(message, 1)?,
            }
        }
        Ok(())
    }

    fn single(&mut self, message: Message<'_>, constructor: u32, r: Reader<'_>) -> Result<(), Malformed> {
        let Some(key) = self.world.keys.get_mut(&self.to.key) else { return Ok(()) };
        let (session, _) = key.session(self.to.session);
        let order_fault =
            (message.seqno % 2 == 1).then(|| session.order_fault(message.msg_id, message.seqno)).flatten();
        match session.arrive(message.msg_id, message.seqno) {
            Arrival::TooOld => {
                self.bad_message(message, 20);
                return Ok(());
            }
            Arrival::Again => {
                let copy = session.answer_to(message.msg_id).cloned();
                let result = if copy.is_some() { "answered again" } else { "ignored" };
                self.out.extend(copy.map(Outgoing::Copy));
                self.world.record(self.to.conn, Kind::Service, "duplicate", result);
                return Ok(());
            }
            Arrival::New => {}
        }
        if let Some(code) = order_fault {
            self.bad_message(message, code);
            return Ok(());
        }
        if self.service(message, constructor, r)? {
            return Ok(());
        }
        if message.seqno % 2 == 0 {
            self.bad_message(message, 35);
            return Ok(());
        }
        self.call(message);
        Ok(())
    }

    fn call(&mut self, message: Message<'_>) {
        let outcome = rpc::accept(self.world, self.to, self.perm, message.msg_id, message.body);
        let mut call = match outcome {
            Ok(call) => Box::new(call),
            Err(error) => {
                let answer = self.world.result(message.msg_id, &Err(error));
                self.out.push(answer);
                return;
            }
        };
        match rpc::advance(self.world, &mut call) {
            Step::Answer(result) => {
                rpc::settle(self.world, &call, &result);
                let answer = self.world.result(call.msg_id, &result);
                self.out.push(answer);
            }
            Step::Silent => {}
            Step::Close => self.refused = Some(Refused::Close("fault")),
            step if self.pending.len() < PENDING_MAX => {
                self.acks.push(message.msg_id);
                self.pending.push(Pending { call, step });
            }
            _ => self.refused = Some(Refused::Close("too many calls at once")),
        }
    }

    fn finish(mut self) -> Result<Vec<Pending>, Refused> {
        if !self.acks.is_empty() {
            self.out.push(Outgoing::Notice(Writer::boxed(id::MSGS_ACK).longs(&self.acks).finish()));
        }
        self.world.transmit(self.to, std::mem::take(&mut self.out));
        match self.refused {
            Some(refused) => Err(refused),
            None => Ok(self.pending),
        }
    }
}

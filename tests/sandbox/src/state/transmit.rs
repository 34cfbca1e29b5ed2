//! Sending: numbering, packing into containers, encrypting and queueing of what goes to a client.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::connection::{Closing, ConnId};
use super::fault::RpcError;
use super::journal::Kind;
use super::session::SentMessage;
use super::user::UserId;
use super::world::World;
use crate::crypto::auth_key::KeyId;
use crate::crypto::envelope;
use crate::tl::{Writer, id};
use crate::transport::Outbound;

/// Where something is to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) conn: ConnId,
    /// The key that encrypts the packets.
    pub(crate) key: KeyId,
    pub(crate) session: i64,
}

/// A message on its way to a client.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// An answer that wants no acknowledgement.
    Notice(Vec<u8>),
    /// The answer to an API call.
    Answer { request: i64, body: Vec<u8> },
    /// Something the server says by itself.
    Own(Vec<u8>),
    /// A message that was sent before.
    Copy(SentMessage),
}

impl World {
    /// Sends messages in one packet. A client that does not read loses its connection.
    pub(crate) fn transmit(&mut self, to: Address, messages: Vec<Outgoing>) {
        if messages.is_empty() || !self.conns.contains_key(&to.conn) || !self.keys.contains_key(&to.key) {
            return;
        }
        let mut numbered: Vec<SentMessage> =
            messages.into_iter().map(|message| self.number(to, message)).collect();
        let (msg_id, seqno, body) = if numbered.len() == 1 {
            let only = numbered.remove(0);
            (only.msg_id, only.seqno, only.body)
        } else {
            let mut container = Writer::boxed(id::MSG_CONTAINER).u32(numbered.len() as u32);
            for part in &numbered {
                container =
                    container.i64(part.msg_id).i32(part.seqno).u32(part.body.len() as u32).raw(&part.body);
            }
            (self.next_msg_id(1), self.next_seqno(to, false), container.finish())
        };
        let (now, salt_ttl) = (self.now(), self.settings.salt_ttl);
        let Some(key) = self.keys.get(&to.key) else { return };
        let salt = key.current_salt(now, salt_ttl);
        let packet = envelope::seal(&key.auth, salt, to.session, msg_id, seqno, &body);
        self.queue(to.conn, Outbound::Packet(packet));
    }

    pub(crate) fn queue(&mut self, conn: ConnId, out: Outbound) {
        let Some(conn) = self.conns.get_mut(&conn) else { return };
        match conn.outbox.try_send(out) {
            Ok(()) => conn.packets_out += 1,
            Err(_) => conn.shut(Closing::Reset, "client does not read"),
        }
    }

    fn next_seqno(&mut self, to: Address, content: bool) -> i32 {
        self.keys.get_mut(&to.key).map_or(0, |key| key.session(to.session).0.next_seqno(content))
    }

    fn number(&mut self, to: Address, message: Outgoing) -> SentMessage {
        let (remainder, content, request, body) = match message {
            Outgoing::Notice(body) => (1, false, None, body),
            Outgoing::Answer { request, body } => (1, true, Some(request), body),
            Outgoing::Own(body) => (3, true, None, body),
            Outgoing::Copy(sent) => return sent,
        };
        let sent = SentMessage {
            msg_id: self.next_msg_id(remainder),
            seqno: self.next_seqno(to, content),
            request,
            body,
        };
        if let Some(key) = self.keys.get_mut(&to.key).filter(|_| content) {
            key.session(to.session).0.keep(sent.clone());
        }
        sent
    }

    /// The `rpc_result` for a call.
    pub(crate) fn result(&self, request: i64, result: &Result<Vec<u8>, RpcError>) -> Outgoing {
        let head = Writer::boxed(id::RPC_RESULT).i64(request);
        let body = match result {
            Ok(body) if body.len() >= self.settings.gzip_from as usize => {
                head.id(id::GZIP_PACKED).bytes(&packed(body))
            }
            Ok(body) => head.raw(body),
            Err(error) => head.id(id::RPC_ERROR).i32(error.code).str(&error.name),
        };
        Outgoing::Answer { request, body: body.finish() }
    }

    /// Sends an `Updates` object on a connection if its session wants updates; tells whether it did.
    pub(crate) fn push(&mut self, conn: ConnId, name: &str, body: Vec<u8>) -> bool {
        let Some(to) = self.update_address(conn) else { return false };
        self.record(conn, Kind::Server, name, "sent");
        self.transmit(to, vec![Outgoing::Own(body)]);
        true
    }

    /// Sends an update on one connection of a key: the one opened last among those that want updates.
    pub(crate) fn push_to_key(&mut self, key: KeyId, name: &str, body: &[u8]) -> bool {
        let fits = |(id, conn): &(&ConnId, &super::connection::Connection)| {
            conn.key == Some(key) && self.update_address(**id).is_some()
        };
        let Some(conn) = self.conns.iter().rev().find(fits).map(|(id, _)| *id) else { return false };
        self.push(conn, name, body.to_vec())
    }

    /// Sends an update to each home-DC login of an account; tells how many it reached.
    pub(crate) fn push_to_user(&mut self, user: UserId, name: &str, body: &[u8]) -> usize {
        let home = self.users.get(&user).map(|user| user.dc);
        let keys: Vec<KeyId> = self
            .keys
            .values()
            .filter(|key| key.user == Some(user) && Some(key.dc) == home && key.broken.is_none())
            .map(super::key::Key::id)
            .collect();
        keys.into_iter().filter(|key| self.push_to_key(*key, name, body)).count()
    }

    fn update_address(&self, conn: ConnId) -> Option<Address> {
        let found = self.conns.get(&conn)?;
        let (key, session) = (found.wire_key?, found.session?);
        self.keys.get(&key)?.sessions.get(&session)?.wants_updates.then_some(Address { conn, key, session })
    }
}

fn packed(body: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body).and_then(|()| gzip.finish()).expect("writing to memory does not fail")
}

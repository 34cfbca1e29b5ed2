//! Hears what the sender lets slip by: a push that arrives while a call is under way, the number of a
//! transport error that came in a frame, and that nothing that is sent gets anywhere.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering},
};

use grammers_crypto::DequeBuffer;
use grammers_mtproto::{
    MsgId,
    mtp::{Deserialization, DeserializeError, Encrypted, Mtp},
};
use grammers_tl_types::{Deserializable as _, enums};

/// Packets sent in a row without an answer to any call, before the connection is given up. A call takes one or
/// two, setting up a few more. A server whose clock is far behind ours refuses all of them, and as message ids
/// must not go back, grammers would send the same for ever, as fast as it can.
const FRUITLESS_MAX: u32 = 32;

/// What was heard on one connection.
#[derive(Debug, Default)]
pub(super) struct Notices {
    login_token: AtomicBool,
    transport_code: AtomicI32,
    fruitless: AtomicU32,
}

impl Notices {
    /// Whether an `updateLoginToken` arrived since this was last asked.
    pub(super) fn take_login_token(&self) -> bool {
        self.login_token.swap(false, Ordering::Relaxed)
    }

    /// The last transport error, such as -404; 0 if none came.
    pub(super) fn transport_code(&self) -> i32 {
        self.transport_code.load(Ordering::Relaxed)
    }

    /// Whether the connection was given up because the server accepts nothing.
    pub(super) fn is_fruitless(&self) -> bool {
        self.fruitless.load(Ordering::Relaxed) > FRUITLESS_MAX
    }
}

/// The encrypted protocol, with its notices written down.
pub(super) struct Observed {
    inner: Encrypted,
    notices: Arc<Notices>,
}

impl Observed {
    pub(super) fn new(inner: Encrypted) -> (Self, Arc<Notices>) {
        let notices = Arc::<Notices>::default();
        (Self { inner, notices: Arc::clone(&notices) }, notices)
    }
}

impl Mtp for Observed {
    fn push(&mut self, buffer: &mut DequeBuffer<u8>, request: &[u8]) -> Option<MsgId> {
        self.inner.push(buffer, request)
    }

    fn finalize(&mut self, buffer: &mut DequeBuffer<u8>) -> Option<MsgId> {
        let sent = self.inner.finalize(buffer);
        if sent.is_some() {
            self.notices.fruitless.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    fn deserialize(&mut self, payload: &mut [u8]) -> Result<Vec<Deserialization>, DeserializeError> {
        if let Ok(code) = <[u8; 4]>::try_from(&*payload) {
            self.notices.transport_code.store(i32::from_le_bytes(code), Ordering::Relaxed);
        }
        let messages = self.inner.deserialize(payload)?;
        let accepted = messages
            .iter()
            .any(|message| matches!(message, Deserialization::Update(body) if tells_of_login_token(body)));
        if accepted {
            self.notices.login_token.store(true, Ordering::Relaxed);
        }
        if messages.iter().any(is_fruit) {
            self.notices.fruitless.store(0, Ordering::Relaxed);
        } else if self.notices.is_fruitless() {
            return Err(DeserializeError::BadMessageId { got: 0 });
        }
        Ok(messages)
    }
}

fn is_fruit(message: &Deserialization) -> bool {
    match message {
        Deserialization::RpcResult(_)
        | Deserialization::RpcError(_)
        | Deserialization::OwnUpdate { .. }
        | Deserialization::Update(_) => true,
        Deserialization::BadMessage(_) | Deserialization::Failure(_) => false,
    }
}

fn tells_of_login_token(body: &[u8]) -> bool {
    let is_it = |update: &enums::Update| matches!(update, enums::Update::LoginToken);
    match enums::Updates::from_bytes(body) {
        Ok(enums::Updates::UpdateShort(short)) => is_it(&short.update),
        Ok(enums::Updates::Updates(all)) => all.updates.iter().any(is_it),
        Ok(enums::Updates::Combined(all)) => all.updates.iter().any(is_it),
        Ok(_) | Err(_) => false,
    }
}

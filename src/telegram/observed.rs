//! Hears what grammers' sender lets slip by: a push that arrives while a call is under way, and the number
//! of a transport error that came in a frame.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI32, Ordering},
};

use grammers_crypto::DequeBuffer;
use grammers_mtproto::{
    MsgId,
    mtp::{Deserialization, DeserializeError, Encrypted, Mtp},
};
use grammers_tl_types::{Deserializable as _, enums};

/// What was heard on one connection.
#[derive(Debug, Default)]
pub(super) struct Notices {
    login_token: AtomicBool,
    transport_code: AtomicI32,
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
        self.inner.finalize(buffer)
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
        Ok(messages)
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

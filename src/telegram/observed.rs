//! Hears what grammers' sender lets slip by: a push that arrives while a call is under way, the number of a
//! transport error that came in a frame, and a server that keeps complaining of our clock.

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

/// Message ids too low or too high for the server. One correction of the clock settles that, unless our clock
/// is far ahead: ids must not go back, and grammers would send the same message for ever.
const CLOCK_CODES: [i32; 2] = [16, 17];
const CLOCK_COMPLAINTS_MAX: u32 = 8;

/// What was heard on one connection.
#[derive(Debug, Default)]
pub(super) struct Notices {
    login_token: AtomicBool,
    transport_code: AtomicI32,
    clock_complaints: AtomicU32,
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

    /// Whether the connection was given up because the server does not accept our clock.
    pub(super) fn clock_is_wrong(&self) -> bool {
        self.clock_complaints.load(Ordering::Relaxed) > CLOCK_COMPLAINTS_MAX
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
        let complaints = messages.iter().filter(|message| complains_of_clock(message)).count();
        let complaints = u32::try_from(complaints).unwrap_or(u32::MAX);
        self.notices.clock_complaints.fetch_add(complaints, Ordering::Relaxed);
        if self.notices.clock_is_wrong() {
            return Err(DeserializeError::BadMessageId { got: 0 });
        }
        Ok(messages)
    }
}

fn complains_of_clock(message: &Deserialization) -> bool {
    matches!(message, Deserialization::BadMessage(bad) if CLOCK_CODES.contains(&bad.code))
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

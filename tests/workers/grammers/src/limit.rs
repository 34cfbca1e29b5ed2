//! Has Telegram close the connection at the lease's deadline, whatever becomes of this process.
//!
//! `ping_delay_disconnect` asks it to, unless another such ping comes; so one with the time that is left goes in front of
//! everything that leaves, in the same packet. grammers sends one of its own every minute, with 75 seconds: it passes
//! through here like the rest, and leaves with the time that is left.

use std::cell::Cell;
use std::rc::Rc;

use grammers_crypto::DequeBuffer;
use grammers_mtproto::MsgId;
use grammers_mtproto::mtp::{Deserialization, DeserializeError, Mtp};
use grammers_tl_types::functions::PingDelayDisconnect;
use grammers_tl_types::{Identifiable as _, Serializable as _};
use tokio::time::Instant;

/// How long the connection may be open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    Until(Instant),
    /// Nothing leaves any more.
    Over,
    /// For a worker that misbehaves.
    Endless,
}

/// grammers' protocol, which asks here before anything leaves.
pub(crate) struct Limited<M> {
    inner: M,
    term: Rc<Cell<Term>>,
    pings: i64,
}

impl<M> Limited<M> {
    pub(crate) fn new(inner: M, term: Rc<Cell<Term>>) -> Self {
        Self { inner, term, pings: 0 }
    }

    /// Whole seconds that are left, rounded down: rather a moment too early than too late.
    fn left(&self) -> Option<i32> {
        let Term::Until(deadline) = self.term.get() else { return None };
        i32::try_from(deadline.saturating_duration_since(Instant::now()).as_secs()).ok()
    }
}

/// The number that Telegram's answer repeats tells nothing here.
pub(crate) fn ping(disconnect_delay: i32) -> PingDelayDisconnect {
    PingDelayDisconnect { ping_id: 0, disconnect_delay }
}

fn is_ping(request: &[u8]) -> bool {
    request.starts_with(&PingDelayDisconnect::CONSTRUCTOR_ID.to_le_bytes())
}

impl<M: Mtp> Mtp for Limited<M> {
    fn push(&mut self, buffer: &mut DequeBuffer<u8>, request: &[u8]) -> Option<MsgId> {
        if self.term.get() == Term::Endless {
            return self.inner.push(buffer, request);
        }
        let left = self.left().filter(|left| *left > 0)?;
        self.pings += 1;
        let limit = PingDelayDisconnect { ping_id: self.pings, disconnect_delay: left };
        let limited = self.inner.push(buffer, &limit.to_bytes())?;
        if is_ping(request) { Some(limited) } else { self.inner.push(buffer, request) }
    }

    /// Acknowledgements leave without a limit of their own: they change none.
    fn finalize(&mut self, buffer: &mut DequeBuffer<u8>) -> Option<MsgId> {
        match self.term.get() {
            Term::Over => None,
            Term::Until(deadline) if deadline <= Instant::now() => None,
            _ => self.inner.finalize(buffer),
        }
    }

    fn deserialize(&mut self, payload: &mut [u8]) -> Result<Vec<Deserialization>, DeserializeError> {
        self.inner.deserialize(payload)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use grammers_mtproto::mtp::Plain;
    use grammers_tl_types::Deserializable as _;
    use grammers_tl_types::functions::{Ping, PingDelayDisconnect};

    use super::*;

    /// Remembers what was pushed.
    #[derive(Default)]
    struct Pushed(Vec<Vec<u8>>);

    impl Mtp for Pushed {
        fn push(&mut self, _: &mut DequeBuffer<u8>, request: &[u8]) -> Option<MsgId> {
            self.0.push(request.to_vec());
            Plain::new().push(&mut DequeBuffer::with_capacity(64, 64), request)
        }

        fn finalize(&mut self, _: &mut DequeBuffer<u8>) -> Option<MsgId> {
            None
        }

        fn deserialize(&mut self, _: &mut [u8]) -> Result<Vec<Deserialization>, DeserializeError> {
            Ok(Vec::new())
        }
    }

    fn pushed(term: Term, request: &[u8]) -> Vec<Vec<u8>> {
        let mut limited = Limited::new(Pushed::default(), Rc::new(Cell::new(term)));
        limited.push(&mut DequeBuffer::with_capacity(64, 64), request);
        limited.inner.0
    }

    fn delay(request: &[u8]) -> i32 {
        assert!(is_ping(request));
        PingDelayDisconnect::from_bytes(&request[4..]).unwrap().disconnect_delay
    }

    #[tokio::test(start_paused = true)]
    async fn everything_leaves_behind_the_time_that_is_left() {
        let request = Ping { ping_id: 7 }.to_bytes();
        let all = pushed(Term::Until(Instant::now() + Duration::from_millis(6900)), &request);
        assert_eq!((all.len(), delay(&all[0]), &all[1]), (2, 6, &request));
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_limit_does_not_leave() {
        let all = pushed(Term::Until(Instant::now() + Duration::from_secs(9)), &ping(75).to_bytes());
        assert_eq!((all.len(), delay(&all[0])), (1, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_leaves_without_time() {
        for term in [Term::Over, Term::Until(Instant::now() + Duration::from_millis(900))] {
            assert!(pushed(term, &ping(75).to_bytes()).is_empty());
        }
        assert_eq!(pushed(Term::Endless, &ping(75).to_bytes()), [ping(75).to_bytes()]);
    }
}

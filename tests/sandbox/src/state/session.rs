//! MTProto sessions: what the server remembers of the messages of one `session_id`.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::connection::ConnId;

/// Message numbers remembered for telling duplicates; older ones are "too old".
const SEEN_MAX: usize = 2048;
/// Answers kept for clients that ask again.
const ANSWERS_MAX: usize = 32;
/// Larger answers are not kept.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A message that went to the client and may be asked for again.
#[derive(Debug, Clone)]
pub(crate) struct SentMessage {
    pub(crate) msg_id: i64,
    pub(crate) seqno: i32,
    /// The client's message that it answers.
    pub(crate) request: Option<i64>,
    pub(crate) body: Vec<u8>,
}

/// What is known of a message number that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    New,
    Again,
    TooOld,
}

/// One session of a key.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Content-related messages sent by the server, which makes its sequence numbers.
    content_sent: i32,
    /// Client's message numbers with their sequence numbers.
    seen: BTreeMap<i64, i32>,
    sent: VecDeque<SentMessage>,
    /// Calls that are being worked on.
    pub(crate) running: HashSet<i64>,
    /// Whether pushes may be sent: an API call came that was not wrapped in `invokeWithoutUpdates`.
    pub(crate) wants_updates: bool,
    /// The connection that used it last.
    pub(crate) conn: Option<ConnId>,
}

impl Session {
    pub(crate) fn arrive(&mut self, msg_id: i64, seqno: i32) -> Arrival {
        if self.seen.contains_key(&msg_id) {
            return Arrival::Again;
        }
        if self.seen.len() == SEEN_MAX {
            match self.seen.first_key_value() {
                Some((oldest, _)) if msg_id < *oldest => return Arrival::TooOld,
                _ => self.seen.pop_first(),
            };
        }
        self.seen.insert(msg_id, seqno);
        Arrival::New
    }

    /// Whether a content-related sequence number runs against the order of message numbers: 32 too low, 33 too high.
    pub(crate) fn order_fault(&self, msg_id: i64, seqno: i32) -> Option<i32> {
        let content = |(_, s): &(&i64, &i32)| **s % 2 == 1;
        let before = self.seen.range(..msg_id).rev().find(content).map(|(_, s)| *s);
        let after = self.seen.range(msg_id + 1..).find(content).map(|(_, s)| *s);
        if before.is_some_and(|s| s >= seqno) {
            Some(32)
        } else if after.is_some_and(|s| s <= seqno) {
            Some(33)
        } else {
            None
        }
    }

    pub(crate) fn knows(&self, msg_id: i64) -> bool {
        self.seen.contains_key(&msg_id)
    }

    pub(crate) fn next_seqno(&mut self, content: bool) -> i32 {
        let seqno = self.content_sent * 2 + i32::from(content);
        self.content_sent = self.content_sent.wrapping_add(i32::from(content)) & 0x3fff_ffff;
        seqno
    }

    pub(crate) fn keep(&mut self, message: SentMessage) {
        if message.body.len() > ANSWER_BYTES_MAX {
            return;
        }
        if self.sent.len() == ANSWERS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(message);
    }

    pub(crate) fn acknowledged(&mut self, msg_ids: &[i64]) {
        self.sent.retain(|message| !msg_ids.contains(&message.msg_id));
    }

    pub(crate) fn sent(&self, msg_id: i64) -> Option<&SentMessage> {
        self.sent.iter().find(|message| message.msg_id == msg_id)
    }

    pub(crate) fn answer_to(&self, request: i64) -> Option<&SentMessage> {
        self.sent.iter().find(|message| message.request == Some(request))
    }

    pub(crate) fn drop_answer(&mut self, request: i64) -> Option<SentMessage> {
        let at = self.sent.iter().position(|message| message.request == Some(request))?;
        self.sent.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_number_is_new_once() {
        let mut session = Session::default();
        assert_eq!(session.arrive(4, 1), Arrival::New);
        assert_eq!(session.arrive(4, 1), Arrival::Again);
        for n in 2..=SEEN_MAX as i64 + 5 {
            session.arrive(n * 4, 1);
        }
        assert_eq!(session.arrive(4, 1), Arrival::TooOld);
    }

    #[test]
    fn sequence_numbers_must_follow_message_numbers() {
        let mut session = Session::default();
        session.arrive(100, 1);
        session.arrive(200, 3);
        assert_eq!(session.order_fault(300, 5), None);
        assert_eq!(session.order_fault(300, 3), Some(32));
        assert_eq!(session.order_fault(150, 3), Some(33));
    }

    #[test]
    fn server_numbers_count_content_only() {
        let mut session = Session::default();
        assert_eq!([true, false, true, false].map(|c| session.next_seqno(c)), [1, 2, 3, 4]);
    }
}

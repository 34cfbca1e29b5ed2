//! Requests and their answers over one socket, in buffers no larger than what is on its way.
//!
//! grammers' sender holds two buffers of a mebibyte from the first byte of a connection to the last, and an allocator
//! that hands one out again has to wipe it first: then all of it is memory in use. Pending logins rest on their
//! connections for minutes and say some hundred bytes, a thousand of them at once. The protocol itself is grammers'.
//!
//! Knows frames and messages, not what they ask for.

use std::{io, net::SocketAddr, time::Duration};

use grammers_crypto::DequeBuffer;
use grammers_mtproto::{
    MsgId,
    mtp::{self, BadMessage, Deserialization, Mtp},
    transport::{self, Transport as _},
};
use grammers_mtsender::InvocationError;
use grammers_tl_types::{Deserializable as _, RemoteCall, Serializable as _, functions};
use tokio::{
    io::{AsyncWriteExt as _, Interest, Ready},
    net::TcpStream,
    sync::oneshot,
    time::{Instant, sleep_until},
};

/// The largest packet: what Telegram accepts and sends is a mebibyte and its envelope.
const PACKET_LENGTH_MAX: usize = 1024 * 1024 + 8 * 1024;
/// How much is taken off the socket at once.
const CHUNK_LENGTH: usize = 16 * 1024;
/// Room for what the layers put before a message.
const HEADERS_LENGTH: usize = mtp::MAX_TRANSPORT_HEADER_LEN
    + mtp::ENCRYPTED_PACKET_HEADER_LEN
    + mtp::PLAIN_PACKET_HEADER_LEN
    + mtp::MESSAGE_CONTAINER_HEADER_LEN;
/// A connection that says nothing is closed by the server after [`HANG_UP_AFTER_SECONDS`].
const PING_EVERY: Duration = Duration::from_secs(60);
const HANG_UP_AFTER_SECONDS: i32 = 75;

/// A connection that speaks `M`. After an error it is of no use any more.
pub(super) struct Sender<M> {
    stream: TcpStream,
    transport: transport::Full,
    protocol: M,
    requests: Vec<Request>,
    next_ping: Instant,
    pings: i64,
    /// The answer to the last ping.
    pong: Option<oneshot::Receiver<Result<Vec<u8>, InvocationError>>>,
    /// The beginning of a packet that is not there yet.
    incoming: Vec<u8>,
    outgoing: DequeBuffer<u8>,
    /// How much of `outgoing` is written.
    written: usize,
}

/// What was asked and is not answered.
struct Request {
    body: Vec<u8>,
    /// `None` before it is sent, and again when the server wants it in other words.
    sent: Option<Sent>,
    answer: oneshot::Sender<Result<Vec<u8>, InvocationError>>,
}

#[derive(Clone, Copy)]
struct Sent {
    message: MsgId,
    /// The message itself unless it went with others.
    container: MsgId,
}

impl<M: Mtp> Sender<M> {
    pub(super) async fn connect(address: SocketAddr, protocol: M) -> io::Result<Self> {
        Ok(Self {
            stream: TcpStream::connect(address).await?,
            transport: transport::Full::new(),
            protocol,
            requests: Vec::new(),
            next_ping: Instant::now() + PING_EVERY,
            pings: 0,
            pong: None,
            incoming: Vec::new(),
            outgoing: nothing(),
            written: 0,
        })
    }

    /// Asks, and goes on until the answer is there.
    ///
    /// # Errors
    /// What the server answers, and whatever breaks the connection.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection usable; the answer, if one comes, is ignored.
    pub(super) async fn invoke<R: RemoteCall>(&mut self, request: &R) -> Result<R::Return, InvocationError> {
        let mut asked = self.ask(request.to_bytes());
        loop {
            self.step().await?;
            match asked.try_recv() {
                Ok(answer) => {
                    let body = answer?;
                    return R::Return::from_bytes(&body)
                        .map_err(|error| InvocationError::Deserialize(error.into()));
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => {
                    return Err(InvocationError::Dropped("the request was given up"));
                }
            }
        }
    }

    /// Reads and writes what can be read and written, waiting for either; pings in between.
    ///
    /// # Errors
    /// Whatever breaks the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was read is kept.
    pub(super) async fn step(&mut self) -> Result<(), InvocationError> {
        self.pack();
        let mut interest = Interest::READABLE;
        if !self.outgoing.is_empty() {
            interest |= Interest::WRITABLE;
        }
        tokio::select! {
            // First: after a rest, the answer to the last ping may lie there unread.
            biased;
            ready = self.stream.ready(interest) => {
                let ready = ready.map_err(InvocationError::Io)?;
                self.exchange(ready)
            }
            () = sleep_until(self.next_ping) => self.ping().map_err(InvocationError::Io),
        }
    }

    /// Says that nothing more will come. The server hangs up in turn, which [`step`](Self::step) tells as an error.
    pub(super) async fn disconnect(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    fn ask(&mut self, body: Vec<u8>) -> oneshot::Receiver<Result<Vec<u8>, InvocationError>> {
        let (answer, asked) = oneshot::channel();
        self.requests.push(Request { body, sent: None, answer });
        asked
    }

    fn ping(&mut self) -> io::Result<()> {
        // A path that was cut in between tells neither end of it for a long time.
        let unanswered = oneshot::error::TryRecvError::Empty;
        if self.pong.as_mut().is_some_and(|pong| pong.try_recv().is_err_and(|error| error == unanswered)) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.pings += 1;
        let ping =
            functions::PingDelayDisconnect { ping_id: self.pings, disconnect_delay: HANG_UP_AFTER_SECONDS };
        self.pong = Some(self.ask(ping.to_bytes()));
        self.next_ping = Instant::now() + PING_EVERY;
        Ok(())
    }

    /// Makes one packet of all that waits to be sent, unless there is one under way.
    fn pack(&mut self) {
        if !self.outgoing.is_empty() {
            return;
        }
        let mut packed = Vec::new();
        for (at, request) in self.requests.iter_mut().enumerate().filter(|(_, it)| it.sent.is_none()) {
            // The protocol may have something to settle first, or the packet is full: the rest waits.
            let Some(message) = self.protocol.push(&mut self.outgoing, &request.body) else { break };
            request.sent = Some(Sent { message, container: message });
            packed.push(at);
        }
        if let Some(container) = self.protocol.finalize(&mut self.outgoing) {
            for at in packed {
                if let Some(sent) = &mut self.requests[at].sent {
                    sent.container = container;
                }
            }
            self.transport.pack(&mut self.outgoing);
        }
    }

    fn exchange(&mut self, ready: Ready) -> Result<(), InvocationError> {
        // First: a server that hangs up says why before, and nothing can be written to it any more.
        if ready.is_readable() {
            self.read()?;
        }
        if ready.is_writable() && !self.outgoing.is_empty() {
            self.write().map_err(InvocationError::Io)?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        match self.stream.try_write(&self.outgoing.as_ref()[self.written..]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => {
                self.written += length;
                if self.written == self.outgoing.len() {
                    self.outgoing = nothing();
                    self.written = 0;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self) -> Result<(), InvocationError> {
        let mut chunk = [0; CHUNK_LENGTH];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Err(InvocationError::Io(io::ErrorKind::ConnectionReset.into())),
            Ok(length) => {
                self.incoming.extend_from_slice(&chunk[..length]);
                self.unpack()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(InvocationError::Io(error)),
        }
    }

    /// Takes every whole packet off what came in.
    fn unpack(&mut self) -> Result<(), InvocationError> {
        let mut begin = 0;
        while begin < self.incoming.len() {
            let packet = match self.transport.unpack(&mut self.incoming[begin..]) {
                Ok(packet) => packet,
                Err(transport::Error::MissingBytes) => break,
                Err(error) => return Err(InvocationError::Transport(error)),
            };
            let payload = &mut self.incoming[begin..][packet.data_range];
            let messages = self.protocol.deserialize(payload).map_err(InvocationError::Deserialize)?;
            begin += packet.next_offset;
            for message in messages {
                self.hear(message);
            }
        }
        if begin == self.incoming.len() {
            self.incoming = Vec::new();
        } else {
            self.incoming.drain(..begin);
        }
        if self.incoming.len() > PACKET_LENGTH_MAX {
            let endless = io::Error::new(io::ErrorKind::InvalidData, "a packet is too long");
            return Err(InvocationError::Io(endless));
        }
        Ok(())
    }

    fn hear(&mut self, message: Deserialization) {
        match message {
            Deserialization::RpcResult(result) => self.answer(result.msg_id, Ok(result.body)),
            Deserialization::RpcError(refusal) => {
                self.answer(refusal.msg_id, Err(InvocationError::Rpc(refusal.error.into())));
            }
            Deserialization::Failure(failure) => {
                self.answer(failure.msg_id, Err(InvocationError::Deserialize(failure.error)));
            }
            Deserialization::BadMessage(notice) => self.ask_again(&notice),
            // What matters of them is heard by the protocol.
            Deserialization::OwnUpdate { .. } | Deserialization::Update(_) => {}
        }
    }

    fn answer(&mut self, message: MsgId, answer: Result<Vec<u8>, InvocationError>) {
        let is_it = |request: &Request| request.sent.is_some_and(|sent| sent.message == message);
        if let Some(at) = self.requests.iter().position(is_it) {
            // Whoever asked may have given up.
            let _ = self.requests.swap_remove(at).answer.send(answer);
        }
    }

    /// Has what the server could not take sent again, where other words help: a new salt, a corrected clock.
    fn ask_again(&mut self, notice: &BadMessage) {
        let meant = |sent: Sent| sent.message == notice.msg_id || sent.container == notice.msg_id;
        let mut at = 0;
        while let Some(request) = self.requests.get_mut(at) {
            if !request.sent.is_some_and(meant) {
                at += 1;
            } else if notice.retryable() {
                request.sent = None;
                at += 1;
            } else {
                let refused = InvocationError::Dropped("the server does not take the message");
                let _ = self.requests.swap_remove(at).answer.send(Err(refused));
            }
        }
    }
}

/// An empty packet.
fn nothing() -> DequeBuffer<u8> {
    DequeBuffer::with_capacity(0, HEADERS_LENGTH)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use grammers_mtproto::mtp::Plain;
    use grammers_tl_types::{enums, types};

    use super::*;

    const QUESTION: functions::ReqPqMulti = functions::ReqPqMulti { nonce: [7; 16] };

    /// A connection and its other end.
    async fn pair() -> (Sender<Plain>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = Sender::connect(listener.local_addr().unwrap(), Plain::new()).await.unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_nodelay(true).unwrap();
        (sender, peer)
    }

    /// A whole packet in the clear.
    fn packet(transport: &mut transport::Full, body: &[u8]) -> Vec<u8> {
        let mut buffer = nothing();
        buffer.extend(0_i64.to_le_bytes());
        buffer.extend(1_i64.to_le_bytes());
        buffer.extend(i32::try_from(body.len()).unwrap().to_le_bytes());
        buffer.extend(body.iter().copied());
        transport.pack(&mut buffer);
        buffer.as_ref().to_vec()
    }

    /// An answer to [`QUESTION`] with so much in it.
    fn answer(length: usize) -> Vec<u8> {
        enums::ResPq::Pq(types::ResPq {
            nonce: [7; 16],
            server_nonce: [8; 16],
            pq: vec![9; length],
            server_public_key_fingerprints: vec![1],
        })
        .to_bytes()
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together_and_nothing_is_kept_of_it() {
        let (mut sender, mut peer) = pair().await;
        let serving = std::thread::spawn(move || {
            let mut transport = transport::Full::new();
            for length in [8, 900_000] {
                let mut question = [0; 12 + 20 + 20];
                peer.read_exact(&mut question).unwrap();
                let bytes = packet(&mut transport, &answer(length));
                let (first, rest) = bytes.split_at(40);
                first.iter().for_each(|byte| peer.write_all(&[*byte]).unwrap());
                rest.chunks(7_000).for_each(|piece| peer.write_all(piece).unwrap());
            }
            peer
        });
        for length in [8, 900_000] {
            let enums::ResPq::Pq(answer) = sender.invoke(&QUESTION).await.unwrap();
            assert_eq!(answer.pq.len(), length);
            assert_eq!((sender.incoming.capacity(), sender.outgoing.len()), (0, 0));
            assert!(sender.requests.is_empty());
        }
        drop(serving.join().unwrap());
    }

    #[tokio::test]
    async fn two_packets_that_come_together_are_both_heard() {
        let (mut sender, mut peer) = pair().await;
        let mut transport = transport::Full::new();
        let two = [packet(&mut transport, &answer(8)), packet(&mut transport, &answer(12))].concat();
        peer.write_all(&two[..two.len() - 1]).unwrap();
        let enums::ResPq::Pq(first) = sender.invoke(&QUESTION).await.unwrap();
        assert_eq!(first.pq.len(), 8);
        peer.write_all(&two[two.len() - 1..]).unwrap();
        let enums::ResPq::Pq(second) = sender.invoke(&QUESTION).await.unwrap();
        assert_eq!(second.pq.len(), 12);
    }

    #[tokio::test]
    async fn a_packet_without_end_ends_the_connection() {
        let (mut sender, mut peer) = pair().await;
        let serving = std::thread::spawn(move || {
            let endless = [&i32::MAX.to_le_bytes()[..], &vec![0; 2 * PACKET_LENGTH_MAX]].concat();
            // The other end stops listening midway.
            let _ = peer.write_all(&endless);
            peer
        });
        let refused = sender.invoke(&QUESTION).await.unwrap_err();
        assert_eq!(kind(&refused), Some(io::ErrorKind::InvalidData));
        assert!(sender.incoming.len() <= PACKET_LENGTH_MAX + CHUNK_LENGTH);
        drop(sender);
        drop(serving.join().unwrap());
    }

    fn kind(error: &InvocationError) -> Option<io::ErrorKind> {
        match error {
            InvocationError::Io(error) => Some(error.kind()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_connection_is_given_up_when_one_ping_is_not_answered_before_the_next() {
        let (mut sender, mut peer) = pair().await;
        let ping = functions::PingDelayDisconnect { ping_id: 1, disconnect_delay: HANG_UP_AFTER_SECONDS };
        let length = 12 + 20 + ping.to_bytes().len();
        let mut transport = transport::Full::new();
        for answered in [true, false] {
            sender.next_ping = Instant::now();
            while sender.requests.first().is_none_or(|ping| ping.sent.is_none())
                || !sender.outgoing.is_empty()
            {
                sender.step().await.unwrap();
            }
            peer.read_exact(&mut vec![0; length]).unwrap();
            if answered {
                peer.write_all(&packet(&mut transport, &answer(8))).unwrap();
                while !sender.requests.is_empty() {
                    sender.step().await.unwrap();
                }
            }
        }
        sender.next_ping = Instant::now();
        assert_eq!(kind(&sender.step().await.unwrap_err()), Some(io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_is_told() {
        let (mut sender, peer) = pair().await;
        drop(peer);
        assert!(kind(&sender.invoke(&QUESTION).await.unwrap_err()).is_some());
    }

    #[tokio::test]
    async fn a_question_longer_than_the_sockets_buffers_is_written_piece_by_piece() {
        let (mut sender, mut peer) = pair().await;
        let length = 1_000_000;
        let serving = std::thread::spawn(move || {
            let mut transport = transport::Full::new();
            let mut question = vec![0; length];
            peer.read_exact(&mut question).unwrap();
            peer.write_all(&packet(&mut transport, &answer(8))).unwrap();
            peer
        });
        // No request of ours is as long; a batch of several may be.
        let mut asked = sender.ask(vec![1; length]);
        let body = loop {
            sender.step().await.unwrap();
            if let Ok(answer) = asked.try_recv() {
                break answer.unwrap();
            }
        };
        assert_eq!(body, answer(8));
        drop(serving.join().unwrap());
    }
}

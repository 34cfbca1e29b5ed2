//! One TCP connection from accept to close.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::plain;
use crate::crypto::envelope;
use crate::crypto::exchange::Exchange;
use crate::rpc::{self, Call, Step};
use crate::session::{self, PENDING_MAX, Pending, Refused};
use crate::shared::Shared;
use crate::state::connection::{Closing, ConnId};
use crate::state::fault::{Action, Fault};
use crate::state::journal::Kind;
use crate::state::world::Admitted;
use crate::transport::{Decoder, Detected, Encoder, Outbound, detect};

/// A connection that sends nothing for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(900);
/// A packet that a client does not take within this time ends the connection.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// How long an orderly close may take to send what is queued.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// What a connection needs while it lives.
struct Link {
    shared: Arc<Shared>,
    id: ConnId,
    dc: i32,
    exchange: Option<Exchange>,
    calls: JoinSet<()>,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(shared: Arc<Shared>, dc: i32, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (Ok(src), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let admitted = shared.world().admit(dc, src, local);
    let Some(Admitted { id, outbox, close, fault }) = admitted else { return };
    let (mut reader, writer) = stream.into_split();
    let mut link = Link { shared: shared.clone(), id, dc, exchange: None, calls: JoinSet::new() };
    let mut sending: JoinSet<()> = JoinSet::new();
    let reason = tokio::select! {
        biased;
        () = shared.stopping.cancelled() => "server stops",
        reason = link.run(&mut reader, writer, outbox, &mut sending, fault, close.clone()) => reason,
    };
    let reset = matches!(shared.world().conns.get(&id).and_then(|conn| conn.closing), Some(Closing::Reset));
    if reset {
        let _ = reader.as_ref().set_zero_linger();
        sending.abort_all();
    }
    // Ends the outbox: the sending task writes what is left and closes its half.
    shared.world().release(id, reason);
    shared.note_changes();
    shared.ended.notify_waiters();
    link.calls.abort_all();
    let _ = timeout(DRAIN_MAX, sending.join_next()).await;
}

impl Link {
    async fn run(
        &mut self,
        reader: &mut OwnedReadHalf,
        writer: OwnedWriteHalf,
        outbox: mpsc::Receiver<Outbound>,
        sending: &mut JoinSet<()>,
        fault: Option<Fault>,
        close: CancellationToken,
    ) -> &'static str {
        let mut received = BytesMut::with_capacity(READ_BYTES);
        if let Some(fault) = &fault {
            tokio::select! {
                () = tokio::time::sleep(fault.delay) => {}
                () = close.cancelled() => return "closed by the server",
            }
            match fault.action {
                Some(Action::Drop) => return "fault",
                Some(Action::Silent) => return swallow(reader, &close).await,
                Some(Action::Error(_)) | None => {}
            }
        }
        let Detected { transport, mut decoder, encoder } = loop {
            match detect(&mut received) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(_) => return "unknown transport",
            }
            if let Err(reason) = self.read(reader, &mut received, &close).await {
                return reason;
            }
        };
        if let Some(conn) = self.shared.world().conns.get_mut(&self.id) {
            conn.transport = transport.name();
        }
        sending.spawn(send(self.shared.clone(), self.id, writer, encoder, outbox));
        if let Some(Action::Error(error)) = fault.and_then(|fault| fault.action) {
            return self.refuse(Refused::Code(error.code));
        }
        decoder.feed(&mut received);
        loop {
            if let Err(reason) = self.packets(&mut decoder).await {
                return reason;
            }
            if let Err(reason) = self.read(reader, &mut received, &close).await {
                return reason;
            }
            decoder.feed(&mut received);
        }
    }

    /// Handles all whole packets that have come.
    async fn packets(&mut self, decoder: &mut Decoder) -> Result<(), &'static str> {
        loop {
            let packet = match decoder.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(()),
                Err(_) => return Err("broken frame"),
            };
            if let Some(conn) = self.shared.world().conns.get_mut(&self.id) {
                conn.packets_in += 1;
            }
            self.packet(&packet).await?;
        }
    }

    async fn packet(&mut self, packet: &[u8]) -> Result<(), &'static str> {
        if envelope::key_of(packet).is_ok_and(|key| key.0 == 0) {
            let plain = plain::receive(&self.shared, self.id, self.dc, &mut self.exchange, packet).await;
            return plain.map_err(|code| self.refuse(Refused::Code(code)));
        }
        let pending = {
            let mut world = self.shared.world();
            session::receive(&mut world, self.id, packet)
        };
        self.shared.note_changes();
        for Pending { call, step } in pending.map_err(|refused| self.refuse(refused))? {
            if self.calls.len() >= PENDING_MAX {
                return Err("too many calls at once");
            }
            self.calls.spawn(carry_on(self.shared.clone(), call, step));
        }
        Ok(())
    }

    fn refuse(&self, refused: Refused) -> &'static str {
        let mut world = self.shared.world();
        match refused {
            Refused::Code(code) => {
                world.record(self.id, Kind::Transport, "error", &code.to_string());
                world.queue(self.id, Outbound::Code(code));
                "transport error"
            }
            Refused::Close(reason) => reason,
        }
    }

    /// Waits for more bytes; the error is the reason why the connection ends.
    async fn read(
        &mut self,
        reader: &mut OwnedReadHalf,
        into: &mut BytesMut,
        close: &CancellationToken,
    ) -> Result<(), &'static str> {
        let disconnect_at = self.shared.world().conns.get(&self.id).and_then(|conn| conn.disconnect_at);
        let idle_at = Instant::now() + IDLE_MAX;
        let until = disconnect_at.map_or(idle_at, |at| at.min(idle_at));
        into.reserve(READ_BYTES);
        loop {
            let read = tokio::select! {
                biased;
                read = reader.read_buf(into) => read,
                () = close.cancelled() => return Err("closed by the server"),
                Some(_) = self.calls.join_next() => continue,
                () = tokio::time::sleep_until(until.into()) => return Err("idle"),
            };
            let n = read.map_err(|error| match error.kind() {
                io::ErrorKind::ConnectionReset => "reset by the client",
                _ => "read error",
            })?;
            if n == 0 {
                return Err("closed by the client");
            }
            if let Some(conn) = self.shared.world().conns.get_mut(&self.id) {
                conn.bytes_in += n as u64;
            }
            return Ok(());
        }
    }
}

/// Reads and forgets until the connection ends: a server that never answers.
async fn swallow(reader: &mut OwnedReadHalf, close: &CancellationToken) -> &'static str {
    let mut sink = [0; 1024];
    loop {
        let read = tokio::select! {
            read = reader.read(&mut sink) => read,
            () = close.cancelled() => return "closed by the server",
            () = tokio::time::sleep(IDLE_MAX) => return "idle",
        };
        if !read.is_ok_and(|n| n > 0) {
            return "closed by the client";
        }
    }
}

/// Writes what is queued until the queue ends.
async fn send(
    shared: Arc<Shared>,
    id: ConnId,
    mut writer: OwnedWriteHalf,
    mut encoder: Encoder,
    mut outbox: mpsc::Receiver<Outbound>,
) {
    while let Some(out) = outbox.recv().await {
        let wire = encoder.encode(&out);
        let written = timeout(WRITE_MAX, writer.write_all(&wire)).await;
        let mut world = shared.world();
        let Some(conn) = world.conns.get_mut(&id) else {
            if matches!(written, Ok(Ok(()))) {
                continue;
            }
            return;
        };
        if !matches!(written, Ok(Ok(()))) {
            conn.shut(Closing::Reset, "client does not read");
            return;
        }
        conn.bytes_out += wire.len() as u64;
    }
    let _ = timeout(DRAIN_MAX, writer.shutdown()).await;
}

/// Takes a call that could not be answered at once to its end.
async fn carry_on(shared: Arc<Shared>, mut call: Box<Call>, mut step: Step) {
    loop {
        step = match step {
            Step::Answer(answer) => {
                let mut world = shared.world();
                if rpc::settle(&mut world, &call, &answer) {
                    let message = world.result(call.msg_id, &answer);
                    world.transmit(call.to, vec![message]);
                }
                drop(world);
                shared.note_changes();
                return;
            }
            Step::Silent => return,
            Step::Close => {
                if let Some(conn) = shared.world().conns.get_mut(&call.to.conn) {
                    conn.shut(Closing::Orderly, "fault");
                }
                return;
            }
            Step::Sleep(delay) => {
                tokio::time::sleep(delay).await;
                rpc::advance(&mut shared.world(), &mut call)
            }
            Step::AwaitRivals(at_most) => {
                let ended = shared.ended.notified();
                let gone = { shared.world().rivals(call.to.conn, call.key).is_empty() };
                if !gone {
                    let _ = timeout(at_most, ended).await;
                }
                rpc::advance(&mut shared.world(), &mut call)
            }
            Step::Compute(job) => {
                let Some(finish) = shared.compute(job).await else { return };
                Step::Answer(finish(&mut shared.world(), &call))
            }
        };
    }
}

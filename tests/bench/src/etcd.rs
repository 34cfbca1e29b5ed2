//! The same workers at etcd, over the same kind of channel. Of etcd's messages only the fields that are used are declared;
//! Protocol Buffers skip the others.

use anyhow::{Context as _, ensure};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::rpc::within_deadline;

/// As long as a lease of a session.
const TTL_SECONDS: i64 = 90;

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const TRANSACTION: &str = "/etcdserverpb.KV/Txn";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(string, tag = "4")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseRevokeRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseKeepAliveRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseKeepAliveResponse {
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
struct Compare {
    /// 0 is equal.
    #[prost(int32, tag = "1")]
    result: i32,
    /// 1 is the revision at which the key was created.
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    /// 0: there is no such key.
    #[prost(int64, optional, tag = "5")]
    create_revision: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestOp {
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int64, tag = "3")]
    lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TxnResponse {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteRangeResponse {
    #[prost(int64, tag = "2")]
    deleted: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// A lease of its own for each time.
pub(crate) struct Pairs {
    server: Server,
    key: String,
}

/// One lease that lasts, as the locks of etcd's Go client have it.
pub(crate) struct Locks {
    server: Server,
    key: String,
    lease: i64,
}

/// A lease that lives as long as its stream beats.
pub(crate) struct KeepAlive {
    server: Server,
    lease: i64,
    beats: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl Pairs {
    pub(crate) fn new(channel: Channel, key: String) -> Self {
        Self { server: Server::new(channel), key }
    }

    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        let lease = self.server.grant().await?;
        self.server.create(&self.key, lease).await?;
        self.server.revoke(lease).await
    }
}

impl Locks {
    pub(crate) async fn hold(channel: Channel, key: String) -> anyhow::Result<Self> {
        let mut server = Server::new(channel);
        let lease = server.grant().await?;
        Ok(Self { server, key, lease })
    }

    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        self.server.create(&self.key, self.lease).await?;
        self.server.delete(&self.key).await
    }

    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.server.revoke(self.lease).await
    }
}

impl KeepAlive {
    pub(crate) async fn hold(channel: Channel) -> anyhow::Result<Self> {
        let mut server = Server::new(channel);
        let lease = server.grant().await?;
        let (beats, received) = mpsc::channel(1);
        server.grpc.ready().await?;
        let request = tonic::Request::new(ReceiverStream::new(received));
        let codec = ProstCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::default();
        // The server begins its answer with the first message.
        beats.send(LeaseKeepAliveRequest { id: lease }).await?;
        let path = PathAndQuery::from_static(KEEP_ALIVE);
        let answers = server.grpc.streaming(request, path, codec).await.context(KEEP_ALIVE)?.into_inner();
        let mut worker = Self { server, lease, beats, answers };
        worker.answered().await?;
        Ok(worker)
    }

    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        self.beats.send(LeaseKeepAliveRequest { id: self.lease }).await.context("the stream broke")?;
        self.answered().await
    }

    async fn answered(&mut self) -> anyhow::Result<()> {
        let answer = self.answers.message().await.context(KEEP_ALIVE)?.context("the stream ended")?;
        ensure!(answer.id == self.lease && answer.ttl > 0, "the lease is over");
        Ok(())
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let Self { mut server, lease, .. } = self;
        server.revoke(lease).await
    }
}

struct Server {
    grpc: Grpc<Channel>,
}

impl Server {
    fn new(channel: Channel) -> Self {
        Self { grpc: Grpc::new(channel) }
    }

    async fn grant(&mut self) -> anyhow::Result<i64> {
        let answer: LeaseGrantResponse = self.call(GRANT, LeaseGrantRequest { ttl: TTL_SECONDS }).await?;
        ensure!(answer.error.is_empty(), "no lease: {}", answer.error);
        Ok(answer.id)
    }

    async fn revoke(&mut self, lease: i64) -> anyhow::Result<()> {
        let Nothing {} = self.call(REVOKE, LeaseRevokeRequest { id: lease }).await?;
        Ok(())
    }

    /// Creates the key with the lease, if there is none of that name.
    async fn create(&mut self, key: &str, lease: i64) -> anyhow::Result<()> {
        let key = key.as_bytes().to_vec();
        let absent = Compare { result: 0, target: 1, key: key.clone(), create_revision: Some(0) };
        let put = PutRequest { value: key.clone(), key, lease };
        let request = TxnRequest { compare: vec![absent], success: vec![RequestOp { put: Some(put) }] };
        let answer: TxnResponse = self.call(TRANSACTION, request).await?;
        ensure!(answer.succeeded, "the key is there");
        Ok(())
    }

    async fn delete(&mut self, key: &str) -> anyhow::Result<()> {
        let request = DeleteRangeRequest { key: key.as_bytes().to_vec() };
        let answer: DeleteRangeResponse = self.call(DELETE, request).await?;
        ensure!(answer.deleted == 1, "the key is not there");
        Ok(())
    }

    async fn call<Q, A>(&mut self, path: &'static str, message: Q) -> anyhow::Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.grpc.unary(within_deadline(message), PathAndQuery::from_static(path), codec).await;
        Ok(answer.context(path)?.into_inner())
    }
}

//! A stand-in for the service: answers the calls of a holder as a test tells it, and records them. It keeps no
//! state and proves nothing about the service; it exists for faults that a real server does not produce on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Response, Status};
use usm_client::v1::{self, lease_service_server};
use usm_client::{Client, Credentials, endpoint};

use crate::hold::{Heard, Streams, fake_authorization, refusal};

pub(crate) const LEASE_ID: &str = "lease-id-that-nobody-may-see";
pub(crate) const MATERIAL: &[u8] = b"material-that-nobody-may-see";
pub(crate) const EPOCH: i64 = 7;

/// What the fake does with one call.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Grants or extends for this long.
    Grant(Duration),
    /// The same, but the answer takes its time.
    Late(Duration, Duration),
    /// Refuses with a reason.
    Refuse(Code, &'static str, Option<Duration>),
    /// Never answers.
    Silence,
}

/// One call that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) at: Instant,
    pub(crate) request_id: String,
    pub(crate) connections_closed: bool,
    pub(crate) authorization: String,
    pub(crate) beat: i64,
    pub(crate) activity: Option<prost_types::Timestamp>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    script: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    pub(crate) streams: Streams,
}

impl Fake {
    /// Answers the next calls in this order, and every further one with a grant of 90 s. Serves no streams.
    pub(crate) fn answering(script: impl IntoIterator<Item = Answer>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Self::default() }
    }

    pub(crate) fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().extend(answers);
    }

    pub(crate) fn record(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    pub(crate) fn calls(&self, method: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Serves in this process; the client's connection is a pipe, so that paused time can pass.
    pub(crate) fn serve(&self) -> Client {
        let (pipes, incoming) = mpsc::unbounded_channel::<DuplexStream>();
        let service = lease_service_server::LeaseServiceServer::new(self.clone());
        let incoming = UnboundedReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        let connector = tower::service_fn(move |_| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let sent = pipes.send(theirs);
            async move {
                sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
            }
        });
        let channel = endpoint("http://fake.invalid").unwrap().connect_with_connector_lazy(connector);
        Client::new(channel, Credentials::bearer("open-sesame").unwrap())
    }

    async fn answer<T>(
        &self,
        method: &'static str,
        request: &Request<T>,
        request_id: &str,
        connections_closed: bool,
        activity: Option<prost_types::Timestamp>,
    ) -> Result<v1::Lease, Status> {
        self.record(Call {
            request_id: request_id.to_owned(),
            connections_closed,
            authorization: fake_authorization(request),
            activity,
            ..Call::now(method)
        });
        let answer =
            self.script.lock().unwrap().pop_front().unwrap_or(Answer::Grant(Duration::from_secs(90)));
        match answer {
            Answer::Grant(ttl) => Ok(lease(ttl)),
            Answer::Late(delay, ttl) => {
                tokio::time::sleep(delay).await;
                Ok(lease(ttl))
            }
            Answer::Refuse(code, reason, retry_after) => Err(refusal(code, reason, retry_after)),
            Answer::Silence => std::future::pending().await,
        }
    }
}

pub(crate) fn lease(ttl: Duration) -> v1::Lease {
    v1::Lease {
        lease_id: LEASE_ID.into(),
        tenant_id: "acme".into(),
        app_id: "news".into(),
        holder: "worker-7".into(),
        epoch: EPOCH,
        ttl: ttl.try_into().ok(),
        renew_after: (ttl / 3).try_into().ok(),
        state: v1::LeaseState::Held.into(),
        ..Default::default()
    }
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl lease_service_server::LeaseService for Fake {
    async fn acquire_lease(
        &self,
        request: Request<v1::AcquireLeaseRequest>,
    ) -> Answered<v1::AcquireLeaseResponse> {
        let lease = self.answer("acquire", &request, &request.get_ref().request_id, false, None).await?;
        let material = v1::SessionMaterial { data: MATERIAL.into(), api_id: 1, ..Default::default() };
        Ok(Response::new(v1::AcquireLeaseResponse { lease: Some(lease), material: Some(material) }))
    }

    async fn renew_lease(&self, request: Request<v1::RenewLeaseRequest>) -> Answered<v1::RenewLeaseResponse> {
        let message = request.get_ref();
        let activity = message.last_activity_time;
        let lease = self.answer("renew", &request, &message.request_id, false, activity).await?;
        Ok(Response::new(v1::RenewLeaseResponse { lease: Some(lease) }))
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Answered<v1::ReleaseLeaseResponse> {
        let message = request.get_ref();
        let lease =
            self.answer("release", &request, &message.request_id, message.connections_closed, None).await?;
        Ok(Response::new(v1::ReleaseLeaseResponse { lease: Some(lease) }))
    }

    type HoldLeaseStream = Heard;

    async fn hold_lease(
        &self,
        request: Request<tonic::Streaming<v1::HoldLeaseRequest>>,
    ) -> Answered<Self::HoldLeaseStream> {
        self.open_stream(request).await.map(Response::new)
    }

    async fn save_session(
        &self,
        request: Request<v1::SaveSessionRequest>,
    ) -> Answered<v1::SaveSessionResponse> {
        let message = request.get_ref();
        assert_eq!((message.lease_id.as_str(), message.epoch), (LEASE_ID, EPOCH));
        self.answer("save", &request, &message.request_id, false, None).await?;
        let session = v1::Session { revision: message.data.len() as i64, ..Default::default() };
        Ok(Response::new(v1::SaveSessionResponse { session: Some(session) }))
    }

    /// Advises to stop after an error of Telegram with a code of 401 and above, and to wait after a 420.
    async fn report_session(
        &self,
        request: Request<v1::ReportSessionRequest>,
    ) -> Answered<v1::ReportSessionResponse> {
        let message = request.get_ref();
        assert_eq!((message.lease_id.as_str(), message.epoch), (LEASE_ID, EPOCH));
        self.answer("report", &request, &message.request_id, false, None).await?;
        let code = match &message.answer {
            Some(v1::report_session_request::Answer::Error(error)) => {
                assert!(error.message.len() <= 128 && error.method.len() <= 128);
                error.code
            }
            Some(v1::report_session_request::Answer::ProofOfLife(_)) | None => 0,
        };
        let mut response = v1::ReportSessionResponse::default();
        response.set_advice(match code {
            0 | 420 => v1::HolderAdvice::Continue,
            _ => v1::HolderAdvice::Stop,
        });
        response.retry_after = (code == 420).then_some(prost_types::Duration { seconds: 37, nanos: 0 });
        Ok(Response::new(response))
    }

    async fn get_lease(&self, _: Request<v1::GetLeaseRequest>) -> Answered<v1::GetLeaseResponse> {
        Err(not_faked())
    }

    async fn list_leases(&self, _: Request<v1::ListLeasesRequest>) -> Answered<v1::ListLeasesResponse> {
        Err(not_faked())
    }

    async fn evict_lease(&self, _: Request<v1::EvictLeaseRequest>) -> Answered<v1::EvictLeaseResponse> {
        Err(not_faked())
    }
}

fn not_faked() -> Status {
    Status::unimplemented("the fake does not know this call")
}

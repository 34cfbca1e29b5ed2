//! The sandbox's admin interface, as the phone of the one who scans.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

use super::super::Failure;

/// How long the sandbox may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

pub(super) struct Phone {
    admin: SocketAddr,
    http: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
}

impl Phone {
    pub(super) fn new(admin: SocketAddr) -> Self {
        Self { admin, http: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(http::Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(http::Method::POST, path, Bytes::from(body.to_string())).await
    }

    async fn call(&self, method: http::Method, path: &str, body: Bytes) -> Result<Value, Failure> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.admin))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answered = async {
            let answer = self.http.request(request).await?;
            let status = answer.status();
            let bytes = Limited::new(answer.into_body(), ANSWER_MAX)
                .collect()
                .await
                .map_err(|error| Failure::Failed(format!("the sandbox's answer broke off: {error}")))?
                .to_bytes();
            if status.is_success() {
                Ok(serde_json::from_slice(&bytes)?)
            } else {
                Err(Failure::Failed(format!("the sandbox answered {status} to {path}")))
            }
        };
        tokio::time::timeout(LIMIT, answered)
            .await
            .unwrap_or_else(|_| Err(Failure::Failed(format!("the sandbox did not answer {path}"))))
    }
}

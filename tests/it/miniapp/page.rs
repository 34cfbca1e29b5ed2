//! A page as the service sees it: an HTTP client.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::poll::PATIENCE;

/// Sends requests with one `authorization`, if any.
#[derive(Clone)]
pub(super) struct Page {
    client: Client<HttpConnector, Full<Bytes>>,
    server: SocketAddr,
    authorization: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its status and its reason.
    pub(super) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"]["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// The answer of a call that must succeed.
    pub(super) fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

impl Page {
    pub(super) fn at(server: SocketAddr) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, server, authorization: None }
    }

    pub(super) fn with(&self, authorization: impl Into<String>) -> Self {
        Self { authorization: Some(authorization.into()), ..self.clone() }
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_raw(path, &[("content-type", "application/json")], body.to_string().into_bytes()).await
    }

    pub(super) async fn post_raw(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.send(Method::POST, path, headers, body).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let exchange = async {
            let response = self.open(method, path, headers, body).await;
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            Answer { status: head.status.as_u16(), headers: head.headers, body }
        };
        timeout(PATIENCE, exchange).await.expect("an answer in time")
    }

    /// The answer's head, and a body that may go on.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response<impl http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin + use<>> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.server));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        self.client.request(request).await.expect("a server that answers")
    }
}

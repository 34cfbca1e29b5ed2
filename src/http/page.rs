//! The Mini App's page: files that are built in `miniapp/` and carried in the binary.
//!
//! Knows nothing of logins: the page asks the same routes as everybody.

use axum::{
    Router,
    extract::RawQuery,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

/// Nothing from elsewhere, nothing inline, and no frame but Telegram's web versions.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors https://web.telegram.org https://*.telegram.org 'self'";

/// A file of the page.
#[derive(Clone, Copy)]
struct Asset {
    route: &'static str,
    kind: &'static str,
    body: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        route: "/miniapp/",
        kind: "text/html; charset=utf-8",
        body: include_str!("../../miniapp/dist/index.html"),
    },
    Asset {
        route: "/miniapp/app.js",
        kind: "text/javascript; charset=utf-8",
        body: include_str!("../../miniapp/dist/app.js"),
    },
    Asset {
        route: "/miniapp/app.css",
        kind: "text/css; charset=utf-8",
        body: include_str!("../../miniapp/dist/app.css"),
    },
];

/// `/miniapp/` and what it loads.
pub fn page() -> Router {
    ASSETS.into_iter().fold(Router::new().route("/miniapp", get(add_slash)), |router, asset| {
        let tag = asset.tag();
        router.route(asset.route, get(async move |headers: HeaderMap| asset.answer(&tag, &headers)))
    })
}

/// The page names its files beside itself. What it is asked to do stays in the address.
async fn add_slash(RawQuery(query): RawQuery) -> Redirect {
    match query {
        Some(query) => Redirect::permanent(&format!("/miniapp/?{query}")),
        None => Redirect::permanent("/miniapp/"),
    }
}

impl Asset {
    /// Tells one build's file from another's.
    fn tag(&self) -> String {
        let hash = Sha256::digest(self.body);
        format!("\"{}\"", hex::encode(&hash[..12]))
    }

    fn answer(&self, tag: &str, asked: &HeaderMap) -> Response {
        let headers = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // Kept, but asked for each time: a new version is seen at once.
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, tag),
        ];
        if holds(asked, tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, [(header::CONTENT_TYPE, self.kind)], self.body).into_response()
    }
}

/// Whether the asker has this version. Proxies that compress make the tag a weak one.
fn holds(asked: &HeaderMap, tag: &str) -> bool {
    asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == tag || one == "*")
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::{Method, Request},
    };
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(method: Method, address: &str, tag: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().method(method).uri(address);
        let request = match tag {
            Some(tag) => request.header(header::IF_NONE_MATCH, tag),
            None => request,
        };
        let request = request.body(Body::empty()).expect("a request");
        let (head, body) = page().oneshot(request).await.expect("routers answer").into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body");
        (head.status, head.headers, String::from_utf8(body.into()).expect("text"))
    }

    #[tokio::test]
    async fn each_file_comes_with_its_type_and_the_strict_policy() {
        for asset in ASSETS {
            let (status, headers, body) = ask(Method::GET, asset.route, None).await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, asset.body));
            assert_eq!(headers[header::CONTENT_TYPE], asset.kind);
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
            assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
            assert!(
                policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
                "{policy}"
            );
            assert!(!policy.contains("unsafe") && !policy.contains("  "), "{policy}");
        }
    }

    #[tokio::test]
    async fn a_version_that_the_asker_has_is_not_sent_again() {
        let (_, headers, _) = ask(Method::GET, "/miniapp/app.js", None).await;
        let tag = headers[header::ETAG].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let (status, headers, body) = ask(Method::GET, "/miniapp/app.js", Some(&known)).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{known}");
            assert_eq!(headers[header::ETAG], tag.as_str());
        }
        let (status, ..) = ask(Method::GET, "/miniapp/app.css", Some(&tag)).await;
        assert_eq!(status, StatusCode::OK, "each file has a tag of its own");
    }

    #[tokio::test]
    async fn head_tells_the_length_and_sends_nothing() {
        let (status, headers, body) = ask(Method::HEAD, "/miniapp/", None).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
        assert_eq!(headers[header::CONTENT_LENGTH], ASSETS[0].body.len().to_string().as_str());
    }

    #[tokio::test]
    async fn without_its_slash_the_page_leads_to_it_and_keeps_the_question() {
        let (status, headers, _) = ask(Method::GET, "/miniapp?app_id=news", None).await;
        assert_eq!(status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(headers[header::LOCATION], "/miniapp/?app_id=news");
        let (_, headers, _) = ask(Method::GET, "/miniapp", None).await;
        assert_eq!(headers[header::LOCATION], "/miniapp/");
    }

    #[tokio::test]
    async fn nothing_else_is_there_and_nothing_can_be_sent() {
        for address in
            ["/miniapp/index.html", "/miniapp/app.js.map", "/miniapp/../Cargo.toml", "/miniapp/app.js/"]
        {
            assert_eq!(ask(Method::GET, address, None).await.0, StatusCode::NOT_FOUND, "{address}");
        }
        assert_eq!(ask(Method::POST, "/miniapp/", None).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    /// The policy would refuse it, and the page would stay empty.
    #[test]
    fn the_page_holds_nothing_inline_and_nothing_from_elsewhere() {
        let [index, script, style] = ASSETS.map(|asset| asset.body);
        for word in ["<style", " style=", " onload=", " onclick=", "http://", "https://"] {
            assert!(!index.contains(word), "{word}");
        }
        assert_eq!(index.matches("<script").count(), index.matches("<script src=\"app.js\"").count());
        assert!(!style.contains("url(") && !style.contains("@import"));
        assert!(!script.contains("innerHTML") && !script.contains("eval("));
    }
}

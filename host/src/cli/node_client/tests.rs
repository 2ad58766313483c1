//! The client against a small server of its own.

use axum::{Json, Router, http::Uri, response::IntoResponse};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::cli::exit::{Exit, Failure};

/// Echoes a request as JSON, refuses below `/api/v1/no`, and is no node below `/api/v1/proxy`.
async fn node() -> String {
    let echo = async |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let text =
            |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        Json(json!({
            "method": method.as_str(),
            "uri": uri.to_string(),
            "authorization": text(AUTHORIZATION),
            "content_type": text(CONTENT_TYPE),
            "user_agent": text(USER_AGENT),
            "body": String::from_utf8_lossy(&body),
        }))
    };
    let refuse = async || {
        let problem = Problem {
            kind: "docs/errors/unknown-solution".into(),
            title: "Unknown solution".into(),
            status: 404,
            detail: "There is no solution `x`.\nThere are: a, \x1b[31mb".into(),
            code: "unknown-solution".into(),
        };
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        (StatusCode::NOT_FOUND, kind, serde_json::to_string(&problem).unwrap()).into_response()
    };
    let router = Router::new()
        .route("/api/v1/no", axum::routing::any(refuse))
        .route("/api/v1/proxy", axum::routing::any(async || (StatusCode::BAD_GATEWAY, "<h1>oops")))
        .route("/api/v1/html", axum::routing::any(async || "<h1>hello"))
        .route("/api/v1/never", axum::routing::any(std::future::pending::<()>))
        .fallback(echo);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn failure(call: Call) -> Failure {
    let client = NodeClient::new(&node().await, None).unwrap();
    client.read::<Value>(call).await.unwrap_err().into()
}

#[tokio::test]
async fn a_call_arrives_as_it_was_meant() {
    let address = node().await;
    let client = NodeClient::new(&format!("{address}/below/"), Some("s3cret")).unwrap();
    let call = Call::put(["state", "s", "a/b c?"])
        .query("prefix", Some("x&y"))
        .query("after", None::<String>)
        .json(&json!({"a": 1}));
    let echo: Value = client.read(call).await.unwrap();
    assert_eq!(echo["method"], "PUT");
    assert_eq!(echo["uri"], "/below/api/v1/state/s/a%2Fb%20c%3F?prefix=x%26y");
    assert_eq!(echo["authorization"], "Bearer s3cret");
    assert_eq!(echo["content_type"], "application/json");
    assert_eq!(echo["body"], "{\"a\":1}");
    assert!(echo["user_agent"].as_str().unwrap().starts_with("tandem/"));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_nodes_words_with_its_exit_code() {
    let failure = failure(Call::get(["no"])).await;
    assert_eq!((failure.exit, failure.code.as_str()), (Exit::NotFound, "unknown-solution"));
    assert_eq!(
        failure.to_string(),
        "There is no solution `x`.\nThere are: a, \\u{1b}[31mb [unknown-solution]"
    );
}

#[tokio::test]
async fn what_is_no_node_is_told_apart() {
    let proxy = failure(Call::get(["proxy"])).await;
    assert_eq!((proxy.exit, proxy.code.as_str()), (Exit::Failed, "unexpected-answer"));
    assert!(proxy.message.contains("502"), "{proxy}");
    let html = failure(Call::get(["html"])).await;
    assert_eq!((html.exit, html.code.as_str()), (Exit::Failed, "unreadable-answer"));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_not_waited_for() {
    let failure = failure(Call::get(["never"]).timeout(Duration::from_millis(50))).await;
    assert_eq!((failure.exit, failure.code.as_str()), (Exit::TimedOut, "timed-out"));
}

#[tokio::test]
async fn a_node_that_is_not_there_is_unreachable() {
    // Bound and let go: nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = NodeClient::new(&address.to_string(), None).unwrap();
    let failure: Failure = client.call(Call::get(["status"])).await.unwrap_err().into();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.next.unwrap().contains("tandem run"));
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_it_open_what_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let client = NodeClient::new(&address.to_string(), None).unwrap();
    let failure: Failure = client.call(Call::post(["solutions"])).await.unwrap_err().into();
    assert_eq!((failure.exit, failure.code.as_str()), (Exit::Unreachable, "connection-broke"));
}

#[test]
fn addresses_are_read_kindly_and_strictly() {
    for (text, base) in [
        ("http://127.0.0.1:7400", "http://127.0.0.1:7400"),
        ("localhost:7400", "http://localhost:7400"),
        ("https://tandem.example/a/", "https://tandem.example/a"),
        ("[::1]:7400", "http://[::1]:7400"),
    ] {
        let url = parse_address(text).unwrap();
        assert_eq!(url.as_str().trim_end_matches('/'), base);
    }
    for bad in ["", "ftp://x", "http://x?y=1", "http://x:99999", "http://"] {
        assert!(matches!(parse_address(bad), Err(Error::Address { .. })), "{bad}");
    }
    assert!(matches!(NodeClient::new("http://x", Some("a\nb")), Err(Error::Token)));
}

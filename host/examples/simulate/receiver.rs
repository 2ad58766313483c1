//! Who gets the requests that solutions ask for: writes down what it does, and is not always kind.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::Service};
use tandem::{
    machine::{self, Listener},
    net::http_server,
};
use tokio::sync::watch;

use crate::history::{Call, History};

#[derive(Clone)]
struct Receiver {
    history: History,
    /// From this time on it answers as it should, in ms.
    is_kind: watch::Receiver<bool>,
}

/// Serves for ever.
pub async fn serve(at: SocketAddr, history: History, is_kind: watch::Receiver<bool>) {
    let listener = Listener::bind(at).await.expect("nobody else is there");
    let (_stop, stopped) = watch::channel(false);
    let receiver = Receiver { history, is_kind };
    http_server::serve(listener, receiver, stopped, http_server::Config::default()).await;
}

/// How it behaves, drawn for each request.
enum Mood {
    Fine,
    Slow,
    /// It does what was asked for, and says that it failed.
    DoesAndFails,
    /// It does what was asked for, and never answers.
    DoesAndIsSilent,
    Fails,
}

fn mood() -> Mood {
    match machine::random::<1>()[0] {
        0..=10 => Mood::Slow,
        11..=18 => Mood::DoesAndFails,
        19..=23 => Mood::DoesAndIsSilent,
        24..=30 => Mood::Fails,
        _ => Mood::Fine,
    }
}

impl Service<Request<Incoming>> for Receiver {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mood = if *this.is_kind.borrow() { Mood::Fine } else { mood() };
            let (head, body) = request.into_parts();
            let key = head.headers.get("idempotency-key").and_then(|key| key.to_str().ok());
            let key = key.unwrap_or_default().to_owned();
            let Ok(body) = body.collect().await else { return Ok(answer(400)) };
            if matches!(mood, Mood::Fails) {
                return Ok(answer(503));
            }
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            this.history.log(format!("receiver: {} {key}", head.uri.path()));
            let call = Call { path: head.uri.path().to_owned(), key, body };
            this.history.see().calls.push(call);
            match mood {
                Mood::Slow => tokio::time::sleep(Duration::from_millis(700)).await,
                Mood::DoesAndFails => return Ok(answer(500)),
                Mood::DoesAndIsSilent => std::future::pending().await,
                Mood::Fine | Mood::Fails => {}
            }
            Ok(answer(200))
        })
    }
}

fn answer(status: u16) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).body(Full::default());
    answer.expect("a status is an answer")
}

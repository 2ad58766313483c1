//! hyper that reads a body and answers 202, and keeps nothing: the limit.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;

use crate::Outcome;

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "nothing stops it but its end")]
pub async fn serve(address: SocketAddr) -> Outcome<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A connection that breaks is no concern of the others.
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await
                .ok();
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    request.into_body().collect().await.ok();
    let mut response = Response::new(Full::from(
        r#"{"id":"01a206f1-3f70-7633-a028-d707643f2bea","epoch":1,"seq":1,"durability":0}"#,
    ));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

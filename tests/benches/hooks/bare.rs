//! hyper that reads a body and answers 202, and keeps nothing: the limit.

use std::{convert::Infallible, env, net::SocketAddr, process::Command};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;

use crate::{
    Outcome, Server,
    process::{Process, free_address, wait_for_hook},
};

/// What makes this program such a server; the address follows.
pub const SERVE: &str = "--serve-bare";

pub struct Bare {
    address: SocketAddr,
    _process: Process,
}

impl Bare {
    /// As a process of its own.
    pub fn start() -> Outcome<Self> {
        let address = free_address()?;
        let mut command = Command::new(env::current_exe()?);
        let process = Process::spawn(command.args([SERVE, &address.to_string()]))?;
        wait_for_hook("the bare server", address)?;
        Ok(Self { address, _process: process })
    }
}

impl Server for Bare {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

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

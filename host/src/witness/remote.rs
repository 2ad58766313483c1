//! Asks a `tandem witness`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;

use super::{
    Config, Token, WitnessError,
    wire::{Answer, PAIRS},
};
use crate::{
    model::pair::{Ask, PairId, Record},
    net::http_client::{self, CallError, Client, Roots},
};

/// Of an answer's body; a record is much shorter, and a problem's text is shown to its end.
const ANSWER_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Clone)]
pub struct Remote {
    /// `host:port`.
    at: String,
    token: Option<Token>,
    timeout: Duration,
    client: Client,
}

/// What is read of a problem.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

impl Remote {
    pub(super) fn new(at: String, config: &Config) -> Self {
        let client = Client::new(&http_client::Config {
            connect_timeout: config.connect_timeout,
            // Asks are rare: a connection that was kept may be gone without anybody knowing.
            idle_per_host: 0,
            roots: Roots::Only(Vec::new()),
            ..http_client::Config::default()
        });
        Self { at, token: config.token.clone(), timeout: config.timeout, client }
    }

    pub(super) async fn ask(
        &self,
        pair: PairId,
        ask: &Ask,
    ) -> Result<Option<Record>, WitnessError> {
        let no_answer = |source| WitnessError::NoAnswer { at: self.at.clone(), source };
        let request = self
            .request(pair, ask)
            .map_err(|error| no_answer(CallError::Unsendable(error.to_string())))?;
        let answer = self.client.request(request, self.timeout, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(no_answer)?;
        self.understand(answer.status, &answer.body_prefix)
    }

    fn request(&self, pair: PairId, ask: &Ask) -> hyper::http::Result<Request<Full<Bytes>>> {
        let body = serde_json::to_vec(ask).expect("an ask is JSON");
        let mut request = Request::post(format!("http://{}{PAIRS}{pair}", self.at))
            .header(CONTENT_TYPE, "application/json");
        if let Some(Token(token)) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::from(body))
    }

    fn understand(&self, status: u16, body: &[u8]) -> Result<Option<Record>, WitnessError> {
        let at = self.at.clone();
        let strange = |why: String| WitnessError::Strange { at: self.at.clone(), why };
        if status == 200 {
            let answer = serde_json::from_slice::<Answer>(body);
            return answer.map(|answer| answer.record).map_err(|e| strange(e.to_string()));
        }
        match serde_json::from_slice(body) {
            Ok(Problem { code, detail }) => Err(WitnessError::Refused { at, status, code, detail }),
            Err(_) => Err(strange(format!("it answered with status {status}"))),
        }
    }
}

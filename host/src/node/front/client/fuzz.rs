//! What a fuzzer runs on what a node says of whose request it passes on.

use std::{net::IpAddr, sync::OnceLock};

use hyper::{Request, header::HeaderValue};

use super::{CLIENT, Signer, VALID_MS, sign};
use crate::{
    model::{clock::Clock, fuzz::Input},
    net::{http_server::Client, keys::PairFolder},
};

const KEY: [u8; 32] = [7; 32];
const NOW_MS: u64 = 1_000_000;
const HERE: &str = "10.0.0.2";

/// Only what the other node signed, for this path and lately, is believed.
pub fn believe(mut input: Input<'_>) {
    let signer = Signer {
        folder: PairFolder::of(std::path::Path::new("/nowhere")),
        clock: Clock::manual(NOW_MS),
        key: std::sync::Arc::new(OnceLock::from(KEY)),
    };
    let is_signed = input.byte() & 1 == 1;
    let said = if is_signed {
        // An address and a time of the fuzzer's choice, signed right, for a path that may be another.
        let Some(ip) = text(input.line()).and_then(|text| text.parse::<IpAddr>().ok()) else {
            return;
        };
        let signed_ms = input.long();
        let path = if input.byte() & 1 == 0 { "/hooks/a/b" } else { "/hooks/a/c" };
        format!("{ip} {signed_ms} {}", sign(&KEY, ip, signed_ms, "POST", path).to_hex())
            .into_bytes()
    } else {
        input.line().to_vec()
    };
    let Ok(value) = HeaderValue::from_bytes(&said) else { return };
    let here = Client(HERE.parse().expect("it is an address"));
    let mut request = Request::post("/hooks/a/b").body(()).expect("it is a request");
    request.extensions_mut().insert(here);
    request.headers_mut().insert(CLIENT, value);
    signer.believe(&mut request);
    assert!(!request.headers().contains_key(CLIENT), "what was said goes no further");
    let Some(Client(believed)) = request.extensions().get::<Client>().copied() else {
        panic!("it is known where the request came from")
    };
    if believed != here.0 {
        // Nobody who has no key can say so.
        let parts: Vec<_> = std::str::from_utf8(&said).expect("it was read").split(' ').collect();
        let signed_ms: u64 = parts[1].parse().expect("it was read");
        assert!(signed_ms.abs_diff(NOW_MS) <= VALID_MS);
        let right = sign(&KEY, believed, signed_ms, "POST", "/hooks/a/b").to_hex();
        assert!(parts[2].eq_ignore_ascii_case(&right) && parts[0].parse() == Ok(believed));
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

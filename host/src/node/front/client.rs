//! The address that a request came from, told by the node that passes it on to the one that keeps it.
//!
//! Requests are passed on by plain HTTP, so what says the address is signed with a key that only the two nodes have: a sender
//! that sets the header itself is not believed.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use hyper::{
    Request,
    header::{HeaderName, HeaderValue},
    http::request::Parts,
};

use crate::{
    model::clock::{Clock, UnixMs},
    net::{http_server::Client, keys::PairFolder},
};

/// Address, Unix ms, and the hash of both and of what is asked, keyed.
const CLIENT: HeaderName = HeaderName::from_static("tandem-client");
/// What the key is made for. Never used for another purpose.
const PURPOSE: &str = "tandem 2026-11 address of a client whose request is passed on";
/// What was signed longer ago, by either clock, is not believed.
const VALID_MS: u64 = 60_000;

/// What the nodes of a pair sign addresses with.
#[derive(Debug, Clone)]
pub(in crate::node) struct Signer {
    folder: PairFolder,
    clock: Clock,
    /// Once there is a pair.
    key: Arc<OnceLock<[u8; 32]>>,
}

impl Signer {
    pub fn new(folder: PairFolder, clock: Clock) -> Self {
        Self { folder, clock, key: Arc::default() }
    }

    fn key(&self) -> Option<&[u8; 32]> {
        if self.key.get().is_none() {
            let shared = self.folder.shared().ok().flatten()?;
            self.key.get_or_init(|| blake3::derive_key(PURPOSE, &shared.sealing_key));
        }
        self.key.get()
    }

    /// Says whose request it is, to the other node.
    pub fn sign(&self, head: &mut Parts) {
        head.headers.remove(&CLIENT);
        let client = head.extensions.get::<Client>().copied();
        let (Some(Client(ip)), Some(key)) = (client, self.key()) else { return };
        let now_ms = self.clock.now_ms();
        let hash = sign(key, ip, now_ms, head.method.as_str(), path(&head.uri));
        let value = format!("{ip} {now_ms} {}", hash.to_hex());
        head.headers.insert(CLIENT, HeaderValue::try_from(value).expect("digits and dots"));
    }

    /// Takes over what the other node says of whose request it is, if it is that who says it.
    pub fn believe<B>(&self, request: &mut Request<B>) {
        let Some(said) = request.headers_mut().remove(CLIENT) else { return };
        let read = said.to_str().ok().and_then(|said| {
            let mut parts = said.split(' ');
            let ip: IpAddr = parts.next()?.parse().ok()?;
            let signed_ms: UnixMs = parts.next()?.parse().ok()?;
            let hash = blake3::Hash::from_hex(parts.next()?).ok()?;
            parts.next().is_none().then_some((ip, signed_ms, hash))
        });
        let (Some((ip, signed_ms, hash)), Some(key)) = (read, self.key()) else { return };
        let right = sign(key, ip, signed_ms, request.method().as_str(), path(request.uri()));
        // Hashes are compared in constant time.
        if right == hash && self.clock.now_ms().abs_diff(signed_ms) <= VALID_MS {
            request.extensions_mut().insert(Client(ip));
        }
    }
}

fn path(uri: &hyper::Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

fn sign(key: &[u8; 32], ip: IpAddr, now_ms: UnixMs, method: &str, path: &str) -> blake3::Hash {
    blake3::keyed_hash(key, format!("{ip} {now_ms} {method} {path}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_other_node_is_believed() {
        let data = tempfile::tempdir().unwrap();
        let folder = PairFolder::of(data.path());
        let clock = Clock::manual(1_000_000);
        let signer = Signer::new(folder.clone(), clock.clone());
        let of = |ip: &str| Client(ip.parse().unwrap());
        let request = |path: &str| {
            let mut request = Request::post(path).body(()).unwrap();
            request.extensions_mut().insert(of("10.0.0.7"));
            request.headers_mut().insert(CLIENT, HeaderValue::from_static("1.1.1.1 1 forged"));
            request
        };
        let passed_on = |path: &str| {
            let (mut head, ()) = request(path).into_parts();
            signer.sign(&mut head);
            // It comes from the other node.
            head.extensions.insert(of("10.0.0.2"));
            Request::from_parts(head, ())
        };
        let believed = |mut request: Request<()>| {
            signer.believe(&mut request);
            assert!(!request.headers().contains_key(CLIENT), "it goes no further");
            *request.extensions().get::<Client>().unwrap()
        };
        // Nothing to sign with, so nothing is believed, and what a sender says is not handed on.
        assert!(!passed_on("/a").headers().contains_key(CLIENT));
        assert_eq!(believed(request("/a")), of("10.0.0.7"));

        folder.invite("a:1", 0, Duration::from_mins(1)).unwrap();
        assert_eq!(believed(passed_on("/a?wait=1s")), of("10.0.0.7"));
        assert_eq!(believed(request("/a")), of("10.0.0.7"));
        let other = |change: &dyn Fn(&mut Request<()>)| {
            let mut request = passed_on("/a");
            change(&mut request);
            believed(request)
        };
        assert_eq!(other(&|r| *r.uri_mut() = "/b".parse().unwrap()), of("10.0.0.2"));
        let with = |from: &'static str, to: &'static str| {
            other(&move |request| {
                let said = request.headers()[CLIENT].to_str().unwrap().replace(from, to);
                request.headers_mut().insert(CLIENT, said.try_into().unwrap());
            })
        };
        assert_eq!(with("10.0.0.7", "10.0.0.8"), of("10.0.0.2"));
        assert_eq!(with("1000000", "1000001"), of("10.0.0.2"));
        let (old, new) = (passed_on("/a"), passed_on("/a"));
        clock.advance(Duration::from_mins(1));
        assert_eq!(believed(new), of("10.0.0.7"));
        clock.advance(Duration::from_millis(1));
        assert_eq!(believed(old), of("10.0.0.2"), "it was heard long ago");
    }
}

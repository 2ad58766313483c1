//! Whom a node trusts: keys it was told of, and nobody else. No authority vouches for anybody.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::identity::Fingerprint;

/// The pinned keys. Clones share them; each handshake goes by what is pinned then, links that exist stay.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Held for one look or change.
    pins: Arc<RwLock<BTreeSet<Fingerprint>>>,
}

impl Trust {
    pub fn of(pins: impl IntoIterator<Item = Fingerprint>) -> Self {
        Self { pins: Arc::new(RwLock::new(pins.into_iter().collect())) }
    }

    pub fn has(&self, fingerprint: Fingerprint) -> bool {
        self.pins.read().unwrap_or_else(PoisonError::into_inner).contains(&fingerprint)
    }

    /// Trusts these from now on, and no others.
    pub fn replace(&self, pins: impl IntoIterator<Item = Fingerprint>) {
        let pins = pins.into_iter().collect();
        *self.pins.write().unwrap_or_else(PoisonError::into_inner) = pins;
    }

    pub fn pins(&self) -> Vec<Fingerprint> {
        self.pins.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// Whether a key is accepted; asked in each handshake.
pub(super) type Accepts = Arc<dyn Fn(Fingerprint) -> bool + Send + Sync>;

/// Goes by the key alone: names, dates and issuers of a certificate say nothing here. That the peer has the key is
/// proved by its signature of the handshake.
pub(super) struct Verifier {
    accepts: Accepts,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The peer's key is not accepted.
#[derive(Debug, thiserror::Error)]
#[error("the key {0} is not pinned")]
pub(super) struct NotPinned(pub Fingerprint);

impl Verifier {
    pub fn new(accepts: Accepts) -> Arc<Self> {
        let ring = rustls::crypto::ring::default_provider();
        Arc::new(Self { accepts, algorithms: ring.signature_verification_algorithms })
    }

    fn verify(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let fingerprint = Fingerprint::of(certificate)?;
        if (self.accepts)(fingerprint) {
            return Ok(());
        }
        let why = OtherError(Arc::new(NotPinned(fingerprint)));
        Err(CertificateError::Other(why).into())
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

fn only_tls13<T>() -> Result<T, rustls::Error> {
    Err(rustls::PeerIncompatible::Tls12NotOffered.into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(certificate).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(certificate).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

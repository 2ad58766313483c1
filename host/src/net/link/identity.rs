//! Who a node is: a key pair, and the fingerprint by which the other node knows it.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::KeyPair;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 of a node's public key (its `SubjectPublicKeyInfo`). Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(pub [u8; 32]);

/// A node's own key and certificate; clones share them.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    key: Arc<PrivateKeyDer<'static>>,
    fingerprint: Fingerprint,
}

/// Why a text is no key of a node.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("this is no private key in PEM: {0}")]
    Key(rustls::pki_types::pem::Error),
    #[error("this is no Ed25519 key: {0}")]
    Kind(rcgen::Error),
}

impl Identity {
    /// A new key, that no other node has.
    pub fn generate() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("ring makes such keys");
        Self::certify(&key).expect("the key is good")
    }

    /// With a certificate made for it. What a certificate says but the key counts for nothing, so any will do.
    fn certify(key: &KeyPair) -> Result<Self, rcgen::Error> {
        let mut parameters = rcgen::CertificateParams::default();
        // A date would only make a pair stop one day.
        parameters.not_after = rcgen::date_time_ymd(9999, 12, 31);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "tandem node");
        let certificate = parameters.self_signed(key)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Self::new(key.into(), certificate.der().clone()).expect("they were made for each other"))
    }

    /// From what [`Self::key_pem`] wrote.
    pub fn of_key(key: &str) -> Result<Self, IdentityError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(IdentityError::Key)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519);
        key.and_then(|key| Self::certify(&key)).map_err(IdentityError::Kind)
    }

    fn new(
        key: PrivateKeyDer<'static>,
        certificate: CertificateDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let fingerprint = Fingerprint::of(&certificate)?;
        let ring = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(vec![certificate], key.clone_key(), &ring)?;
        Ok(Self { certified: Arc::new(certified), key: Arc::new(key), fingerprint })
    }

    /// To be kept from everybody.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }

    pub fn certificate_pem(&self) -> String {
        let certificate = self.certified.cert.first().expect("it was made with one");
        pem("CERTIFICATE", certificate)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What a thief can have: the key is this one's, the certificate another's.
    #[cfg(test)]
    pub(super) fn with_certificate_of(&self, other: &Self) -> Self {
        let mut certified = (*self.certified).clone();
        certified.cert.clone_from(&other.certified.cert);
        Self { certified: Arc::new(certified), ..other.clone() }
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

fn pem(what: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines = text.as_bytes().chunks(64).map(|line| {
        let line = std::str::from_utf8(line).expect("base64 is ASCII");
        format!("{line}\n")
    });
    format!("-----BEGIN {what}-----\n{}-----END {what}-----\n", lines.collect::<String>())
}

impl Fingerprint {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let parsed = rustls::server::ParsedCertificate::try_from(certificate)?;
        Ok(Self(Sha256::digest(parsed.subject_public_key_info()).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NoFingerprint;

    fn try_from(text: String) -> Result<Self, NoFingerprint> {
        text.parse()
    }
}

/// A text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (pairs, []) = text.as_bytes().as_chunks() else { return Err(NoFingerprint) };
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NoFingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_file() {
        let identity = Identity::generate();
        let again = Identity::of_key(&identity.key_pem()).unwrap();
        assert_eq!(again.fingerprint(), identity.fingerprint());
        assert_ne!(Identity::generate().fingerprint(), identity.fingerprint());
        assert!(matches!(
            Identity::of_key(&identity.certificate_pem()),
            Err(IdentityError::Key(_))
        ));
        let other_kind = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let other_kind = pem("PRIVATE KEY", other_kind.serialized_der());
        assert!(matches!(Identity::of_key(&other_kind), Err(IdentityError::Kind(_))));
        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint = Identity::generate().fingerprint();
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for wrong in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(66), &"ä".repeat(32)]
        {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint), "{wrong}");
        }
    }
}

//! What a node remembers of the one it invited: not the secret, only how to know it again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::clock::UnixMs;

use super::join::Refusal;

/// So long after its end an invitation still tells who comes why it is too late.
const TOLD_FOR: Duration = Duration::from_hours(24);

/// One invitation; a newer one takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// BLAKE3 of the secret, in hexadecimal digits.
    secret_hash: String,
    pub expires_ms: UnixMs,
    /// Whether somebody has joined by it.
    pub used: bool,
}

impl Invitation {
    pub(super) fn new(secret: &[u8; 16], expires_ms: UnixMs) -> Self {
        let secret_hash = blake3::hash(secret).to_hex().to_string();
        Self { secret_hash, expires_ms, used: false }
    }

    /// Whether who has `secret` may join now. Only who has it hears more than that it is wrong.
    pub(super) fn admits(&self, secret: &[u8; 16], now_ms: UnixMs) -> Result<(), Refusal> {
        let Ok(expected) = blake3::Hash::from_hex(&self.secret_hash) else {
            return Err(Refusal::Wrong);
        };
        // Hashes are compared in constant time.
        if blake3::hash(secret) != expected {
            return Err(Refusal::Wrong);
        }
        if self.used {
            return Err(Refusal::Used);
        }
        if now_ms >= self.expires_ms {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    pub fn is_open(&self, now_ms: UnixMs) -> bool {
        !self.used && now_ms < self.expires_ms
    }

    pub(super) fn is_told(&self, now_ms: UnixMs) -> bool {
        u64::try_from(TOLD_FOR.as_millis())
            .is_ok_and(|told| now_ms < self.expires_ms.saturating_add(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_good_once_for_its_time_and_its_secret() {
        let mut invitation = Invitation::new(&[1; 16], 1000);
        assert_eq!(invitation.admits(&[1; 16], 999), Ok(()));
        assert_eq!(invitation.admits(&[1; 16], 1000), Err(Refusal::Expired));
        assert!(invitation.is_open(999) && !invitation.is_open(1000));
        invitation.used = true;
        assert_eq!(invitation.admits(&[1; 16], 999), Err(Refusal::Used));
        assert_eq!(invitation.admits(&[2; 16], 999), Err(Refusal::Wrong), "it learns no more");
        assert!(!invitation.is_open(999) && invitation.is_told(999));
        assert!(invitation.is_told(86_400_999) && !invitation.is_told(86_401_000));
        let text = serde_json::to_string(&invitation).unwrap();
        assert_eq!(serde_json::from_str::<Invitation>(&text).unwrap(), invitation);
        assert_eq!(
            Invitation { secret_hash: "x".into(), ..invitation }.admits(&[1; 16], 0),
            Err(Refusal::Wrong)
        );
    }
}

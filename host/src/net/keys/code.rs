//! The one-time code that a person carries from one node to the other.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    str::FromStr,
};

use sha2::{Digest, Sha256};

use crate::net::link::Fingerprint;

/// Digits and letters without I, L, O and U, which are taken for others (Crockford's base 32).
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUP: usize = 5;
const CHECK_BYTES: usize = 4;
/// First byte: how the address is written.
const AS_IPV4: u8 = 1;
const AS_TEXT: u8 = 2;

/// What an invitation hands to who joins.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// Of the node that invites, as `host:port`.
    pub address: String,
    pub fingerprint: Fingerprint,
    /// Good for joining once.
    pub secret: [u8; 16],
}

/// Why a text is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("`{0}` is in no code; a code has digits and letters without U, in groups of five")]
    Letter(char),
    #[error("the code has a typing error, or a part of it is missing")]
    Check,
    #[error("the code is of another version of Tandem")]
    Version,
}

/// In groups, as a person types it.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = to_letters(&self.to_bytes());
        for (i, letter) in letters.chars().enumerate() {
            if i > 0 && i % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

/// Its secret is not for a log.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}, {})", self.address, self.fingerprint)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let bytes = from_letters(text)?;
        let (said, check) = bytes.split_last_chunk().ok_or(CodeError::Check)?;
        if *check != check_of(said) {
            return Err(CodeError::Check);
        }
        Self::from_bytes(said).ok_or(CodeError::Version)
    }
}

impl Code {
    fn to_bytes(&self) -> Vec<u8> {
        let as_ipv4 = self.address.parse::<SocketAddrV4>().ok();
        let mut bytes = vec![if as_ipv4.is_some() { AS_IPV4 } else { AS_TEXT }];
        bytes.extend(self.fingerprint.0);
        bytes.extend(self.secret);
        match as_ipv4 {
            Some(address) => {
                bytes.extend(address.ip().octets());
                bytes.extend(address.port().to_be_bytes());
            }
            None => bytes.extend(self.address.as_bytes()),
        }
        bytes.extend(check_of(&bytes));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[kind], rest) = bytes.split_first_chunk()?;
        let (&fingerprint, rest) = rest.split_first_chunk()?;
        let (&secret, rest) = rest.split_first_chunk()?;
        let address = match (kind, rest) {
            (AS_IPV4, &[a, b, c, d, high, low]) => {
                let port = u16::from_be_bytes([high, low]);
                SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port).to_string()
            }
            (AS_TEXT, text) => std::str::from_utf8(text).ok()?.to_owned(),
            _ => return None,
        };
        Some(Self { address, fingerprint: Fingerprint(fingerprint), secret })
    }
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::digest(bytes);
    *digest.first_chunk().expect("a digest is longer")
}

fn to_letters(bytes: &[u8]) -> String {
    let mut letters = String::new();
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            letters.push(LETTERS[(held >> bits) as usize & 31].into());
        }
    }
    if bits > 0 {
        letters.push(LETTERS[(held << (5 - bits)) as usize & 31].into());
    }
    letters
}

/// Reads what a person typed: in any case, grouped in any way, with the letters that look alike.
fn from_letters(text: &str) -> Result<Vec<u8>, CodeError> {
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        let meant = match letter.to_ascii_uppercase() {
            'I' | 'L' => '1',
            'O' => '0',
            other => other,
        };
        let value = LETTERS.iter().position(|&known| char::from(known) == meant);
        let value = value.and_then(|value| u32::try_from(value).ok());
        held = (held << 5) | value.ok_or(CodeError::Letter(letter))?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 255).expect("it is a byte"));
        }
    }
    // What fills the last letter is nothing; otherwise a typing error in it would not show.
    if bits >= 5 || held & ((1 << bits) - 1) != 0 {
        return Err(CodeError::Check);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(address: &str) -> Code {
        let fingerprint = Fingerprint(*b"0123456789abcdefghijklmnopqrstuv");
        Code { address: address.to_owned(), fingerprint, secret: [0xa5; 16] }
    }

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        for address in ["10.0.0.1:7401", "main.example.com:7401", "[2001:db8::1]:7401"] {
            let code = code(address);
            let text = code.to_string();
            assert_eq!(text.parse(), Ok(code.clone()), "{text}");
            assert_eq!(text.to_lowercase().replace('-', " ").parse(), Ok(code.clone()));
            assert_eq!(text.replace('0', "o").replace('1', "l").parse(), Ok(code));
        }
        insta::assert_snapshot!(code("10.0.0.1:7401"), @"04R32-CHK6G-TKCDS-R75GP-4RV4C-NK6ET-39D9N-PRVBE-DXR72-WKKEH-TQD9D-5MPJT-B9D5M-PJTB9-D5MPJ-TB98A-00002-779NK-S7WR8");
    }

    #[test]
    fn a_typing_error_is_found_wherever_it_is() {
        let text = code("10.0.0.1:7401").to_string();
        for (at, letter) in text.char_indices().filter(|(_, letter)| *letter != '-') {
            for other in LETTERS.iter().map(|&other| char::from(other)) {
                let mut wrong = text.clone();
                wrong.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
                let read = wrong.parse::<Code>();
                assert_eq!(read.is_ok(), other == letter, "{at}: {other}: {read:?}");
            }
            assert_eq!(text[..at].parse::<Code>(), Err(CodeError::Check), "cut at {at}");
        }
        assert_eq!("U".parse::<Code>(), Err(CodeError::Letter('U')));
        assert_eq!("".parse::<Code>(), Err(CodeError::Check));
        let mut later = vec![9];
        later.extend(check_of(&later));
        assert_eq!(to_letters(&later).parse::<Code>(), Err(CodeError::Version));
    }

    proptest! {
        #[test]
        fn bytes_survive_as_letters(bytes: Vec<u8>) {
            prop_assert_eq!(from_letters(&to_letters(&bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_breaks_the_reader(text: String) {
            let _ = text.parse::<Code>();
        }
    }
}

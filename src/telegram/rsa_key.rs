//! Public RSA keys of a Telegram server, read from PEM.
//!
//! The two structures that occur, PKCS#1 and SubjectPublicKeyInfo, are a handful of nested elements, so the
//! little of DER that they need is read here.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use grammers_crypto::rsa;
use grammers_tl_types::Serializable as _;
use num_bigint::BigUint;
use sha1::{Digest as _, Sha1};

/// MTProto's padding fills exactly one block of this many bytes.
const MODULUS_LENGTH: usize = 256;
const EXPONENT_LENGTH_MAX: usize = 8;
const PEM_LENGTH_MAX: usize = 16 * 1024;

/// rsaEncryption (1.2.840.113549.1.1.1) with its empty parameters, as an AlgorithmIdentifier holds them.
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Why a text is no usable key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is not a PEM of the kind RSA PUBLIC KEY or PUBLIC KEY")]
    NotPem,
    #[error("it is a private key; give the public one")]
    Private,
    #[error("its content is not an RSA public key")]
    NotRsa,
    #[error("its modulus is not 2048 bits long")]
    ModulusLength,
    #[error("its exponent is not an odd number of 3 or more")]
    Exponent,
}

/// A public key of 2048 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RsaKey {
    /// Big-endian, without leading zeros.
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaKey {
    /// # Errors
    /// `KeyError` tells what the text is instead.
    pub(super) fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = decode_pem(text)?;
        let mut key = match label {
            "RSA PUBLIC KEY" => Der(&der),
            "PUBLIC KEY" => {
                let mut outer = Der(&der);
                let mut info = outer.sequence()?;
                if !outer.0.is_empty() || info.element(Der::SEQUENCE)? != RSA_ENCRYPTION {
                    return Err(KeyError::NotRsa);
                }
                // The first byte of a bit string counts the bits that its last byte lacks.
                match info.element(Der::BIT_STRING)? {
                    [0, bits @ ..] if info.0.is_empty() => Der(bits),
                    _ => return Err(KeyError::NotRsa),
                }
            }
            _ => return Err(KeyError::NotPem),
        };
        let mut numbers = key.sequence()?;
        let (modulus, exponent) = (numbers.positive_integer()?, numbers.positive_integer()?);
        if !key.0.is_empty() || !numbers.0.is_empty() {
            return Err(KeyError::NotRsa);
        }
        Self::from_numbers(modulus, exponent)
    }

    fn from_numbers(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        if modulus.len() != MODULUS_LENGTH || modulus[0] < 0x80 {
            return Err(KeyError::ModulusLength);
        }
        match exponent {
            [] | [1] => return Err(KeyError::Exponent),
            [.., last] if last % 2 == 0 || exponent.len() > EXPONENT_LENGTH_MAX => {
                return Err(KeyError::Exponent);
            }
            _ => {}
        }
        Ok(Self { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// The name MTProto gives the key: the last 64 bits of SHA-1 over modulus and exponent.
    pub(super) fn fingerprint(&self) -> i64 {
        let digest = Sha1::digest(self.to_tl());
        let mut last = [0; 8];
        last.copy_from_slice(&digest[12..]);
        i64::from_le_bytes(last)
    }

    /// Modulus and exponent as two TL strings.
    pub(super) fn to_tl(&self) -> Vec<u8> {
        let mut bytes = self.modulus.to_bytes();
        self.exponent.serialize(&mut bytes);
        bytes
    }

    pub(super) fn to_grammers(&self) -> Option<rsa::Key> {
        let decimal = |bytes: &[u8]| BigUint::from_bytes_be(bytes).to_string();
        rsa::Key::new(&decimal(&self.modulus), &decimal(&self.exponent))
    }
}

fn decode_pem(text: &str) -> Result<(&str, Vec<u8>), KeyError> {
    if text.len() > PEM_LENGTH_MAX {
        return Err(KeyError::NotPem);
    }
    let rest = text.trim().strip_prefix("-----BEGIN ").ok_or(KeyError::NotPem)?;
    let (label, rest) = rest.split_once("-----").ok_or(KeyError::NotPem)?;
    if label.ends_with("PRIVATE KEY") {
        return Err(KeyError::Private);
    }
    let (body, end) = rest.split_once("-----END ").ok_or(KeyError::NotPem)?;
    if end.strip_suffix("-----") != Some(label) {
        return Err(KeyError::NotPem);
    }
    let body: String = body.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(body).map_err(|_| KeyError::NotPem)?;
    Ok((label, der))
}

/// What is left of a DER encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const SEQUENCE: u8 = 0x30;

    /// Takes one element of the kind and returns its content.
    fn element(&mut self, tag: u8) -> Result<&'a [u8], KeyError> {
        let (length, rest) = match self.0 {
            [kind, length @ 0..=0x7f, rest @ ..] if *kind == tag => (usize::from(*length), rest),
            [kind, 0x81, length @ 0x80..=0xff, rest @ ..] if *kind == tag => (usize::from(*length), rest),
            [kind, 0x82, high @ 1..=0xff, low, rest @ ..] if *kind == tag => {
                (usize::from(u16::from_be_bytes([*high, *low])), rest)
            }
            _ => return Err(KeyError::NotRsa),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(KeyError::NotRsa)?;
        self.0 = rest;
        Ok(content)
    }

    fn sequence(&mut self) -> Result<Self, KeyError> {
        self.element(Self::SEQUENCE).map(Self)
    }

    /// Without the zero byte that keeps a number with a high first bit positive.
    fn positive_integer(&mut self) -> Result<&'a [u8], KeyError> {
        match self.element(Self::INTEGER)? {
            [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Ok(rest),
            number if number.first().is_some_and(|first| (1..0x80).contains(first)) => Ok(number),
            _ => Err(KeyError::NotRsa),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One key in both forms, made with OpenSSL for these tests.
    pub(in crate::telegram) const PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAoNvtyouaAi2lNGDGYHh9NNSI2xQ8B97Z5ekfXgiXsjmo3cC/QnNp
BPwhj6sLu0gOOgeTVm5+MViNKpSbXWtcXIMQT5byZ5VbzDCqUenlqjLjpHsq6O77
h1oFOJY7qHNa3+UvUqaCG3DwxnjLhVjAGKjngbK7YhQpkz5jVu3UjsXBz3DCCKlW
J6nzlnCPIlI0g4iPs1OHJav+RgfCdV4qBEnPoeLM+iaZa09uYaqFrTPGL0IsoI3V
VIhWU8Qln9CNh2nnOXX8vab71s+axKQcyAEG3PgZNZxL/ZxgGXj/gdAScV29cF4T
ddSaVW3jdLDCRWd53OmLYJGvL0kY7RuIiwIDAQAB
-----END RSA PUBLIC KEY-----";
    pub(in crate::telegram) const SPKI: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAoNvtyouaAi2lNGDGYHh9
NNSI2xQ8B97Z5ekfXgiXsjmo3cC/QnNpBPwhj6sLu0gOOgeTVm5+MViNKpSbXWtc
XIMQT5byZ5VbzDCqUenlqjLjpHsq6O77h1oFOJY7qHNa3+UvUqaCG3DwxnjLhVjA
GKjngbK7YhQpkz5jVu3UjsXBz3DCCKlWJ6nzlnCPIlI0g4iPs1OHJav+RgfCdV4q
BEnPoeLM+iaZa09uYaqFrTPGL0IsoI3VVIhWU8Qln9CNh2nnOXX8vab71s+axKQc
yAEG3PgZNZxL/ZxgGXj/gdAScV29cF4TddSaVW3jdLDCRWd53OmLYJGvL0kY7RuI
iwIDAQAB
-----END PUBLIC KEY-----";
    const SMALL: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCt19SognjMWmbwPajFGt1YdBY4
NqbEOXfomPM0dz1eBrVCswhQQ6c3jlYJcygbzANULjeBg/6dFc98V0FixuFSS20u
qB5RCdUetgv5nOI7Fqc0UXrvoQuQqTp8X64zLlSDqSDQqjaobAmCCXeKQOl2U2jz
ZhZNb1+vWXnhHAQzPQIDAQAB
-----END PUBLIC KEY-----";

    #[test]
    fn both_forms_of_a_key_are_one_key() {
        let key = RsaKey::from_pem(PKCS1).unwrap();
        assert_eq!(RsaKey::from_pem(SPKI).unwrap(), key);
        assert_eq!(RsaKey::from_pem(&format!("\n{}\n", SPKI.replace('\n', "\r\n"))).unwrap(), key);
        assert_eq!(key.fingerprint(), 145_184_170_207_700_192);
    }

    #[test]
    fn the_fingerprint_of_telegrams_key_is_the_one_telegram_announces() {
        let modulus = "29379598170669337022986177149456128565388431120058863768162556424047512191330847455146576344487764408661701890505066208632169112269581063774293102577308490531282748465986139880977280302242772832972539403531316010870401287642763009136156734339538042419388722777357134487746169093539093850251243897188928735903389451772730245253062963384108812842079887538976360465290946139638691491496062099570836476454855996319192747663615955633778034897140982517446405334423701359108810182097749467210509584293428076654573384828809574217079944388301239431309115013843331317877374435868468779972014486325557807783825502498215169806323";
        let modulus = modulus.parse::<BigUint>().unwrap().to_bytes_be();
        let key = RsaKey::from_numbers(&modulus, &[1, 0, 1]).unwrap();
        assert_eq!(key.fingerprint(), -3_414_540_481_677_951_611);
    }

    #[test]
    fn what_is_no_usable_key_is_told_apart() {
        let private = PKCS1.replace("PUBLIC", "PRIVATE");
        assert_eq!(RsaKey::from_pem(SMALL), Err(KeyError::ModulusLength));
        assert_eq!(RsaKey::from_pem(&private), Err(KeyError::Private));
        assert_eq!(RsaKey::from_pem(&PKCS1.replace("RSA PUBLIC", "PUBLIC")), Err(KeyError::NotRsa));
        assert_eq!(RsaKey::from_pem(""), Err(KeyError::NotPem));
        assert_eq!(RsaKey::from_pem("-----BEGIN PUBLIC KEY-----"), Err(KeyError::NotPem));
    }

    #[test]
    fn a_damaged_encoding_is_refused_wherever_it_is_cut_or_changed() {
        let (_, der) = decode_pem(SPKI).unwrap();
        let pem = |der: &[u8]| {
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", BASE64_STANDARD.encode(der))
        };
        for length in 0..der.len() {
            assert!(RsaKey::from_pem(&pem(&der[..length])).is_err());
        }
        for at in 0..33 {
            let mut changed = der.clone();
            changed[at] ^= 0x40;
            assert!(RsaKey::from_pem(&pem(&changed)).is_err(), "byte {at}");
        }
    }
}

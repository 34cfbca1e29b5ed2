//! An attempt put into bytes, so that another process can go on with it.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    domain::{
        error::{Error, Reason},
        material::{AuthKey, FutureAuthToken},
        secret::{self, Secret},
    },
    telegram::sign_in::{Phase, Phone, Proof, Way},
};

const VERSION: u32 = 2;
const KEYS_MAX: usize = 5;
/// More than any checkpoint needs.
const LENGTH_MAX: usize = 32 * 1024;

/// The keys an attempt made, bound to nobody yet, and where it stands. Whoever holds it can become the account
/// that signs in, so it is sealed wherever it is stored. A bot's token is never in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The data centre to go on with; `None` before the first key.
    pub(super) dc: Option<i32>,
    /// Where it came from, in the middle of a move.
    pub(super) origin: Option<i32>,
    pub(super) keys: BTreeMap<i32, AuthKey>,
    pub(super) way: Note,
}

/// What has to be remembered of the way an account proves itself.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Note {
    Qr,
    Phone {
        number: Secret,
        future_auth_tokens: Vec<FutureAuthToken>,
        /// Of the code that was sent.
        hash: Option<Secret>,
    },
    Bot,
}

impl Note {
    pub(super) fn of(proof: &Proof, phase: &Phase) -> Self {
        match proof {
            Proof::Qr => Self::Qr,
            Proof::Bot => Self::Bot,
            Proof::Phone(phone) => Self::Phone {
                number: phone.number.clone(),
                future_auth_tokens: phone.future_auth_tokens.clone(),
                hash: match phase {
                    Phase::Code { hash, .. } => Some(hash.clone()),
                    _ => None,
                },
            },
        }
    }

    /// Where an attempt goes on that left this note.
    pub(super) fn taken_up(self) -> (Proof, Phase) {
        match self {
            Self::Qr => (Proof::Qr, Phase::Export),
            Self::Bot => (Proof::Bot, Phase::BotForgotten),
            Self::Phone { number, future_auth_tokens, hash } => {
                let phase = match hash {
                    Some(hash) => Phase::Code { hash, sent: None },
                    None => Phase::SendCode { unanswered: 0, moved: None },
                };
                (Proof::Phone(Phone { number, future_auth_tokens }), phase)
            }
        }
    }
}

impl Checkpoint {
    /// Of an attempt that has not begun.
    pub fn before(way: &Way) -> Self {
        let way = match way {
            Way::Qr => Note::Qr,
            Way::Bot { .. } => Note::Bot,
            Way::Phone { number, future_auth_tokens } => Note::Phone {
                number: number.clone(),
                future_auth_tokens: future_auth_tokens.clone(),
                hash: None,
            },
        };
        Self { dc: None, origin: None, keys: BTreeMap::new(), way }
    }

    /// The keys by data centre, to be compared with what became of them.
    pub fn keys(&self) -> &BTreeMap<i32, AuthKey> {
        &self.keys
    }

    /// The phone number, where the account proves itself by one.
    pub fn number(&self) -> Option<&Secret> {
        match &self.way {
            Note::Phone { number, .. } => Some(number),
            Note::Qr | Note::Bot => None,
        }
    }

    /// A JSON text.
    ///
    /// # Errors
    /// `INTERNAL` for one that is too long, which its parts forbid.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        // Room for all, so that the buffer never moves and leaves a copy behind.
        let mut text = Zeroizing::new(vec![0; LENGTH_MAX]);
        let mut room = std::io::Cursor::new(text.as_mut_slice());
        let too_long = |_| Error::new(Reason::Internal, "the login is too large to be kept");
        serde_json::to_writer(&mut room, &Form::of(self)).map_err(too_long)?;
        let length = usize::try_from(room.position()).unwrap_or(LENGTH_MAX);
        // Kept for as long as the login is under way, without the room that was not needed.
        Ok(Zeroizing::new(text[..length].to_vec()))
    }

    /// # Errors
    /// `MATERIAL_INVALID` for bytes that [`Self::to_bytes`] did not make.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        // The parser's own message may quote the text, so it goes no further.
        let form: Form = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        form.into_checkpoint()
    }
}

fn damaged() -> Error {
    Error::new(Reason::MaterialInvalid, "the stored login is damaged")
}

#[derive(Deserialize, Serialize)]
struct Form {
    version: u32,
    dc: Option<i32>,
    origin: Option<i32>,
    keys: BTreeMap<i32, Text>,
    way: WayForm,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum WayForm {
    Qr,
    Phone { number: Text, future_auth_tokens: Vec<Text>, hash: Option<Text> },
    Bot,
}

#[derive(Deserialize, Serialize)]
struct Text(#[serde(with = "secret::plain")] Secret);

impl Text {
    fn of_bytes(bytes: &[u8]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
        BASE64_STANDARD.encode_string(bytes, &mut text);
        Self(Secret::new(text.as_str()))
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        BASE64_STANDARD.decode(self.0.expose_secret()).map(Zeroizing::new).map_err(|_| damaged())
    }
}

impl Form {
    fn of(checkpoint: &Checkpoint) -> Self {
        let keys = checkpoint.keys.iter().map(|(dc, key)| (*dc, Text::of_bytes(key.expose_secret())));
        Self {
            version: VERSION,
            dc: checkpoint.dc,
            origin: checkpoint.origin,
            keys: keys.collect(),
            way: match &checkpoint.way {
                Note::Qr => WayForm::Qr,
                Note::Bot => WayForm::Bot,
                Note::Phone { number, future_auth_tokens, hash } => WayForm::Phone {
                    number: Text(number.clone()),
                    future_auth_tokens: future_auth_tokens
                        .iter()
                        .map(|token| Text::of_bytes(token.expose_secret()))
                        .collect(),
                    hash: hash.clone().map(Text),
                },
            },
        }
    }

    fn into_checkpoint(self) -> Result<Checkpoint, Error> {
        let known = |dc: &i32| (1..=5).contains(dc);
        let sound = self.version == VERSION
            && self.keys.len() <= KEYS_MAX
            && self.keys.keys().all(known)
            && self.dc.iter().all(known)
            && self.origin.iter().all(|dc| self.keys.contains_key(dc));
        if !sound {
            return Err(damaged());
        }
        let keys = self.keys.iter().map(|(dc, key)| Ok((*dc, AuthKey::from_slice(&key.bytes()?)?)));
        let way = match self.way {
            WayForm::Qr => Note::Qr,
            WayForm::Bot => Note::Bot,
            WayForm::Phone { number, future_auth_tokens, hash } => Note::Phone {
                number: number.0,
                future_auth_tokens: future_auth_tokens
                    .iter()
                    .map(|token| Ok(FutureAuthToken::new(token.bytes()?.to_vec())))
                    .collect::<Result<_, Error>>()?,
                hash: hash.map(|hash| hash.0),
            },
        };
        Ok(Checkpoint { dc: self.dc, origin: self.origin, keys: keys.collect::<Result<_, Error>>()?, way })
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("dc", &self.dc).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::material::AUTH_KEY_LENGTH;

    fn checkpoint(way: Note) -> Checkpoint {
        let key = |byte: u8| AuthKey::from_slice(&[byte; AUTH_KEY_LENGTH]).unwrap();
        Checkpoint { dc: Some(4), origin: Some(2), keys: [(2, key(7)), (4, key(9))].into(), way }
    }

    fn by_phone() -> Note {
        Note::Phone {
            number: Secret::new("9996621234"),
            future_auth_tokens: vec![FutureAuthToken::new(vec![1, 2, 3])],
            hash: Some(Secret::new("hash")),
        }
    }

    #[test]
    fn a_checkpoint_survives_its_bytes() {
        for way in [Note::Qr, Note::Bot, by_phone()] {
            let checkpoint = checkpoint(way);
            assert!(Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()).unwrap() == checkpoint);
            assert!(!format!("{checkpoint:?}").contains("999"));
        }
        let seed = Checkpoint::before(&Way::Bot { token: Secret::new("4:secret-of-the-bot") });
        let bytes = seed.to_bytes().unwrap();
        assert!(Checkpoint::from_bytes(&bytes).unwrap() == seed);
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "a bot's token is never stored");
    }

    #[test]
    fn the_largest_checkpoint_fits() {
        let key = AuthKey::from_slice(&[255; AUTH_KEY_LENGTH]).unwrap();
        let way = Note::Phone {
            number: Secret::new("9".repeat(15)),
            future_auth_tokens: vec![
                FutureAuthToken::new(
                    vec![255; crate::domain::material::FUTURE_AUTH_TOKEN_LENGTH_MAX]
                );
                crate::domain::material::FUTURE_AUTH_TOKENS_MAX
            ],
            hash: Some(Secret::new("h".repeat(64))),
        };
        let keys = (1..=5).map(|dc| (dc, key.clone())).collect();
        let checkpoint = Checkpoint { dc: Some(1), origin: None, keys, way };
        assert!(checkpoint.to_bytes().is_ok());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = checkpoint(by_phone()).to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Checkpoint::from_bytes(&bytes[..length]).is_err());
        }
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        for (old, new) in [
            ("\"version\":2", "\"version\":3"),
            ("\"dc\":4", "\"dc\":6"),
            ("\"origin\":2", "\"origin\":3"),
            ("\"4\":\"CQ", "\"4\":\"!Q"),
            ("\"4\":", "\"7\":"),
        ] {
            let changed = text.replacen(old, new, 1);
            assert_ne!(changed, text, "{old}");
            assert!(Checkpoint::from_bytes(changed.as_bytes()).is_err(), "{new}");
        }
    }
}

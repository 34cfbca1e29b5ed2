//! What Telegram says of the user who opened a Mini App, and whether Telegram said it.
//!
//! Two proofs: an HMAC under the bot's token, where the operator gave it, else Telegram's own Ed25519 signature,
//! for which the bot's id is enough. Pure: takes the time, reads no clock, remembers nothing.

#[cfg(test)]
mod tests;

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::domain::{
    error::{Error, Reason},
    miniapp::{BotId, Bots},
    time::Timestamp,
};

/// How long after Telegram signed it an initData starts a login; its date never moves while the page is open.
pub(super) const AGE_MAX: Duration = Duration::from_secs(300);
/// How far Telegram's clock may be ahead of ours.
pub(super) const AHEAD_MAX: Duration = Duration::from_secs(60);
const LENGTH_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 32;
const NAME_LENGTH_MAX: usize = 64;

/// Telegram's base64 comes without padding; other libraries add some.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who opened which bot's Mini App.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InitData {
    pub(super) bot: BotId,
    pub(super) user: i64,
    /// Names what Telegram signed, however it was spelled on the way: a proof serves once.
    pub(super) digest: String,
}

/// Why an initData proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Malformed,
    /// Nobody's signature, or that of a bot which is not configured.
    Forged,
    Stale,
    Early,
    /// It started a login before.
    Used,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let (why, message) = match refused {
            Refused::Malformed => ("malformed", "the initData cannot be read; send it as Telegram gave it"),
            Refused::Forged => ("forged", "the initData is not signed for a bot of this service"),
            Refused::Stale => ("stale", "the initData is too old; open the Mini App again"),
            Refused::Early => ("early", "the initData is from the future; set the clock of the service"),
            Refused::Used => ("used", "the initData was used before; open the Mini App again"),
        };
        Self::new(Reason::Unauthenticated, message).fact("why", why)
    }
}

/// Judges initData for the configured bots.
pub(super) struct Judge {
    bots: Vec<(BotId, Proof)>,
    telegram: UnparsedPublicKey<[u8; 32]>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("bots", &self.bots.len()).finish_non_exhaustive()
    }
}

enum Proof {
    /// HMAC under a key made of the bot's token.
    Token(Zeroizing<[u8; 32]>),
    /// Telegram's signature.
    Telegram,
}

impl Judge {
    pub(super) fn new(bots: &Bots, public_key: [u8; 32]) -> Self {
        let proof = |token: &Option<crate::domain::secret::Secret>| match token {
            Some(token) => {
                Proof::Token(Zeroizing::new(hmac(b"WebAppData", token.expose_secret().as_bytes())))
            }
            None => Proof::Telegram,
        };
        Self {
            bots: bots.iter().map(|(id, bot)| (*id, proof(&bot.token))).collect(),
            telegram: UnparsedPublicKey::new(&ED25519, public_key),
        }
    }

    /// The user and the bot, if Telegram vouches for both and did so a short while ago. Times are judged last, so
    /// that only Telegram's own word is told to be too old.
    pub(super) fn judge(&self, text: &str, now: Timestamp) -> Result<InitData, Refused> {
        let fields = Fields::parse(text)?;
        let (bot, signed) = self.signer(&fields).ok_or(Refused::Forged)?;
        let signed_at = fields.date().ok_or(Refused::Malformed)?;
        if now.since(signed_at) > AGE_MAX {
            return Err(Refused::Stale);
        }
        if signed_at.since(now) > AHEAD_MAX {
            return Err(Refused::Early);
        }
        let user = fields.user().ok_or(Refused::Malformed)?;
        let mut digest = Sha256::new();
        digest.update(b"usm init data");
        digest.update(format!("{bot}\n{signed}"));
        Ok(InitData { bot, user, digest: hex::encode(digest.finalize()) })
    }

    /// The bot whose proof holds, and what the proof is about.
    fn signer(&self, fields: &Fields) -> Option<(BotId, String)> {
        let hash = fields.get("hash").and_then(|hash| hex::decode(hash).ok());
        let signature = fields.get("signature").and_then(|signature| BASE64.decode(signature).ok());
        let (for_token, for_telegram) = (fields.without(&["hash"]), fields.without(&["hash", "signature"]));
        self.bots.iter().find_map(|(bot, proof)| match proof {
            Proof::Token(key) => {
                let holds = mac(key.as_slice(), for_token.as_bytes()).verify_slice(hash.as_deref()?);
                holds.is_ok().then(|| (*bot, for_token.clone()))
            }
            Proof::Telegram => {
                let message = format!("{bot}:WebAppData\n{for_telegram}");
                let holds = self.telegram.verify(message.as_bytes(), signature.as_deref()?);
                holds.is_ok().then(|| (*bot, for_telegram.clone()))
            }
        })
    }
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    mac(key, message).finalize().into_bytes().into()
}

/// The fields, decoded and in the order in which they are signed.
struct Fields(Vec<(String, String)>);

#[derive(Deserialize)]
struct User {
    id: i64,
}

impl Fields {
    /// Everything that would let two lists of fields have one signed form is refused: a field given twice, a name
    /// with more than letters in it, and control characters, among them the line feed that joins fields.
    fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > LENGTH_MAX {
            return Err(Refused::Malformed);
        }
        let mut fields = Vec::new();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').ok_or(Refused::Malformed)?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let value = decode(value).ok_or(Refused::Malformed)?;
            let sound = (1..=NAME_LENGTH_MAX).contains(&name.len())
                && name.bytes().all(plain)
                && !value.chars().any(char::is_control);
            if !sound || fields.len() == FIELDS_MAX {
                return Err(Refused::Malformed);
            }
            fields.push((name.to_owned(), value));
        }
        fields.sort();
        if fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Refused::Malformed);
        }
        Ok(Self(fields))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn without(&self, left_out: &[&str]) -> String {
        let fields = self.0.iter().filter(|(name, _)| !left_out.contains(&name.as_str()));
        fields.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
    }

    fn date(&self) -> Option<Timestamp> {
        let text = self.get("auth_date").filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        text.parse::<i64>().ok()?.checked_mul(1000).map(Timestamp::from_millis)
    }

    fn user(&self) -> Option<i64> {
        let user: User = serde_json::from_str(self.get("user")?).ok()?;
        Some(user.id).filter(|id| *id > 0)
    }
}

/// Text as forms and links carry it; `None` for what no encoder writes.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                16 * digit(rest.next()?)? + digit(rest.next()?)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

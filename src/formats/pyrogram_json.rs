//! Session files of Pyrogram 0.11 and older: JSON, with the key cut into pieces of base64.

use base64::engine::general_purpose::STANDARD;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use zeroize::Zeroizing;

use super::{
    Addresses, Error, Item, Note, Parsed, encoded, key,
    pyrogram::Told,
    raw::{SecretText, malformed},
};
use crate::domain::material::{AUTH_KEY_LENGTH, Format};

/// Eight pieces make a key; more than this many characters make none.
const KEY_TEXT_MAX: usize = AUTH_KEY_LENGTH * 2;

#[derive(Deserialize)]
struct Document {
    dc_id: i64,
    test_mode: bool,
    auth_key: Option<KeyText>,
    user_id: Option<i64>,
    is_bot: Option<bool>,
    #[serde(default)]
    date: i64,
    #[serde(default)]
    peers_by_id: Count,
}

/// The key in base64, put together: it comes in pieces, or whole as the oldest releases had it.
struct KeyText(Zeroizing<String>);

/// How many entries a list or an object has, without keeping them.
#[derive(Default)]
struct Count(u64);

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let document: Document = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    let auth_key = key::auth_key(&document.auth_key.ok_or(Error::NoKey)?.decoded()?)?;
    let mut notes = Vec::new();
    let told = Told {
        dc: document.dc_id,
        test: document.test_mode,
        auth_key,
        user_id: document.user_id.ok_or(Error::NotSignedIn)?,
        is_bot: document.is_bot,
        api_id: 0,
        address: None,
    };
    let material = told.into_material(addresses, &mut notes)?;
    if document.peers_by_id.0 > 0 {
        notes.push(Note::NotCarried(Item::Peers(document.peers_by_id.0)));
    }
    if document.date != 0 {
        notes.push(Note::NotCarried(Item::SaveTime));
    }
    Ok(Parsed { material, format: Format::PyrogramSqlite, notes })
}

impl KeyText {
    fn new() -> Self {
        Self(Zeroizing::new(String::with_capacity(KEY_TEXT_MAX)))
    }

    fn push<E: de::Error>(&mut self, piece: &str) -> Result<(), E> {
        if self.0.len() + piece.len() > KEY_TEXT_MAX {
            return Err(E::custom("a key that is too long"));
        }
        self.0.push_str(piece);
        Ok(())
    }

    fn decoded(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        encoded::decode(&STANDARD, &self.0).ok_or(Error::StringMalformed("its key is not base64"))
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pieces;

        impl<'de> Visitor<'de> for Pieces {
            type Value = KeyText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, whole: &str) -> Result<KeyText, E> {
                let mut text = KeyText::new();
                text.push(whole)?;
                Ok(text)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pieces: A) -> Result<KeyText, A::Error> {
                let mut text = KeyText::new();
                while let Some(piece) = pieces.next_element::<SecretText>()? {
                    text.push(piece.expose_secret())?;
                }
                Ok(text)
            }
        }

        deserializer.deserialize_any(Pieces)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Count;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list or an object")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while entries.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }

        deserializer.deserialize_any(Entries)
    }
}

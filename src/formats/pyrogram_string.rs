//! Pyrogram's session strings, and those of Kurigram, Hydrogram and Pyrofork: unpadded URL-safe base64 of fields
//! without an address. Three layouts are read; the third is written, the only one that Hydrogram reads.
//!
//! A string of data centre 3 begins like one of mtcute, version 3. Lengths tell them apart.

use zeroize::Zeroizing;

use super::{
    Addresses, Error, Note, Parsed, Written, encoded, key,
    pyrogram::{self, Told},
    tl,
};
use crate::domain::material::{AUTH_KEY_LENGTH, Format, Material};

/// Decoded lengths. Data centre 1, test flag 1, key 256, user id 4 or 8, bot flag 1; the third has an api_id of 4
/// behind the data centre.
const V1_LENGTH: usize = 1 + 1 + AUTH_KEY_LENGTH + 4 + 1;
const V2_LENGTH: usize = 1 + 1 + AUTH_KEY_LENGTH + 8 + 1;
const V3_LENGTH: usize = 1 + 4 + 1 + AUTH_KEY_LENGTH + 8 + 1;
/// What a user id may be in each of the older layouts: releases that wrote the first knew 32 bits with a sign.
const V1_USER_ID_MAX: u64 = (1 << 31) - 1;
const V2_USER_ID_MAX: u64 = (1 << 53) - 1;
/// In the first layout, where the third has its test flag.
const V3_TEST_AT: usize = 1 + 4;

/// Whether the bytes have the length of one of the layouts. No other library's have.
pub(super) fn has_length(bytes: &[u8]) -> bool {
    matches!(bytes.len(), V1_LENGTH | V2_LENGTH | V3_LENGTH)
}

/// What a string holds, not yet judged.
struct Fields<'a> {
    dc: u8,
    api_id: u32,
    test: u8,
    auth_key: &'a [u8],
    user_id: u64,
    bot: u8,
}

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let bytes = encoded::url_safe(text)?;
    let Fields { dc, api_id, test, auth_key, user_id, bot } =
        fields(&bytes).ok_or(Error::StringMalformed("it is cut or has something appended"))?;
    let mut notes = Vec::new();
    mind_the_end(&bytes, user_id, &mut notes)?;
    let told = Told {
        test: flag(test)?,
        is_bot: Some(flag(bot)?),
        dc: dc.into(),
        auth_key: key::auth_key(auth_key)?,
        // Beyond what an id can be is as implausible as below.
        user_id: i64::try_from(user_id).unwrap_or(-1),
        api_id: api_id.into(),
        address: None,
    };
    let material = told.into_material(addresses, &mut notes)?;
    Ok(Parsed { material, format: Format::PyrogramString, notes })
}

fn fields(bytes: &[u8]) -> Option<Fields<'_>> {
    let mut rest = bytes;
    let [dc] = *tl::take(&mut rest)?;
    let api_id = if bytes.len() == V3_LENGTH { u32::from_be_bytes(*tl::take(&mut rest)?) } else { 0 };
    let [test] = *tl::take(&mut rest)?;
    let auth_key: &[u8; AUTH_KEY_LENGTH] = tl::take(&mut rest)?;
    let user_id = if bytes.len() == V1_LENGTH {
        u32::from_be_bytes(*tl::take(&mut rest)?).into()
    } else {
        u64::from_be_bytes(*tl::take(&mut rest)?)
    };
    let [bot] = *tl::take(&mut rest)?;
    rest.is_empty().then_some(Fields { dc, api_id, test, auth_key, user_id, bot })
}

/// A string of the third layout may be cut to the length of an older one. Its key is then off by four bytes, and random
/// bytes of it are where the user id belongs; nothing else is odd.
fn mind_the_end(bytes: &[u8], user_id: u64, notes: &mut Vec<Note>) -> Result<(), Error> {
    let may_be_cut = bytes[V3_TEST_AT] <= 1;
    let is_cut = match bytes.len() {
        V1_LENGTH => may_be_cut && user_id > V1_USER_ID_MAX,
        V2_LENGTH => user_id > V2_USER_ID_MAX,
        _ => false,
    };
    if is_cut {
        return Err(Error::StringMalformed(
            "a longer one, cut to the length of one that older releases wrote",
        ));
    }
    if bytes.len() == V1_LENGTH && may_be_cut {
        notes.push(Note::MaybeCut);
    }
    Ok(())
}

/// Beside the length these are all that tells a string from any other text.
fn flag(byte: u8) -> Result<bool, Error> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::StringMalformed("it has the length of a Pyrogram string, but not its fields")),
    }
}

pub(super) fn write(material: &Material, addresses: &Addresses) -> Result<Written, Error> {
    let fields = pyrogram::Fields::of(material, addresses)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(V3_LENGTH));
    bytes.push(fields.dc);
    bytes.extend_from_slice(&fields.api_id.to_be_bytes());
    bytes.push(fields.test.into());
    bytes.extend_from_slice(fields.auth_key.expose_secret());
    bytes.extend_from_slice(&fields.user_id.to_be_bytes());
    bytes.push(fields.is_bot.into());
    Ok(Written { data: encoded::to_url_safe(&bytes), notes: fields.notes })
}

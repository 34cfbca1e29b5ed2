//! Base64 as session strings have it, into and out of memory that is wiped.

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use super::Error;

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Libraries strip the padding, and add it again before they decode.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);

/// Decodes URL-safe base64, padded or not.
///
/// # Errors
/// `StringMalformed`, with what is wrong.
pub(super) fn url_safe(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let padding = text.len() - text.trim_end_matches('=').len();
    if padding > 0 && !text.len().is_multiple_of(4) {
        return Err(Error::StringMalformed("a part of its padding is missing"));
    }
    decode(&URL_SAFE, text).ok_or_else(|| {
        Error::StringMalformed(if decode(&STANDARD, text).is_some() {
            "it is in the standard alphabet of base64, where the URL-safe one belongs"
        } else {
            "characters that do not belong, or one that is missing"
        })
    })
}

/// Of the final size at once, in both directions: growing would leave copies behind.
pub(super) fn decode(engine: &impl base64::Engine, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    engine.decode_vec(text, &mut bytes).is_ok().then_some(bytes)
}

/// Unpadded.
pub(super) fn to_url_safe(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    to_text(&URL_SAFE_NO_PAD, "", bytes)
}

/// The bytes in base64, with something before them.
pub(super) fn to_text(engine: &impl base64::Engine, before: &str, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(String::with_capacity(before.len() + bytes.len().div_ceil(3) * 4));
    text.push_str(before);
    engine.encode_string(bytes, &mut text);
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}

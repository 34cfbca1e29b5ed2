//! MTKruto's session string, read only: unpadded URL-safe base64 of data centre and key, with runs of zeros told by
//! their length.

use zeroize::Zeroizing;

use super::{Addresses, Error, Note, Parsed, address, encoded, key, tl};
use crate::domain::material::{AUTH_KEY_LENGTH, Format};

/// What a data centre of the test environment is called behind its number.
const TEST: &str = "-test";
/// The name of a data centre and a key, each with its length and padding, take less.
const LENGTH_MAX: usize = AUTH_KEY_LENGTH + 32;

/// Whether the bytes are MTKruto's. No other library's have the layout.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    unpacked(bytes).is_some_and(|bytes| fields(&bytes).is_some())
}

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let packed = encoded::url_safe(text)?;
    let malformed = Error::StringMalformed("it is cut, or not as MTKruto writes it");
    let bytes = unpacked(&packed).ok_or(malformed.clone())?;
    let (dc, test, auth_key) = fields(&bytes).ok_or(malformed)?;
    let home_dc = key::home_dc(dc)?;
    let auth_key = key::auth_key(auth_key)?;
    let mut notes = vec![Note::ReadOnlyForm("MTKruto")];
    let address = address::with_test_flag(home_dc, None, test, &mut notes);
    if let Some(address) = address {
        address::judge(home_dc, address, addresses, &mut notes);
    }
    Ok(Parsed { material: key::material(home_dc, auth_key, address), format: Format::Raw, notes })
}

/// A zero stands for as many as the next byte says.
fn unpacked(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(LENGTH_MAX));
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        let run = if *byte == 0 { usize::from(*rest.next()?) } else { 1 };
        if out.len() + run > LENGTH_MAX {
            return None;
        }
        let end = out.len() + run;
        out.resize(end, *byte);
    }
    Some(out)
}

fn fields(bytes: &[u8]) -> Option<(i64, bool, &[u8])> {
    let mut rest = bytes;
    let name = std::str::from_utf8(tl::take_bytes(&mut rest)?).ok()?;
    let auth_key = tl::take_bytes(&mut rest)?;
    if !rest.is_empty() || auth_key.len() != AUTH_KEY_LENGTH {
        return None;
    }
    let (number, test) = name.strip_suffix(TEST).map_or((name, false), |number| (number, true));
    let is_number = (1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, test, auth_key))
}

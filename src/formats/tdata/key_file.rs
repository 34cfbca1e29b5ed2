//! `key_datas`: which accounts there are, and the local key, sealed under the passcode.
//!
//! Before TDesktop 7.3 it holds a salt, the sealed local key and the sealed list. 7.3 appends a fourth array: where a
//! passcode is set, the local key is sealed there under Argon2id or scrypt, and the second array is null.

use zeroize::Zeroizing;

use super::{
    kdf::{self, Costly},
    seal::{LOCAL_KEY_LENGTH, LocalKey, NotOpened, fill_random},
    stream::{Cut, Stream, put_blob, secret_buffer},
};
use crate::formats::Error;

const SALT_LENGTH: usize = 32;
/// "KD2": begins the fourth array.
const TRAILER_MAGIC: u32 = 0x4b44_3200;
const TRAILER_FORMAT: u32 = 2;
const WRAPS_MAX: u32 = 2;
/// Of formats that are newer than what is known here.
const NEWER_WRAPS_MAX: u32 = 16;
const WRAP_SALT_LENGTH_MIN: usize = 8;
const ARGON2ID: u32 = 1;
const SCRYPT: u32 = 2;
/// More accounts than even modified programs allow.
pub(super) const ACCOUNTS_MAX: usize = 256;

/// An opened key file.
pub(super) struct Opened {
    pub(super) local_key: LocalKey,
    /// The accounts in their order, each once.
    pub(super) indexes: Vec<u32>,
    /// A passcode was given, and there is none.
    pub(super) is_passcode_unused: bool,
}

/// Opens the payload of a key file. May take seconds and 256 MiB; `passcode` is empty for none.
///
/// # Errors
/// `PasscodeNeeded`, `WrongPasscode`, `PasscodeCost`, `TdataDamaged`.
pub(super) fn open(payload: &[u8], passcode: &str) -> Result<Opened, Error> {
    let mut stream = Stream::of(payload);
    let (salt, sealed_key, sealed_list) = (|| Ok((stream.blob()?, stream.blob()?, stream.blob()?)))()
        .map_err(|Cut| Error::TdataDamaged("the key file's arrays"))?;
    if salt.len() != SALT_LENGTH {
        return Err(Error::TdataDamaged("the key file's salt"));
    }
    let trailer = if stream.is_at_end() { None } else { Some(trailer(&mut stream)?) };
    let has_open_key = !sealed_key.is_empty();
    let live = trailer.iter().flatten().find(|wrap| wrap.is_live);

    let mut opened = None;
    if !passcode.is_empty() {
        if let Some(wrap) = live {
            opened = wrap.open(passcode)?;
        } else if trailer.is_none() {
            opened = local_key(sealed_key, &kdf::pbkdf2(passcode, salt))?;
        }
    }
    let with_passcode = opened.is_some();
    if opened.is_none() && has_open_key {
        opened = local_key(sealed_key, &kdf::pbkdf2("", salt))?;
    }
    let local_key = match opened {
        Some(key) => key,
        None if !has_open_key && live.is_none() => {
            return Err(Error::TdataDamaged("the key file holds no key"));
        }
        None if passcode.is_empty() => return Err(Error::PasscodeNeeded),
        None => return Err(Error::WrongPasscode),
    };
    let list = local_key.open(sealed_list).map_err(|_| Error::TdataDamaged("the list of accounts"))?;
    Ok(Opened {
        local_key,
        indexes: indexes(&list)?,
        is_passcode_unused: !with_passcode && !passcode.is_empty(),
    })
}

/// `None` if it is sealed under another key.
fn local_key(sealed: &[u8], under: &LocalKey) -> Result<Option<LocalKey>, Error> {
    match under.open(sealed) {
        Ok(plain) => {
            LocalKey::from_slice(&plain).map(Some).ok_or(Error::TdataDamaged("the local key's length"))
        }
        Err(NotOpened::Key) => Ok(None),
        Err(NotOpened::Shape) => Err(Error::TdataDamaged("the sealed local key")),
    }
}

/// A local key sealed under a passcode, since 7.3.
struct Wrap<'a> {
    /// Of the generation that counts; others were left by a change of the passcode that did not end well.
    is_live: bool,
    costs: Costly,
    salt: &'a [u8],
    sealed_key: &'a [u8],
}

impl Wrap<'_> {
    fn open(&self, passcode: &str) -> Result<Option<LocalKey>, Error> {
        local_key(self.sealed_key, &self.costs.derive(passcode, self.salt)?)
    }
}

fn trailer<'a>(stream: &mut Stream<'a>) -> Result<Vec<Wrap<'a>>, Error> {
    const CUT: fn(Cut) -> Error = |Cut| Error::TdataDamaged("the key file's fourth array");
    let mut stream = Stream::of(stream.blob().map_err(CUT)?);
    let [magic, format, committed, count] =
        [stream.u32().map_err(CUT)?, stream.u32().map_err(CUT)?, stream.u32().map_err(CUT)?, {
            stream.u32().map_err(CUT)?
        }];
    let count_max = if format > TRAILER_FORMAT { NEWER_WRAPS_MAX } else { WRAPS_MAX };
    if magic != TRAILER_MAGIC || count > count_max {
        return Err(CUT(Cut));
    }
    (0..count).map(|_| wrap(&mut stream, committed, CUT)).collect()
}

fn wrap<'a>(stream: &mut Stream<'a>, committed: u32, cut: fn(Cut) -> Error) -> Result<Wrap<'a>, Error> {
    let mut next = || stream.u32().map_err(cut);
    let (kind, generation, a, b, c) = (next()?, next()?, next()?, next()?, next()?);
    let costs = match kind {
        ARGON2ID => Costly::Argon2id { memory_kib: a, time: b, lanes: c },
        SCRYPT => Costly::Scrypt { n: a, r: b, p: c },
        _ => return Err(Error::TdataDamaged("an unknown way from passcode to key")),
    };
    let wrap = Wrap {
        is_live: generation == committed,
        costs: costs.check()?,
        salt: stream.blob().map_err(cut)?,
        sealed_key: stream.blob().map_err(cut)?,
    };
    if wrap.salt.len() < WRAP_SALT_LENGTH_MIN {
        return Err(Error::TdataDamaged("the passcode's salt"));
    }
    Ok(wrap)
}

fn indexes(list: &[u8]) -> Result<Vec<u32>, Error> {
    const ODD: Error = Error::TdataDamaged("the list of accounts");
    let mut stream = Stream::of(list);
    let count = stream.i32().ok().and_then(|count| usize::try_from(count).ok()).ok_or(ODD)?;
    if count == 0 || count > ACCOUNTS_MAX {
        return Err(ODD);
    }
    let mut indexes = Vec::new();
    for _ in 0..count {
        let index = stream.u32().map_err(|Cut| ODD)?;
        if usize::try_from(index).map_or(true, |index| index >= ACCOUNTS_MAX) {
            return Err(ODD);
        }
        if !indexes.contains(&index) {
            indexes.push(index);
        }
    }
    Ok(indexes)
}

/// The payload of a key file as TDesktop wrote it before 7.3, which every version reads. `passcode` is empty for none.
///
/// # Errors
/// `Internal` if the system has no randomness.
pub(super) fn write(local_key: &LocalKey, passcode: &str, accounts: u32) -> Result<Vec<u8>, Error> {
    let mut salt = [0; SALT_LENGTH];
    fill_random(&mut salt)?;
    let mut plain = secret_buffer(LOCAL_KEY_LENGTH);
    plain.extend_from_slice(local_key.bytes());
    let sealed_key = kdf::pbkdf2(passcode, &salt).seal(&plain)?;

    // The count, the indexes, and which one is in front.
    let mut list = Zeroizing::new(Vec::new());
    for number in std::iter::once(accounts).chain(0..accounts).chain([0]) {
        list.extend_from_slice(&number.to_be_bytes());
    }
    let sealed_list = local_key.seal(&list)?;
    let mut payload = Vec::new();
    for blob in [&salt[..], &sealed_key, &sealed_list] {
        put_blob(&mut payload, blob);
    }
    Ok(payload)
}

//! mtcute's session string, version 3: unpadded URL-safe base64 of one data centre or two (its own for media), the
//! account and the key.

use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use super::{Addresses, Error, Item, Note, Parsed, Written, address, encoded, key, tl};
use crate::domain::material::{AUTH_KEY_LENGTH, Format, Material};

const VERSION: u8 = 3;
/// Flags of the string.
const HAS_SELF: u32 = 1;
const OLD_TEST: u32 = 2;
const HAS_MEDIA: u32 = 4;
/// Flags of a data centre, and the versions its record has had; the first had no test flag.
const DC_IPV6: u8 = 1;
const DC_MEDIA_ONLY: u8 = 2;
const DC_TEST: u8 = 4;
const DC_VERSION: u8 = 2;
const DC_VERSION_OLD: u8 = 1;
/// Telegram's `boolTrue` and `boolFalse`.
const TRUE: [u8; 4] = 0x9972_75b5_u32.to_le_bytes();
const FALSE: [u8; 4] = 0xbc79_9737_u32.to_le_bytes();
/// Larger ids do not survive in JavaScript.
const USER_ID_MAX: i64 = (1 << 53) - 1;
/// Of the longest string that is written.
const LENGTH_MAX: usize = 512;

/// Whether the bytes can be mtcute's: the version, and more than any string of Pyrogram's has.
pub(super) fn is_like_one(bytes: &[u8]) -> bool {
    bytes.first() == Some(&VERSION) && bytes.len() > 1 + 4 + 4 + AUTH_KEY_LENGTH + 4
}

/// A data centre as the string tells it.
struct Dc {
    id: i64,
    host: String,
    port: i32,
    test: bool,
}

/// What the string holds, not yet judged.
struct Fields<'a> {
    main: Dc,
    media: Option<Dc>,
    old_test: bool,
    account: Option<(i64, bool)>,
    auth_key: &'a [u8],
}

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let bytes = encoded::url_safe(text)?;
    let Fields { main, media, old_test, account, auth_key } =
        fields(&bytes).ok_or(Error::StringMalformed("it is cut, or not as mtcute writes it"))?;
    let auth_key = key::auth_key(auth_key)?;
    let home_dc = key::home_dc(main.id)?;
    let mut notes = Vec::new();
    let address = address::told(Some(&main.host), Some(main.port.into()), &mut notes)?;
    let address = address::with_test_flag(home_dc, address, main.test || old_test, &mut notes);
    if let Some(address) = address {
        address::judge(home_dc, address, addresses, &mut notes);
    }
    if media.is_some_and(|media| (media.host, media.port) != (main.host, main.port)) {
        notes.push(Note::NotCarried(Item::MediaAddress));
    }
    let mut material = key::material(home_dc, auth_key, address);
    if let Some((id, is_bot)) = account {
        material.telegram_user_id = key::user_id(id, &mut notes);
        material.is_bot = Some(is_bot);
    }
    Ok(Parsed { material, format: Format::MtcuteString, notes })
}

fn fields(bytes: &[u8]) -> Option<Fields<'_>> {
    let (version, mut rest) = bytes.split_first()?;
    let flags = u32::from_le_bytes(*tl::take(&mut rest)?);
    if *version != VERSION || flags & !(HAS_SELF | OLD_TEST | HAS_MEDIA) != 0 {
        return None;
    }
    let main = dc(tl::take_bytes(&mut rest)?)?;
    let media = if flags & HAS_MEDIA == 0 { None } else { Some(dc(tl::take_bytes(&mut rest)?)?) };
    let account = if flags & HAS_SELF == 0 {
        None
    } else {
        let id = i64::from_le_bytes(*tl::take(&mut rest)?);
        let is_bot = match *tl::take(&mut rest)? {
            TRUE => true,
            FALSE => false,
            _ => return None,
        };
        Some((id, is_bot))
    };
    let auth_key = tl::take_bytes(&mut rest)?;
    rest.is_empty().then_some(Fields { main, media, old_test: flags & OLD_TEST != 0, account, auth_key })
}

fn dc(bytes: &[u8]) -> Option<Dc> {
    let mut rest = bytes;
    let [version, id, flags] = *tl::take(&mut rest)?;
    let test = match version {
        DC_VERSION if flags & !(DC_IPV6 | DC_MEDIA_ONLY | DC_TEST) == 0 => flags & DC_TEST != 0,
        DC_VERSION_OLD if flags & !(DC_IPV6 | DC_MEDIA_ONLY) == 0 => false,
        _ => return None,
    };
    let host = std::str::from_utf8(tl::take_bytes(&mut rest)?).ok()?.to_owned();
    let port = i32::from_le_bytes(*tl::take(&mut rest)?);
    rest.is_empty().then_some(Dc { id: id.into(), host, port, test })
}

pub(super) fn write(material: &Material, addresses: &Addresses) -> Result<Written, Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    let address = address::of(material.home_dc, Some(home), addresses)
        .ok_or(Error::AddressUnknown(material.home_dc))?;
    let test = address::is_test(material.home_dc, Some(home), addresses);
    let id = material.telegram_user_id.filter(|id| (1..=USER_ID_MAX).contains(id));

    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH_MAX));
    bytes.push(VERSION);
    bytes.extend_from_slice(&if id.is_some() { HAS_SELF } else { 0 }.to_le_bytes());
    tl::put_bytes(&mut bytes, &dc_record(material.home_dc, address, test)?);
    if let Some(id) = id {
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(if material.is_bot == Some(true) { &TRUE } else { &FALSE });
    }
    tl::put_bytes(&mut bytes, home.auth_key.expose_secret());

    let mut notes = key::not_carried(material, |item| match item {
        Item::Address => true,
        Item::UserId | Item::BotFlag => id.is_some(),
        _ => false,
    });
    if id.is_some() && material.is_bot.is_none() {
        notes.push(Note::AssumedUser);
    }
    Ok(Written { data: encoded::to_url_safe(&bytes), notes })
}

fn dc_record(dc: i32, address: SocketAddr, test: bool) -> Result<Vec<u8>, Error> {
    let id = u8::try_from(dc).map_err(|_| Error::DataCentre(dc.into()))?;
    let ipv6 = if matches!(address.ip(), IpAddr::V6(_)) { DC_IPV6 } else { 0 };
    let mut record = vec![DC_VERSION, id, ipv6 | if test { DC_TEST } else { 0 }];
    tl::put_bytes(&mut record, address.ip().to_string().as_bytes());
    record.extend_from_slice(&i32::from(address.port()).to_le_bytes());
    Ok(record)
}

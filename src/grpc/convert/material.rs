//! Key material on its way in and out, and what belongs to an authorization.

use usm_client::v1;

use crate::{
    app::leases::Handout,
    domain::{
        error::Error,
        material::{Device, Format, Proxy},
        secret::Secret,
    },
    formats::{Item, Note},
    grpc::status,
};

pub(crate) const fn format(format: Format) -> v1::SessionFormat {
    match format {
        Format::TelethonString => v1::SessionFormat::TelethonString,
        Format::TelethonSqlite => v1::SessionFormat::TelethonSqlite,
        Format::PyrogramString => v1::SessionFormat::PyrogramString,
        Format::PyrogramSqlite => v1::SessionFormat::PyrogramSqlite,
        Format::GramjsString => v1::SessionFormat::GramjsString,
        Format::MtcuteString => v1::SessionFormat::MtcuteString,
        Format::Grammers => v1::SessionFormat::Grammers,
        Format::Tdata => v1::SessionFormat::Tdata,
        Format::Raw => v1::SessionFormat::Raw,
    }
}

/// The format a request names; `None` where it leaves the choice to the service.
///
/// # Errors
/// `ARGUMENT_INVALID` for a number that names none.
pub(crate) fn format_given(number: i32) -> Result<Option<Format>, Error> {
    match v1::SessionFormat::try_from(number) {
        Ok(v1::SessionFormat::Unspecified) => Ok(None),
        Ok(v1::SessionFormat::TelethonString) => Ok(Some(Format::TelethonString)),
        Ok(v1::SessionFormat::TelethonSqlite) => Ok(Some(Format::TelethonSqlite)),
        Ok(v1::SessionFormat::PyrogramString) => Ok(Some(Format::PyrogramString)),
        Ok(v1::SessionFormat::PyrogramSqlite) => Ok(Some(Format::PyrogramSqlite)),
        Ok(v1::SessionFormat::GramjsString) => Ok(Some(Format::GramjsString)),
        Ok(v1::SessionFormat::MtcuteString) => Ok(Some(Format::MtcuteString)),
        Ok(v1::SessionFormat::Grammers) => Ok(Some(Format::Grammers)),
        Ok(v1::SessionFormat::Tdata) => Ok(Some(Format::Tdata)),
        Ok(v1::SessionFormat::Raw) => Ok(Some(Format::Raw)),
        Err(_) => Err(Error::invalid("format", "must be a format of the contract")),
    }
}

/// What a note says is lost; `None` for one that is a remark.
pub(crate) fn loss(note: &Note) -> Option<v1::ConversionLoss> {
    use v1::ConversionLossKind as Kind;
    let Note::NotCarried(item) = note else { return None };
    let count = |number: &u64| i64::try_from(*number).unwrap_or(i64::MAX);
    let (kind, count) = match item {
        Item::UserId | Item::BotFlag => (Kind::Account, 1),
        Item::ApiId | Item::Device | Item::Proxy => (Kind::ApiCredentials, 1),
        Item::UpdateState => (Kind::UpdateState, 1),
        Item::OtherKeys(number) | Item::ObsoleteKeys(number) => (Kind::DcKeys, count(number)),
        Item::Peers(number) => (Kind::Entities, count(number)),
        Item::ChannelStates(number) => (Kind::UpdateState, count(number)),
        Item::SentFiles(number) => (Kind::SentFiles, count(number)),
        Item::TakeoutId | Item::TemporaryKey | Item::Salt | Item::SaveTime => (Kind::Temporary, 1),
        Item::Ipv6Address | Item::Address | Item::MediaAddress | Item::TestFlag => (Kind::Address, 1),
        Item::OtherAccounts(number) => (Kind::OtherAccounts, count(number)),
    };
    Some(v1::ConversionLoss { kind: kind.into(), count, message: note.to_string() })
}

/// The material as its one message; the copy in the answer is the last one this process makes of it.
pub(crate) fn handout(handout: Handout) -> v1::SessionMaterial {
    v1::SessionMaterial {
        format: format(handout.format).into(),
        data: handout.data.to_vec(),
        api_id: handout.api_id,
        device: Some(device(handout.device)),
        proxy: handout.proxy.as_ref().and_then(proxy),
        dc_id: handout.dc_id,
        material_version: handout.version,
        environment: handout.environment.as_str().to_owned(),
    }
}

fn device(device: Device) -> v1::Device {
    v1::Device {
        device_model: device.device_model,
        system_version: device.system_version,
        app_version: device.app_version,
        lang_code: device.lang_code,
        system_lang_code: device.system_lang_code,
        lang_pack: String::new(),
    }
}

/// The device a request describes; fields left out are the service's own.
///
/// # Errors
/// `ARGUMENT_INVALID` naming the field that is too long.
pub(crate) fn device_given(given: Option<v1::Device>) -> Result<Option<Device>, Error> {
    let Some(given) = given else { return Ok(None) };
    let own = Device::default();
    if !given.lang_pack.is_empty() {
        return Err(status::unserved("device.lang_pack"));
    }
    let field = |name, text: String, default: String, length_max| {
        if text.is_empty() {
            Ok(default)
        } else if text.chars().count() <= length_max && !text.chars().any(char::is_control) {
            Ok(text)
        } else {
            Err(Error::invalid(name, "is too long or holds control characters"))
        }
    };
    Ok(Some(Device {
        device_model: field("device.device_model", given.device_model, own.device_model, 128)?,
        system_version: field("device.system_version", given.system_version, own.system_version, 128)?,
        app_version: field("device.app_version", given.app_version, own.app_version, 64)?,
        lang_code: field("device.lang_code", given.lang_code, own.lang_code, 35)?,
        system_lang_code: field("device.system_lang_code", given.system_lang_code, own.system_lang_code, 35)?,
    }))
}

/// The proxy a request describes.
///
/// # Errors
/// `ARGUMENT_INVALID` naming the field.
pub(crate) fn proxy_given(given: Option<v1::Proxy>) -> Result<Option<Proxy>, Error> {
    let Some(given) = given else { return Ok(None) };
    match v1::ProxyKind::try_from(given.kind) {
        Ok(v1::ProxyKind::Socks5) => {}
        Ok(v1::ProxyKind::Http | v1::ProxyKind::Mtproto) => {
            return Err(Error::invalid("proxy.kind", "must be PROXY_KIND_SOCKS5 in this version"));
        }
        Ok(v1::ProxyKind::Unspecified) | Err(_) => {
            return Err(Error::invalid("proxy.kind", "must be a kind of the contract"));
        }
    }
    let host_fits = (1..=253).contains(&given.host.len())
        && given.host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
    if !host_fits {
        return Err(Error::invalid("proxy.host", "must be a host name or address of 1-253 characters"));
    }
    if !(1..=65_535).contains(&given.port) {
        return Err(Error::invalid("proxy.port", "must be 1-65535"));
    }
    // RFC 1929 counts both in one byte.
    if given.username.len() > 255 || given.password.len() > 255 {
        return Err(Error::invalid("proxy.username", "and password must be 255 bytes or shorter"));
    }
    let host = if given.host.contains(':') { format!("[{}]", given.host) } else { given.host };
    let user = match (given.username.as_str(), given.password.as_str()) {
        ("", "") => String::new(),
        (name, word) => format!("{}:{}@", escape(name), escape(word)),
    };
    Ok(Some(Proxy { url: Secret::new(format!("socks5://{user}{host}:{}", given.port)) }))
}

fn proxy(proxy: &Proxy) -> Option<v1::Proxy> {
    let rest = proxy.url.expose_secret().strip_prefix("socks5://")?;
    let (user, address) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (host, port) = address.rsplit_once(':')?;
    let (name, word) = user.split_once(':').unwrap_or((user, ""));
    Some(v1::Proxy {
        kind: v1::ProxyKind::Socks5.into(),
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: port.parse().ok()?,
        username: unescape(name)?,
        password: unescape(word)?,
    })
}

/// Percent-encodes everything that means something in an address.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, tail @ ..]) = (*first, tail) {
            let digits = [*high, *low];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

//! `configs`: where TDesktop finds the data centres, and whether they are Telegram's or its test environment's.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::stream::{Cut, Stream};

const VERSION: i32 = 1;
const TEST: i32 = 1;
/// Flags of an option: IPv6, media only, obfuscated only, CDN, with a secret. A client's plain address has none.
const SPECIAL: i32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x400;
/// More options than Telegram ever gave.
const OPTIONS_MAX: i32 = 1000;

pub(super) struct Config {
    pub(super) is_test: bool,
    /// The first plain IPv4 address of each data centre.
    pub(super) addresses: BTreeMap<i32, SocketAddr>,
}

/// `None` for one that cannot be read: TDesktop goes on without it.
pub(super) fn read(plain: &[u8]) -> Option<Config> {
    parse(plain).ok().flatten()
}

fn parse(plain: &[u8]) -> Result<Option<Config>, Cut> {
    let mut stream = Stream::of(Stream::of(plain).blob()?);
    if stream.i32()? != VERSION {
        return Ok(None);
    }
    let is_test = stream.i32()? == TEST;
    let mut options = Stream::of(stream.blob()?);
    let version_or_count = options.i32()?;
    // Older ones have no version, and options have no secret.
    let has_secrets = version_or_count < 0;
    let count = if has_secrets { options.i32()? } else { version_or_count };
    let mut addresses = BTreeMap::new();
    for _ in 0..count.min(OPTIONS_MAX) {
        let (dc, flags, port) = (options.i32()?, options.i32()?, options.i32()?);
        let host = options.blob()?;
        if has_secrets {
            options.blob()?;
        }
        let ip = std::str::from_utf8(host).ok().and_then(|host| host.parse::<IpAddr>().ok());
        if let (Some(ip), Ok(port @ 1..), 0) = (ip, u16::try_from(port), flags & SPECIAL) {
            addresses.entry(dc).or_insert(SocketAddr::new(ip, port));
        }
    }
    Ok(Some(Config { is_test, addresses }))
}

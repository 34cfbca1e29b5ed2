//! Addresses of data centres, as sources tell them.
//!
//! Libraries disagree on the defaults, so an address that is not in a table is never an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use super::{Addresses, Error, Item, Note};
use crate::domain::material::DcKey;

/// Addresses that libraries have shipped for Telegram's production data centres.
const PRODUCTION: &[(i32, &[&str])] = &[
    (1, &["149.154.175.50", "149.154.175.53", "149.154.175.56", "149.154.175.57", "2001:b28:f23d:f001::a"]),
    (2, &["149.154.167.41", "149.154.167.50", "149.154.167.51", "95.161.76.100", "2001:67c:4e8:f002::a"]),
    (3, &["149.154.175.100", "2001:b28:f23d:f003::a"]),
    (4, &["149.154.167.91", "149.154.167.92", "2001:67c:4e8:f004::a"]),
    (5, &["91.108.56.104", "91.108.56.130", "91.108.56.179", "149.154.171.5", "2001:b28:f23f:f005::a"]),
];

/// Telegram's test data centres 1-3.
const TEST_IPV4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(149, 154, 175, 10), Ipv4Addr::new(149, 154, 167, 40), Ipv4Addr::new(149, 154, 175, 117)];
const TEST_IPV6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xb28, 0xf23d, 0xf001, 0, 0, 0, 0xe),
    Ipv6Addr::new(0x2001, 0x67c, 0x4e8, 0xf002, 0, 0, 0, 0xe),
    Ipv6Addr::new(0x2001, 0xb28, 0xf23d, 0xf003, 0, 0, 0, 0xe),
];

/// The port Telegram's clients use when a source tells none.
const PORT_DEFAULT: u16 = 443;
/// The port libraries use for test data centres.
const TEST_PORT: u16 = 80;

/// What a source told as host and port of one data centre.
pub(super) fn told(
    host: Option<&str>,
    port: Option<i64>,
    notes: &mut Vec<Note>,
) -> Result<Option<SocketAddr>, Error> {
    let port = match port {
        None => PORT_DEFAULT,
        Some(number) => u16::try_from(number).ok().filter(|port| *port != 0).ok_or(Error::PortInvalid)?,
    };
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        notes.push(Note::AddressMissing);
        return Ok(None);
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return usable(SocketAddr::new(ip, port)).map(Some);
    }
    if is_host_name(host) {
        notes.push(Note::AddressIsHostName);
        return Ok(None);
    }
    Err(Error::AddressInvalid)
}

/// An address of each of Telegram's production data centres, for whoever is not told of another endpoint.
pub fn production() -> Addresses {
    let address = |(dc, hosts): &(i32, &[&str])| {
        let last = hosts.iter().rev().find_map(|host| host.parse::<Ipv4Addr>().ok())?;
        Some((*dc, SocketAddr::from((last, PORT_DEFAULT))))
    };
    PRODUCTION.iter().filter_map(address).collect()
}

/// Refuses what no data centre can have; an IPv4 address in IPv6's clothes becomes one.
pub(super) fn usable(address: SocketAddr) -> Result<SocketAddr, Error> {
    if address.port() == 0 {
        return Err(Error::PortInvalid);
    }
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(Error::AddressInvalid);
    }
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Notes what an address tells about the data centre it is said to be of.
pub(super) fn judge(dc: i32, address: SocketAddr, addresses: &Addresses, notes: &mut Vec<Note>) {
    if is_of_test_dc(address) {
        notes.push(Note::AddressOfTestDc);
    } else if dc_of(address, addresses).is_some_and(|other| other != dc) {
        notes.push(Note::AddressOfOtherDc);
    }
}

/// The address of a session whose source has a test flag beside it, or in its place.
pub(super) fn with_test_flag(
    dc: i32,
    address: Option<SocketAddr>,
    test: bool,
    notes: &mut Vec<Note>,
) -> Option<SocketAddr> {
    let shown = address.or_else(|| if test { of_test_dc(dc) } else { None });
    if test && !shown.is_some_and(is_of_test_dc) {
        notes.push(Note::NotCarried(Item::TestFlag));
    }
    shown
}

/// Whether the session belongs into Telegram's test environment, as far as its address tells.
pub(super) fn is_test(dc: i32, key: Option<&DcKey>, addresses: &Addresses) -> bool {
    of(dc, key, addresses).is_some_and(is_of_test_dc)
}

/// The address that a test flag stands for.
pub(super) fn of_test_dc(dc: i32) -> Option<SocketAddr> {
    let index = usize::try_from(dc).ok()?.checked_sub(1)?;
    TEST_IPV4.get(index).map(|ip| SocketAddr::new(IpAddr::V4(*ip), TEST_PORT))
}

fn is_of_test_dc(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => TEST_IPV4.contains(&ip),
        IpAddr::V6(ip) => TEST_IPV6.contains(&ip),
    }
}

/// The data centre an address belongs to, as far as known.
pub(super) fn dc_of(address: SocketAddr, addresses: &Addresses) -> Option<i32> {
    if let Some((dc, _)) = addresses.iter().find(|(_, known)| **known == address) {
        return Some(*dc);
    }
    let ip = address.ip();
    if let Some(index) = TEST_IPV4.iter().position(|test| IpAddr::V4(*test) == ip) {
        return i32::try_from(index + 1).ok();
    }
    PRODUCTION.iter().find(|(_, hosts)| hosts.iter().any(|host| host.parse() == Ok(ip))).map(|(dc, _)| *dc)
}

/// Where to find a data centre: what the material tells, else the table.
pub(super) fn of(dc: i32, key: Option<&DcKey>, addresses: &Addresses) -> Option<SocketAddr> {
    key.and_then(|key| key.address).or_else(|| addresses.get(&dc).copied())
}

/// The same, but IPv4.
pub(super) fn ipv4_of(dc: i32, key: Option<&DcKey>, addresses: &Addresses) -> Option<SocketAddrV4> {
    [key.and_then(|key| key.address), addresses.get(&dc).copied()].into_iter().flatten().find_map(|address| {
        match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        }
    })
}

fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
        })
        // A top-level domain has a letter: "300.1.1.1" is a broken address, not a name.
        && text.rsplit('.').next().is_some_and(|label| label.bytes().any(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_names_or_refused() {
        let mut notes = Vec::new();
        assert_eq!(
            told(Some("149.154.167.51"), Some(80), &mut notes),
            Ok(Some("149.154.167.51:80".parse().unwrap()))
        );
        assert_eq!(
            told(Some("2001:67c:4e8:f002::a"), None, &mut notes),
            Ok(Some("[2001:67c:4e8:f002::a]:443".parse().unwrap()))
        );
        assert_eq!(notes, []);
        assert_eq!(told(Some("venus.web.telegram.org"), Some(443), &mut notes), Ok(None));
        assert_eq!(told(None, None, &mut notes), Ok(None));
        assert_eq!(notes, [Note::AddressIsHostName, Note::AddressMissing]);
        for host in ["300.1.1.1", "not an address", "0.0.0.0", "1.2.3.4:443", "-x.org"] {
            assert_eq!(told(Some(host), None, &mut notes), Err(Error::AddressInvalid), "{host}");
        }
        for port in [0, -1, 70000] {
            assert_eq!(told(Some("1.2.3.4"), Some(port), &mut notes), Err(Error::PortInvalid), "{port}");
        }
    }

    #[test]
    fn a_data_centre_is_known_by_its_addresses() {
        let table = Addresses::from([(4, "127.0.0.1:5004".parse().unwrap())]);
        assert_eq!(dc_of("127.0.0.1:5004".parse().unwrap(), &table), Some(4));
        assert_eq!(dc_of("127.0.0.1:5001".parse().unwrap(), &table), None);
        assert_eq!(dc_of("149.154.175.100:80".parse().unwrap(), &table), Some(3));
        assert_eq!(dc_of("[2001:b28:f23f:f005::a]:443".parse().unwrap(), &table), Some(5));
    }
}

//! Which Telegram to talk to: addresses of its data centres and the keys by which they prove themselves.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use sha2::{Digest as _, Sha256};

use crate::{
    domain::session::Environment,
    telegram::rsa_key::{KeyError, RsaKey},
};

const PORT: u16 = 443;
const DC_MAX: i32 = 5;
const RSA_KEYS_MAX: usize = 16;

/// Fingerprints of Telegram's own RSA keys, by which grammers knows them.
const PRODUCTION_FINGERPRINT: i64 = -3_414_540_481_677_951_611;
const TEST_FINGERPRINT: i64 = -5_595_554_452_916_591_101;

/// A Telegram as it is found and recognised. Its data centres are numbered 1-5 and hold `home_dc`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(super) environment: Environment,
    /// Where logins begin and health is checked.
    pub(super) home_dc: i32,
    pub(super) dcs: BTreeMap<i32, SocketAddr>,
    pub(super) keys: ServerKeys,
}

/// The keys a data centre may prove itself with.
#[derive(Clone, Debug)]
pub(super) enum ServerKeys {
    /// Telegram's own, known to grammers; of those, the one with this fingerprint.
    Telegram { fingerprint: i64 },
    /// Keys of another operator, by configuration.
    Configured(Vec<RsaKey>),
}

/// Why a description of an endpoint is no good.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("data centre {dc} is not 1-5")]
    DcOutOfRange { dc: i32 },
    #[error("data centre {dc} has port 0")]
    PortZero { dc: i32 },
    #[error("home_dc {home_dc} is not among the data centres")]
    HomeDcMissing { home_dc: i32 },
    #[error("rsa_keys holds no key")]
    NoKeys,
    #[error("rsa_keys holds more than 16 keys")]
    TooManyKeys,
    #[error("rsa_keys: key {number} is unusable")]
    BadKey {
        /// Counted from 1.
        number: usize,
        #[source]
        source: KeyError,
    },
}

impl Endpoint {
    /// Telegram itself.
    pub fn production() -> Self {
        Self::of_telegram(
            "production",
            PRODUCTION_FINGERPRINT,
            &[
                (1, [149, 154, 175, 53]),
                (2, [149, 154, 167, 51]),
                (3, [149, 154, 175, 100]),
                (4, [149, 154, 167, 91]),
                (5, [91, 108, 56, 130]),
            ],
        )
    }

    /// Telegram's test data centres, with accounts of their own.
    pub fn test() -> Self {
        Self::of_telegram(
            "test",
            TEST_FINGERPRINT,
            &[(1, [149, 154, 175, 10]), (2, [149, 154, 167, 40]), (3, [149, 154, 175, 117])],
        )
    }

    fn of_telegram(name: &str, fingerprint: i64, dcs: &[(i32, [u8; 4])]) -> Self {
        let at = |ip: [u8; 4]| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), PORT);
        Self {
            environment: Environment::new(name),
            home_dc: 2,
            dcs: dcs.iter().map(|(dc, ip)| (*dc, at(*ip))).collect(),
            keys: ServerKeys::Telegram { fingerprint },
        }
    }

    /// Which Telegram this is: `production`, `test`, `sandbox` or the hash of a custom one.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The bundled sandbox, or one started by hand. All sandboxes are one environment: their ports and keys
    /// change from start to start.
    ///
    /// # Errors
    /// As [`Self::custom`].
    pub fn sandbox<K: AsRef<str>>(
        home_dc: i32,
        dcs: BTreeMap<i32, SocketAddr>,
        rsa_keys: &[K],
    ) -> Result<Self, EndpointError> {
        let mut endpoint = Self::custom(home_dc, dcs, rsa_keys)?;
        endpoint.environment = Environment::new("sandbox");
        Ok(endpoint)
    }

    /// Another Telegram server. `rsa_keys` are public keys of 2048 bits in PEM, either `RSA PUBLIC KEY` or
    /// `PUBLIC KEY`.
    ///
    /// The environment is named by a hash over the data centres' numbers and the keys, which tell whose server
    /// it is. Addresses stay out of it: a server that moves is still the same one.
    ///
    /// # Errors
    /// `EndpointError` names what is wrong.
    pub fn custom<K: AsRef<str>>(
        home_dc: i32,
        dcs: BTreeMap<i32, SocketAddr>,
        rsa_keys: &[K],
    ) -> Result<Self, EndpointError> {
        for (dc, address) in &dcs {
            if !(1..=DC_MAX).contains(dc) {
                return Err(EndpointError::DcOutOfRange { dc: *dc });
            }
            if address.port() == 0 {
                return Err(EndpointError::PortZero { dc: *dc });
            }
        }
        if !dcs.contains_key(&home_dc) {
            return Err(EndpointError::HomeDcMissing { home_dc });
        }
        if rsa_keys.is_empty() {
            return Err(EndpointError::NoKeys);
        }
        if rsa_keys.len() > RSA_KEYS_MAX {
            return Err(EndpointError::TooManyKeys);
        }
        let keys = rsa_keys
            .iter()
            .enumerate()
            .map(|(at, pem)| {
                RsaKey::from_pem(pem.as_ref())
                    .map_err(|source| EndpointError::BadKey { number: at + 1, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let environment = Environment::new(identity(home_dc, &dcs, &keys));
        Ok(Self { environment, home_dc, dcs, keys: ServerKeys::Configured(keys) })
    }
}

fn identity(home_dc: i32, dcs: &BTreeMap<i32, SocketAddr>, keys: &[RsaKey]) -> String {
    let mut moduli: Vec<_> = keys.iter().map(RsaKey::to_tl).collect();
    moduli.sort();
    let mut hash = Sha256::new();
    hash.update(b"usm telegram endpoint\0");
    hash.update(home_dc.to_be_bytes());
    for dc in dcs.keys() {
        hash.update(dc.to_be_bytes());
    }
    for key in &moduli {
        hash.update(b"rsa\0");
        hash.update(key);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::rsa_key::tests::{PKCS1, SPKI};

    fn dcs(port: u16) -> BTreeMap<i32, SocketAddr> {
        [(1, port), (2, port)].map(|(dc, port)| (dc, SocketAddr::from(([127, 0, 0, 1], port)))).into()
    }

    #[test]
    fn a_custom_endpoint_is_known_by_its_keys_not_its_addresses() {
        let one = Endpoint::custom(2, dcs(1000), &[PKCS1]).unwrap();
        let moved = Endpoint::custom(2, dcs(2000), &[SPKI]).unwrap();
        let other = Endpoint::custom(1, dcs(1000), &[PKCS1]).unwrap();
        assert_eq!(one.environment, moved.environment);
        assert_ne!(one.environment, other.environment);
        assert_eq!(one.environment.as_str().len(), 64);
    }

    #[test]
    fn a_wrong_description_is_told() {
        let none: [&str; 0] = [];
        assert_eq!(
            Endpoint::custom(3, dcs(1), &[PKCS1]).err(),
            Some(EndpointError::HomeDcMissing { home_dc: 3 })
        );
        assert_eq!(Endpoint::custom(2, dcs(0), &[PKCS1]).err(), Some(EndpointError::PortZero { dc: 1 }));
        assert_eq!(Endpoint::custom(2, dcs(1), &none).err(), Some(EndpointError::NoKeys));
        assert!(matches!(
            Endpoint::custom(2, dcs(1), &[PKCS1, "nonsense"]).err(),
            Some(EndpointError::BadKey { number: 2, .. })
        ));
    }

    #[test]
    fn every_endpoint_has_its_home() {
        for endpoint in [Endpoint::production(), Endpoint::test()] {
            assert!(endpoint.dcs.contains_key(&endpoint.home_dc));
        }
    }
}

//! Which Telegram the service talks to.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The Telegram behind `USM_TELEGRAM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Production,
    Test,
    /// The bundled one.
    Sandbox,
    Custom(CustomEndpoint),
}

/// A Telegram of somebody's own, from a TOML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomEndpoint {
    /// Where a login starts.
    pub home_dc: i32,
    /// `host:port` by data centre; holds the home one.
    pub addresses: BTreeMap<i32, String>,
    /// Public keys in PEM; one or more.
    pub rsa_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    home_dc: i32,
    dc: Vec<Dc>,
    rsa_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dc {
    id: i32,
    address: String,
}

impl CustomEndpoint {
    /// # Errors
    /// The rule the file breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text)
            .map_err(|error| format!("must hold home_dc, [[dc]] and rsa_keys: {}", error.message()))?;
        let mut addresses = BTreeMap::new();
        for dc in file.dc {
            let port = dc
                .address
                .rsplit_once(':')
                .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
            if port.is_none_or(|port| port == 0) {
                return Err(format!("must give dc {} an address of the form host:port", dc.id));
            }
            if !(1..=5).contains(&dc.id) || addresses.insert(dc.id, dc.address).is_some() {
                return Err(format!("must name each data centre once, 1-5, unlike dc {}", dc.id));
            }
        }
        if !addresses.contains_key(&file.home_dc) {
            return Err("must hold a [[dc]] for its home_dc".to_owned());
        }
        if file.rsa_keys.is_empty() || !file.rsa_keys.iter().all(|key| key.contains("-----BEGIN")) {
            return Err("must hold one or more rsa_keys in PEM".to_owned());
        }
        Ok(Self { home_dc: file.home_dc, addresses, rsa_keys: file.rsa_keys })
    }
}

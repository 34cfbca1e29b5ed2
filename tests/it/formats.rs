//! Session formats against files and programs of others: every known shape and trap, real Telethon releases, and
//! bytes nobody ever wrote.

mod convert;
mod corpus;
mod files;
mod foreign;
mod losses;
pub(crate) mod node;
mod placing;
mod properties;
pub(crate) mod python;
mod tdata;

use std::{collections::BTreeMap, net::SocketAddr};

use usm::{
    domain::material::{AuthKey, DcKey, Device, Material, UpdateState},
    formats::Addresses,
};

/// Telegram's production data centres, one address each.
fn addresses() -> Addresses {
    [
        (1, "149.154.175.53:443"),
        (2, "149.154.167.51:443"),
        (3, "149.154.175.100:443"),
        (4, "149.154.167.91:443"),
        (5, "91.108.56.130:443"),
    ]
    .into_iter()
    .map(|(dc, address)| (dc, address.parse().unwrap()))
    .collect()
}

fn auth_key(seed: u8) -> AuthKey {
    let bytes: Vec<u8> = (0..=255_u8).map(|n| n.wrapping_mul(167) ^ seed).collect();
    AuthKey::from_slice(&bytes).unwrap()
}

/// Everything a session can have.
fn full_material() -> Material {
    let key = |seed, address: &str| DcKey {
        auth_key: auth_key(seed),
        address: Some(address.parse::<SocketAddr>().unwrap()),
    };
    Material {
        home_dc: 4,
        keys: BTreeMap::from([(4, key(0x44, "149.154.167.92:80")), (2, key(0x22, "149.154.167.50:443"))]),
        telegram_user_id: Some(7_000_000_001),
        is_bot: Some(false),
        api_id: 12_345,
        device: Device { device_model: "Desk".to_owned(), ..Device::default() },
        proxy: None,
        updates: Some(UpdateState { pts: 10, qts: 20, date: 1_700_000_000, seq: 30 }),
        channels: BTreeMap::from([(1234, 5), (5678, 6)]),
    }
}

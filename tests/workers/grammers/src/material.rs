//! The material as the service's own document has it (`SESSION_FORMAT_RAW`): where to connect, with which key.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use usm_client::v1;
use zeroize::Zeroizing;

pub(crate) type AuthKey = Zeroizing<[u8; 256]>;

/// What a connection needs. Has no `Debug`: it holds the key.
pub(crate) struct Home {
    pub(crate) address: SocketAddr,
    pub(crate) auth_key: AuthKey,
    pub(crate) api_id: i32,
    pub(crate) device: v1::Device,
}

/// The document's fields that this worker reads.
#[derive(Deserialize)]
struct Document {
    format: String,
    version: i64,
    address: Option<String>,
    auth_key: String,
}

impl Home {
    /// # Errors
    /// If the material is not of the format, or asks for what this worker cannot do. No error shows any of it.
    pub(crate) fn read(mut material: v1::SessionMaterial) -> anyhow::Result<Self> {
        let data = Zeroizing::new(std::mem::take(&mut material.data));
        let document: Document = serde_json::from_slice(&data)
            .map_err(|error| anyhow::anyhow!("no such document at {}:{}", error.line(), error.column()))?;
        let auth_key = Zeroizing::new(document.auth_key);
        ensure!(document.format == "usm-session" && document.version == 1, "another format or version");
        // Through none it would show another address than the authorization is used to.
        ensure!(material.proxy.is_none(), "this worker knows no proxies");
        let address = document.address.context("no address")?.parse().context("no usable address")?;
        let bytes = Zeroizing::new(STANDARD.decode(auth_key.as_bytes()).ok().context("no base64")?);
        let auth_key = <[u8; 256]>::try_from(bytes.as_slice()).ok().context("no key of 256 bytes")?;
        Ok(Self {
            address,
            auth_key: Zeroizing::new(auth_key),
            api_id: material.api_id,
            device: material.device.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material(key: &[u8]) -> v1::SessionMaterial {
        let text = serde_json::json!({
            "format": "usm-session", "version": 1, "dc_id": 2, "address": "127.0.0.1:4430",
            "auth_key": STANDARD.encode(key), "user_id": 7, "is_bot": null, "api_id": 4, "other_dcs": [],
            "device": null, "proxy": null, "update_state": null,
        });
        v1::SessionMaterial { data: text.to_string().into_bytes(), api_id: 4, ..Default::default() }
    }

    #[test]
    fn the_document_of_the_service_is_read() {
        let home = Home::read(material(&[9; 256])).unwrap();
        assert_eq!((home.api_id, home.address.port()), (4, 4430));
        assert_eq!(home.address, "127.0.0.1:4430".parse().unwrap());
        assert_eq!(*home.auth_key, [9; 256]);
    }

    #[test]
    fn a_document_that_cannot_be_used_is_refused_without_showing_it() {
        let short = material(&[9; 255]);
        let other = v1::SessionMaterial { data: b"1BQANOTEuMTA4LjU2LjE1Mw".to_vec(), ..material(&[9; 256]) };
        let behind_a_proxy = v1::SessionMaterial { proxy: Some(v1::Proxy::default()), ..material(&[9; 256]) };
        for material in [short, other, behind_a_proxy] {
            let error = Home::read(material).err().expect("refused");
            assert!(!format!("{error:?}").contains("NOTEuMTA4"), "{error:?}");
        }
    }
}

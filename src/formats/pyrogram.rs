//! What all forms of the Pyrogram family say about a session: strings, files and the JSON of old releases.
//!
//! Kurigram, Hydrogram and Pyrofork go on with Pyrogram's forms. None of them tells an address but Kurigram's newest
//! files; the data centre and the test flag stand for it.

use std::net::SocketAddr;

use super::{Addresses, Error, Item, Note, address, key};
use crate::domain::material::{AuthKey, Material};

/// A session as a source tells it.
pub(super) struct Told {
    pub(super) dc: i64,
    pub(super) test: bool,
    pub(super) auth_key: AuthKey,
    /// 0 when unknown.
    pub(super) user_id: i64,
    pub(super) is_bot: Option<bool>,
    /// 0 when unknown.
    pub(super) api_id: i64,
    pub(super) address: Option<SocketAddr>,
}

impl Told {
    pub(super) fn into_material(
        self,
        addresses: &Addresses,
        notes: &mut Vec<Note>,
    ) -> Result<Material, Error> {
        let home_dc = key::home_dc(self.dc)?;
        let address = address::with_test_flag(home_dc, self.address, self.test, notes);
        if let Some(address) = address {
            address::judge(home_dc, address, addresses, notes);
        }
        let mut material = key::material(home_dc, self.auth_key, address);
        if self.user_id != 0 {
            material.telegram_user_id = key::user_id(self.user_id, notes);
        }
        // Who does not know the account writes "no bot", too.
        material.is_bot = self.is_bot.filter(|is_bot| *is_bot || self.user_id != 0);
        material.api_id = key::api_id(self.api_id, notes);
        Ok(material)
    }
}

/// A session as it is written.
pub(super) struct Fields<'a> {
    pub(super) dc: u8,
    pub(super) test: bool,
    pub(super) auth_key: &'a AuthKey,
    pub(super) user_id: u64,
    pub(super) is_bot: bool,
    pub(super) api_id: u32,
    pub(super) notes: Vec<Note>,
}

impl<'a> Fields<'a> {
    /// All fields are filled: with an empty one the client takes the session for a new one and makes another key.
    pub(super) fn of(material: &'a Material, addresses: &Addresses) -> Result<Self, Error> {
        let home = material.home().ok_or(Error::NoKey)?;
        let dc = u8::try_from(material.home_dc).map_err(|_| Error::DataCentre(material.home_dc.into()))?;
        let user_id = material.telegram_user_id.and_then(|id| u64::try_from(id).ok()).unwrap_or(0);
        let api_id = u32::try_from(material.api_id).unwrap_or(0);
        let test = address::is_test(material.home_dc, Some(home), addresses);
        let mut notes = key::not_carried(material, |item| match item {
            Item::UserId | Item::BotFlag => true,
            Item::ApiId => api_id != 0,
            // The test flag leads to the same address.
            Item::Address => test && home.address == address::of_test_dc(material.home_dc),
            _ => false,
        });
        if user_id == 0 {
            notes.push(Note::AssumedNobody);
        } else if material.is_bot.is_none() {
            notes.push(Note::AssumedUser);
        }
        let is_bot = material.is_bot == Some(true);
        Ok(Self { dc, test, auth_key: &home.auth_key, user_id, is_bot, api_id, notes })
    }
}

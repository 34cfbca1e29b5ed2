//! Session files of Telethon 2, which was never released, read only. Two shapes of its one version were written: with
//! one address per data centre, and later with one of each kind.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{Addresses, Error, Note, Parsed, address, key, sqlite::Database};
use crate::domain::material::{CHANNELS_MAX, DcKey, Format, Material, UpdateState};

const VERSION: i64 = 10;
/// More data centres than there are; bounds the table.
const DCS_MAX: usize = 64;

pub(super) fn read(database: &mut Database, addresses: &Addresses) -> Result<Parsed, Error> {
    match database.rows("version", &["version"], "true", 2)?.as_slice() {
        [row] if row[0].integer() == Some(VERSION) => {}
        [row] => return Err(row[0].integer().map_or(Error::UnknownSchema, Error::UnknownVersion)),
        _ => return Err(Error::UnknownSchema),
    }
    let users = database.rows("user", &["id", "dc", "bot"], "true", 2)?;
    let user = match users.as_slice() {
        [] => return Err(Error::NotSignedIn),
        [row] => row,
        _ => return Err(Error::SeveralSessions),
    };
    let home_dc = key::home_dc(user[1].integer().unwrap_or(0))?;
    let mut notes = vec![Note::ReadOnlyForm("Telethon 2")];
    let keys = keys(database)?;
    if let Some(address) = keys.get(&home_dc).ok_or(Error::NoKey)?.address {
        address::judge(home_dc, address, addresses, &mut notes);
    }
    let material = Material {
        home_dc,
        keys,
        telegram_user_id: key::user_id(user[0].integer().unwrap_or(0), &mut notes),
        is_bot: user[2].integer().map(|number| number != 0),
        api_id: 0,
        device: Default::default(),
        proxy: None,
        updates: updates(database, &mut notes)?,
        channels: channels(database, &mut notes)?,
    };
    Ok(Parsed { material, format: Format::TelethonSqlite, notes })
}

/// Of all data centres that have one.
fn keys(database: &mut Database) -> Result<BTreeMap<i32, DcKey>, Error> {
    let column = if database.has_column("datacenter", "addr") { "addr" } else { "ipv4_addr" };
    let rows = database.rows("datacenter", &["id", column, "auth"], "auth is not null", DCS_MAX + 1)?;
    if rows.len() > DCS_MAX {
        return Err(Error::TooLarge);
    }
    let mut keys = BTreeMap::new();
    for row in rows {
        let number = row[0].integer().unwrap_or(0);
        let dc = i32::try_from(number).ok().filter(|dc| *dc > 0).ok_or(Error::DataCentre(number))?;
        let auth_key = key::auth_key(row[2].key_bytes()?)?;
        let address = match &row[1] {
            cell if cell.is_blank() => None,
            cell => {
                let told: Option<SocketAddr> = cell.text().and_then(|text| text.parse().ok());
                Some(address::usable(told.ok_or(Error::AddressInvalid)?)?)
            }
        };
        keys.insert(dc, DcKey { auth_key, address });
    }
    Ok(keys)
}

fn channels(database: &mut Database, notes: &mut Vec<Note>) -> Result<BTreeMap<i64, i32>, Error> {
    let all = database.count("channelstate", "true")?;
    if all == 0 {
        return Ok(BTreeMap::new());
    }
    let rows = database.rows("channelstate", &["id", "pts"], "true", CHANNELS_MAX)?;
    Ok(key::channels(&rows, all, notes))
}

fn updates(database: &mut Database, notes: &mut Vec<Note>) -> Result<Option<UpdateState>, Error> {
    if !database.has("state") {
        return Ok(None);
    }
    let rows = database.rows("state", &["pts", "qts", "date", "seq"], "true", 1)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut numbers = row.iter().map(|cell| cell.seconds().and_then(|number| i32::try_from(number).ok()));
    let mut next = || numbers.next().flatten();
    let state = (|| Some(UpdateState { pts: next()?, qts: next()?, date: next()?, seq: next()? }))();
    if state.is_none() {
        notes.push(Note::UpdateStateImplausible);
    }
    Ok(state)
}

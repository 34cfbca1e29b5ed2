//! A Telethon file that gets another session row and keeps everything else: entities, sent files, channels.

use rusqlite::Connection;
use zeroize::Zeroizing;

use super::{Addresses, Error, Item, Note, Written, address, key, sqlite::in_memory};
use crate::domain::material::Material;

const FAILED: Error = Error::Internal("SQLite in memory");

/// The bytes of the file with the session in it, made in memory. `None` for a file with code of its own, such as
/// triggers: writing to it would run that.
///
/// Blocks, in memory for milliseconds.
///
/// # Errors
/// `AddressUnknown`, `NoKey`, and `Corrupt` for a file that cannot be written to.
pub(super) fn update(
    bytes: &[u8],
    material: &Material,
    addresses: &Addresses,
    with_state: bool,
) -> Result<Option<Written>, Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    let address = address::ipv4_of(material.home_dc, Some(home), addresses)
        .ok_or(Error::AddressUnknown(material.home_dc))?;
    let mut notes = key::lost(material);
    // Where the file is ahead, its own are right.
    notes.retain(|note| !matches!(note, Note::NotCarried(Item::ChannelStates(_))));
    if home.address.is_some_and(|told| told.is_ipv6()) {
        notes.push(Note::AddressReplaced);
    }
    let mut buffer = Zeroizing::new(bytes.to_vec());
    // A database in memory has no log beside it.
    if buffer.len() > 20 && buffer[18..20] == [2, 2] {
        buffer[18..20].copy_from_slice(&[1, 1]);
    }
    let mut database = in_memory()?;
    database.deserialize_read_exact("main", &buffer[..], buffer.len(), false).map_err(|_| Error::Corrupt)?;
    if !replace(&mut database, material, address, with_state)? {
        return Ok(None);
    }
    let data = database.serialize("main").map_err(|_| FAILED)?;
    Ok(Some(Written { data: Zeroizing::new(data.to_vec()), notes }))
}

fn replace(
    database: &mut Connection,
    material: &Material,
    address: std::net::SocketAddrV4,
    with_state: bool,
) -> Result<bool, Error> {
    let foreign = "select count(*) from sqlite_schema where type not in ('table', 'index') or \
                   (type = 'table' and rootpage = 0)";
    let dead = |_| Error::Corrupt;
    let count: i64 = database.query_row(foreign, [], |row| row.get(0)).map_err(dead)?;
    if count > 0 {
        return Ok(false);
    }
    let home = material.home().ok_or(Error::NoKey)?;
    // The former key must not stay in pages that are free now.
    database.execute_batch("pragma secure_delete = on").map_err(dead)?;
    let tx = database.transaction().map_err(dead)?;
    tx.execute("delete from sessions", []).map_err(dead)?;
    tx.execute(
        "insert into sessions (dc_id, server_address, port, auth_key) values (?, ?, ?, ?)",
        (
            material.home_dc,
            address.ip().to_string(),
            address.port(),
            home.auth_key.expose_secret().as_slice(),
        ),
    )
    .map_err(dead)?;
    if let Some(id) = material.telegram_user_id {
        tx.execute("insert or replace into entities (id, hash) values (0, ?)", [id]).map_err(dead)?;
    }
    if let (true, Some(state)) = (with_state, &material.updates) {
        let update = "insert or replace into update_state (id, pts, qts, date, seq) values (0, ?, ?, ?, ?)";
        tx.execute(update, (state.pts, state.qts, state.date, state.seq)).map_err(dead)?;
    }
    if with_state {
        let update = "insert or replace into update_state (id, pts, qts, date, seq) values (?, ?, 0, 0, 0)";
        for (id, pts) in &material.channels {
            tx.execute(update, (id, pts)).map_err(dead)?;
        }
    }
    tx.commit().map_err(dead)?;
    Ok(true)
}

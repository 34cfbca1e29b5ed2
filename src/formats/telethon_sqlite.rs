//! Telethon's `SQLiteSession`, schema versions 1 to 8, in fresh and upgraded files alike.

use rusqlite::Connection;
use tempfile::NamedTempFile;

use super::{
    Addresses, Error, Item, Note, Parsed, Written, address,
    builder::{Builder, Value, failed},
    cell::Cell,
    key,
    peers::{Peer, Place},
    sqlite::Database,
};
use crate::domain::material::{CHANNELS_MAX, Format, Material, UpdateState};

/// The versions that releases 0.16 to 1.45 wrote. Telethon 2 wrote 10, with other tables.
const VERSIONS: std::ops::RangeInclusive<i64> = 1..=8;

/// Marked ids of channels lie below its negative, those of basic groups above.
const MARK: i64 = 1_000_000_000_000;

/// Version 7, which Telethon 1.17-1.42 opens as it is and 1.43 and later upgrade in place. Version 8 would stop
/// everything before 1.43. The takeout id stays NULL: after the upgrade 1.43 and 1.44 mistake it for a key.
const SCHEMA: &str = "
    create table version (version integer primary key);
    create table sessions (dc_id integer primary key, server_address text, port integer, auth_key blob,
        takeout_id integer);
    create table entities (id integer primary key, hash integer not null, username text, phone integer, name text,
        date integer);
    create table sent_files (md5_digest blob, file_size integer, type integer, id integer, hash integer,
        primary key(md5_digest, file_size, type));
    create table update_state (id integer primary key, pts integer, qts integer, date integer, seq integer);
    insert into version values (7);";

pub(super) fn read(database: &mut Database, addresses: &Addresses) -> Result<Parsed, Error> {
    check_version(database)?;
    let mut columns = vec!["dc_id", "server_address", "port", "auth_key"];
    let optional = ["takeout_id", "tmp_auth_key"];
    columns.extend(optional.into_iter().filter(|column| database.has_column("sessions", column)));
    let mut rows = database.rows("sessions", &columns, "true", 2)?;
    if rows.len() > 1 {
        return Err(Error::SeveralSessions);
    }
    let row = rows.pop().ok_or(Error::NoSession)?;
    let cell = |name: &str| columns.iter().position(|column| *column == name).map(|at| &row[at]);

    let auth_key = key::auth_key(row[3].key_bytes()?)?;
    let home_dc = key::home_dc(row[0].integer().ok_or(Error::DataCentre(0))?)?;
    let mut notes = Vec::new();
    let address = told_address(&row[1], &row[2], &mut notes)?;
    if let Some(address) = address {
        address::judge(home_dc, address, addresses, &mut notes);
    }
    let mut material = key::material(home_dc, auth_key, address);
    material.telegram_user_id = own_id(database, &mut notes)?;
    material.updates = updates(database, &mut notes)?;
    if database.has("update_state") {
        let rows = database.rows("update_state", &["id", "pts"], "id <> 0", CHANNELS_MAX)?;
        let all = database.count("update_state", "id <> 0")?;
        material.channels = key::channels(&rows, all, &mut notes);
    }

    // Releases 1.43 and 1.44 leave an empty blob in the place of the takeout id.
    if cell("takeout_id").is_some_and(|cell| cell.integer().is_some()) {
        notes.push(Note::NotCarried(Item::TakeoutId));
    }
    if cell("tmp_auth_key").is_some_and(|cell| !cell.is_blank()) {
        notes.push(Note::NotCarried(Item::TemporaryKey));
    }
    for (table, item) in [("entities", Item::Peers as fn(u64) -> Item), ("sent_files", Item::SentFiles)] {
        let count = database.count(table, if table == "sent_files" { "true" } else { "id <> 0" })?;
        if count > 0 {
            notes.push(Note::NotCarried(item(count)));
        }
    }
    Ok(Parsed { material, format: Format::TelethonSqlite, notes })
}

fn check_version(database: &mut Database) -> Result<(), Error> {
    let rows = database.rows("version", &["version"], "true", 2)?;
    match rows.as_slice() {
        [row] => match row[0].integer() {
            Some(version) if VERSIONS.contains(&version) => Ok(()),
            Some(version) => Err(Error::UnknownVersion(version)),
            None => Err(Error::UnknownSchema),
        },
        _ => Err(Error::UnknownSchema),
    }
}

pub(super) fn told_address(
    host: &Cell,
    port: &Cell,
    notes: &mut Vec<Note>,
) -> Result<Option<std::net::SocketAddr>, Error> {
    let host = match host {
        cell if cell.is_blank() => None,
        cell => Some(cell.text().ok_or(Error::AddressInvalid)?),
    };
    let port = match port {
        Cell::Null => None,
        cell => Some(cell.integer().ok_or(Error::PortInvalid)?),
    };
    address::told(host, port, notes)
}

/// Since 1.28 a peer of id 0 holds the account's own id in the place of the access hash.
fn own_id(database: &mut Database, notes: &mut Vec<Note>) -> Result<Option<i64>, Error> {
    if !database.has("entities") {
        return Ok(None);
    }
    let rows = database.rows("entities", &["hash"], "id = 0", 1)?;
    Ok(match rows.first().map(|row| &row[0]) {
        None => None,
        Some(cell) => key::user_id(cell.integer().unwrap_or(0), notes),
    })
}

/// The row of id 0 is the account's, the others are channels'.
fn updates(database: &mut Database, notes: &mut Vec<Note>) -> Result<Option<UpdateState>, Error> {
    if !database.has("update_state") {
        return Ok(None);
    }
    let rows = database.rows("update_state", &["pts", "qts", "date", "seq"], "id = 0", 1)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let number = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
    let state = (|| {
        Some(UpdateState {
            pts: number(row[0].integer())?,
            qts: number(row[1].integer())?,
            date: number(row[2].seconds())?,
            seq: number(row[3].integer())?,
        })
    })();
    if state.is_none() {
        notes.push(Note::UpdateStateImplausible);
    }
    Ok(state)
}

pub(super) fn write(material: &Material, addresses: &Addresses) -> Result<Written, Error> {
    let (file, notes) = start(material, addresses, None)?;
    Ok(Written { data: file.finish()?, notes })
}

/// A file without peers.
pub(super) fn start(
    material: &Material,
    addresses: &Addresses,
    place: Option<&NamedTempFile>,
) -> Result<(Builder, Vec<Note>), Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    // With an IPv6 address Telethon's default settings move the key to DC 2, where it is worthless.
    let address = address::ipv4_of(material.home_dc, Some(home), addresses)
        .ok_or(Error::AddressUnknown(material.home_dc))?;
    let mut notes = key::lost(material);
    notes.retain(|note| !matches!(note, Note::NotCarried(Item::ChannelStates(_))));
    if home.address.is_some_and(|told| told.is_ipv6()) {
        notes.push(Note::AddressReplaced);
    }
    let mut file = Builder::start(place, SCHEMA)?;
    file.insert(
        "insert into sessions values (?, ?, ?, ?, ?)",
        vec![
            Value::Integer(material.home_dc.into()),
            Value::Text(address.ip().to_string()),
            Value::Integer(address.port().into()),
            Value::Blob(home.auth_key.expose_secret()),
            Value::Null,
        ],
    )?;
    if let Some(id) = material.telegram_user_id {
        file.insert("insert into entities (id, hash) values (0, ?)", vec![Value::Integer(id)])?;
    }
    if let Some(state) = material.updates {
        let numbers = [state.pts, state.qts, state.date, state.seq];
        let values = numbers.into_iter().map(|number| Value::Integer(number.into())).collect();
        file.insert("insert into update_state values (0, ?, ?, ?, ?)", values)?;
    }
    for (id, pts) in &material.channels {
        // Telethon writes the local time here and needs one, but goes by the counter.
        let values = vec![Value::Integer(*id), Value::Integer((*pts).into())];
        file.insert("insert into update_state values (?, ?, 0, 0, 0)", values)?;
    }
    Ok((file, notes))
}

/// Visits all peers; `None` is a row that is none. The row of id 0 is the account's own, and never one.
pub(super) fn each_peer(
    database: &mut Database<'_>,
    visit: &mut dyn FnMut(Option<Peer>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut columns = vec!["id", "hash"];
    columns.extend(
        ["username", "phone", "name", "date"]
            .into_iter()
            .filter(|name| database.has_column("entities", name)),
    );
    let places =
        ["username", "phone", "name", "date"].map(|name| columns.iter().position(|column| *column == name));
    database.each("entities", &columns, "id <> 0", &mut |row| {
        let cell = |n: usize| places[n].map(|place| &row[place]);
        let text = |n| cell(n).and_then(Cell::text).filter(|text| !text.is_empty()).map(str::to_owned);
        let peer = || {
            Some(Peer {
                id: row[0].integer()?,
                access_hash: Some(row[1].integer()?),
                kind: None,
                username: text(0),
                phone: cell(1).and_then(Cell::integer),
                name: text(2),
                date: cell(3).and_then(Cell::seconds),
            })
        };
        visit(peer())
    })
}

/// Writes peers into a file that [`start`] began.
pub(super) fn peers_into(file: &Connection) -> Result<impl FnMut(&Peer) -> Result<Place, Error>, Error> {
    let mut insert =
        file.prepare("insert or ignore into entities values (?, ?, ?, ?, ?, ?)").map_err(failed)?;
    Ok(move |peer: &Peer| {
        // Telethon has zero for basic groups, which need no hash, and no place for others without one.
        let is_basic_group = (-MARK..0).contains(&peer.id);
        let hash = peer.access_hash.or(is_basic_group.then_some(0));
        let Some(hash) = hash.filter(|_| peer.id != 0) else { return Ok(Place::None) };
        insert.execute((peer.id, hash, &peer.username, peer.phone, &peer.name, peer.date)).map_err(failed)?;
        Ok(if peer.kind.is_some() { Place::InPart } else { Place::Whole })
    })
}

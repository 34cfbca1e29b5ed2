//! Session files of Pyrogram 1 and 2, and of Hydrogram, Kurigram and Pyrofork, which share number and columns only in
//! part: number 4 is two different schemas. So columns are asked for by name, and the number only has to be known.

use super::{
    Addresses, Error, Item, Note, Parsed, Written,
    builder::{Builder, Value},
    cell::Cell,
    key,
    pyrogram::{Fields, Told},
    sqlite::Database,
    telethon_sqlite::told_address,
};
use crate::domain::material::{Format, Material, UpdateState};

/// Pyrogram 1 began at 1, Kurigram 2.2 is at 7.
const VERSIONS: std::ops::RangeInclusive<i64> = 1..=7;

/// Version 3, which all four libraries open. From Kurigram's own, Pyrogram misses a column as soon as it meets a peer.
const SCHEMA: &str = "
    create table sessions (dc_id integer primary key, api_id integer, test_mode integer, auth_key blob,
        date integer not null, user_id integer, is_bot integer);
    create table peers (id integer primary key, access_hash integer, type integer not null, username text,
        phone_number text, last_update_on integer not null default (cast(strftime('%s', 'now') as integer)));
    create table version (number integer primary key);
    create index idx_peers_id on peers (id);
    create index idx_peers_username on peers (username);
    create index idx_peers_phone_number on peers (phone_number);
    create trigger trg_peers_last_update_on after update on peers begin
        update peers set last_update_on = cast(strftime('%s', 'now') as integer) where id = new.id;
    end;
    insert into version values (3);";

pub(super) fn read(database: &mut Database, addresses: &Addresses) -> Result<Parsed, Error> {
    check_version(database)?;
    let mut columns = vec!["dc_id", "test_mode", "auth_key", "user_id", "is_bot"];
    let optional = ["api_id", "date", "server_address", "port"];
    columns.extend(optional.into_iter().filter(|column| database.has_column("sessions", column)));
    let mut rows = database.rows("sessions", &columns, "true", 2)?;
    if rows.len() > 1 {
        return Err(Error::SeveralSessions);
    }
    let row = rows.pop().ok_or(Error::NoSession)?;
    let cell =
        |name: &str| columns.iter().position(|column| *column == name).map_or(&Cell::Null, |at| &row[at]);

    let auth_key = key::auth_key(row[2].key_bytes()?)?;
    // A client that connected and was never let in has a key by now; it makes another at the next start.
    if [1, 3, 4].into_iter().any(|at| matches!(row[at], Cell::Null)) {
        return Err(Error::NotSignedIn);
    }
    let mut notes = Vec::new();
    let told = Told {
        dc: row[0].integer().ok_or(Error::DataCentre(0))?,
        test: flag(&row[1])?,
        auth_key,
        user_id: row[3].integer().unwrap_or(-1),
        is_bot: Some(flag(&row[4])?),
        api_id: api_id(cell("api_id")),
        address: match cell("server_address") {
            Cell::Null => None,
            host => told_address(host, cell("port"), &mut notes)?,
        },
    };
    let mut material = told.into_material(addresses, &mut notes)?;
    if cell("date").seconds().is_some_and(|date| date != 0) {
        notes.push(Note::NotCarried(Item::SaveTime));
    }
    let peers = database.count("peers", "true")?;
    if peers > 0 {
        notes.push(Note::NotCarried(Item::Peers(peers)));
    }
    // grammers, opened on such a file, leaves a table of this name without the column.
    if database.has_column("update_state", "id") {
        material.updates = updates(database, &mut notes)?;
        let channels = database.count("update_state", "id <> 0")?;
        if channels > 0 {
            notes.push(Note::NotCarried(Item::ChannelStates(channels)));
        }
    }
    Ok(Parsed { material, format: Format::PyrogramSqlite, notes })
}

fn check_version(database: &mut Database) -> Result<(), Error> {
    let rows = database.rows("version", &["number"], "true", 2)?;
    match rows.as_slice() {
        [row] => match row[0].integer() {
            Some(version) if VERSIONS.contains(&version) => Ok(()),
            Some(version) => Err(Error::UnknownVersion(version)),
            None => Err(Error::UnknownSchema),
        },
        _ => Err(Error::UnknownSchema),
    }
}

fn flag(cell: &Cell) -> Result<bool, Error> {
    match cell.integer() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(Error::FlagInvalid),
    }
}

fn api_id(cell: &Cell) -> i64 {
    match cell {
        Cell::Null => 0,
        // Text and the like is as implausible as a number below zero.
        cell => cell.integer().unwrap_or(-1),
    }
}

/// The row of id 0 is the account's. Some releases fill it piece by piece, and what is incomplete leads nowhere.
fn updates(database: &mut Database, notes: &mut Vec<Note>) -> Result<Option<UpdateState>, Error> {
    let rows = database.rows("update_state", &["pts", "qts", "date", "seq"], "id = 0", 1)?;
    let Some(row) = rows.first() else { return Ok(None) };
    if row.iter().any(|cell| matches!(cell, Cell::Null)) {
        notes.push(Note::NotCarried(Item::UpdateState));
        return Ok(None);
    }
    let mut numbers = row.iter().map(|cell| cell.seconds().and_then(|number| i32::try_from(number).ok()));
    let mut next = || numbers.next().flatten();
    let state = (|| Some(UpdateState { pts: next()?, qts: next()?, date: next()?, seq: next()? }))();
    if state.is_none() {
        notes.push(Note::UpdateStateImplausible);
    }
    Ok(state)
}

pub(super) fn write(material: &Material, addresses: &Addresses) -> Result<Written, Error> {
    let fields = Fields::of(material, addresses)?;
    let mut file = Builder::start(None, SCHEMA)?;
    file.insert(
        "insert into sessions values (?, ?, ?, ?, 0, ?, ?)",
        vec![
            Value::Integer(fields.dc.into()),
            Value::Integer(fields.api_id.into()),
            Value::Integer(fields.test.into()),
            Value::Blob(fields.auth_key.expose_secret()),
            Value::Integer(fields.user_id.cast_signed()),
            Value::Integer(fields.is_bot.into()),
        ],
    )?;
    Ok(Written { data: file.finish()?, notes: fields.notes })
}

//! The SQLite file of grammers-session 0.11.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    ops::RangeInclusive,
};

use rusqlite::Connection;
use tempfile::NamedTempFile;

use super::{
    Addresses, Error, Item, Note, Parsed, Written, address,
    builder::{Builder, Value, failed},
    key,
    peers::{Kind, Peer, Place},
    sqlite::Database,
};
use crate::domain::material::{CHANNELS_MAX, DcKey, Format, Material, UpdateState};

/// `PRAGMA user_version` of the only schema there is.
const VERSION: i64 = 1;
/// The home of a file that names none.
const HOME_DEFAULT: i32 = 2;
/// More data centres than there are; bounds the table.
const DCS_MAX: usize = 64;
/// Bits of a peer's subtype.
const SELF: i64 = 1;
const BOT: i64 = 2;
const MEGAGROUP: i64 = 4;
const BROADCAST: i64 = 8;
const GIGAGROUP: i64 = 12;
const COMMUNITY: i64 = 16;
/// Ids of users, basic groups and channels; grammers gives up on any other.
const IDS: [RangeInclusive<i64>; 3] =
    [1..=USER_ID_MAX, -999_999_999_999..=-1, -1_997_852_516_352..=-1_000_000_000_001];
/// All peers but the account itself.
const OTHERS: &str = "subtype is null or not subtype & 1";
/// The largest id of a user; grammers gives up on a larger one.
const USER_ID_MAX: i64 = 0xff_ffff_ffff;

const SCHEMA: &str = "
    create table dc_home (dc_id integer not null, primary key(dc_id));
    create table dc_option (dc_id integer not null, ipv4 text not null, ipv6 text not null, auth_key blob,
        primary key (dc_id));
    create table peer_info (peer_id integer not null, hash integer, subtype integer, primary key (peer_id));
    create table update_state (pts integer not null, qts integer not null, date integer not null,
        seq integer not null);
    create table channel_state (peer_id integer not null, pts integer not null, primary key (peer_id));
    pragma user_version = 1;";

pub(super) fn read(database: &mut Database, addresses: &Addresses) -> Result<Parsed, Error> {
    let version = database.user_version()?;
    if version != VERSION {
        return Err(Error::UnknownVersion(version));
    }
    let homes = database.rows("dc_home", &["dc_id"], "true", 2)?;
    let home_dc = match homes.as_slice() {
        [] => HOME_DEFAULT,
        [row] => key::home_dc(row[0].integer().ok_or(Error::DataCentre(0))?)?,
        _ => return Err(Error::SeveralSessions),
    };
    let mut notes = Vec::new();
    let keys = keys(database, &mut notes)?;
    let home = keys.get(&home_dc).ok_or(Error::NoKey)?;
    if let Some(address) = home.address {
        address::judge(home_dc, address, addresses, &mut notes);
    }
    let mut material = key::material(home_dc, home.auth_key.clone(), None);
    material.keys = keys;
    if database.has("peer_info") {
        let own = database.rows("peer_info", &["peer_id", "subtype"], "subtype & 1", 1)?;
        if let Some([id, subtype]) = own.first().map(Vec::as_slice) {
            material.telegram_user_id = key::user_id(id.integer().unwrap_or(0), &mut notes);
            material.is_bot = subtype.integer().map(|bits| bits & BOT != 0);
        }
    }
    material.updates = updates(database, &mut notes)?;
    let peers = database.count("peer_info", OTHERS)?;
    if peers > 0 {
        notes.push(Note::NotCarried(Item::Peers(peers)));
    }
    if database.has("channel_state") {
        let rows = database.rows("channel_state", &["peer_id", "pts"], "true", CHANNELS_MAX)?;
        let all = database.count("channel_state", "true")?;
        material.channels = key::channels(&rows, all, &mut notes);
    }
    Ok(Parsed { material, format: Format::Grammers, notes })
}

/// Of all data centres that have one.
fn keys(database: &mut Database, notes: &mut Vec<Note>) -> Result<BTreeMap<i32, DcKey>, Error> {
    let rows = database.rows(
        "dc_option",
        &["dc_id", "ipv4", "ipv6", "auth_key"],
        "auth_key is not null",
        DCS_MAX + 1,
    )?;
    if rows.len() > DCS_MAX {
        return Err(Error::TooLarge);
    }
    let mut keys = BTreeMap::new();
    for row in rows {
        let number = row[0].integer().unwrap_or(0);
        let dc = i32::try_from(number).ok().filter(|dc| *dc > 0).ok_or(Error::DataCentre(number))?;
        let auth_key = key::auth_key(row[3].key_bytes()?)?;
        let ipv4: SocketAddrV4 =
            row[1].text().and_then(|text| text.parse().ok()).ok_or(Error::AddressInvalid)?;
        let ipv6: SocketAddrV6 =
            row[2].text().and_then(|text| text.parse().ok()).ok_or(Error::AddressInvalid)?;
        let address = address::usable(SocketAddr::V4(ipv4))?;
        if ipv6.ip().to_ipv4_mapped().is_none() && !notes.contains(&Note::NotCarried(Item::Ipv6Address)) {
            notes.push(Note::NotCarried(Item::Ipv6Address));
        }
        keys.insert(dc, DcKey { auth_key, address: Some(address) });
    }
    Ok(keys)
}

fn updates(database: &mut Database, notes: &mut Vec<Note>) -> Result<Option<UpdateState>, Error> {
    if !database.has("update_state") {
        return Ok(None);
    }
    let rows = database.rows("update_state", &["pts", "qts", "date", "seq"], "true", 1)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut numbers = row.iter().map(|cell| cell.integer().and_then(|number| i32::try_from(number).ok()));
    let mut next = || numbers.next().flatten();
    let state = (|| Some(UpdateState { pts: next()?, qts: next()?, date: next()?, seq: next()? }))();
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
    let mut notes: Vec<Note> = key::lost_everywhere(material).into_iter().map(Note::NotCarried).collect();
    let mut file = Builder::start(place, SCHEMA)?;
    file.insert("insert into dc_home values (?)", vec![Value::Integer(material.home_dc.into())])?;

    // Every known data centre, with or without a key: for one that is missing, grammers takes Telegram's
    // production address, wherever the session belongs.
    let mut lost = 0;
    let dcs: std::collections::BTreeSet<i32> =
        material.keys.keys().chain(addresses.keys()).copied().collect();
    for dc in dcs {
        let key = material.keys.get(&dc);
        match address::ipv4_of(dc, key, addresses) {
            Some(ipv4) => write_dc(&mut file, dc, ipv4, key)?,
            None if dc == material.home_dc => return Err(Error::AddressUnknown(dc)),
            None if key.is_some() => lost += 1,
            None => {}
        }
    }
    if lost > 0 {
        notes.push(Note::NotCarried(Item::OtherKeys(lost)));
    }
    write_own_peer(&mut file, material, &mut notes)?;
    if let Some(state) = material.updates {
        let numbers = [state.pts, state.qts, state.date, state.seq];
        let values = numbers.into_iter().map(|number| Value::Integer(number.into())).collect();
        file.insert("insert into update_state values (?, ?, ?, ?)", values)?;
    }
    for (id, pts) in &material.channels {
        let values = vec![Value::Integer(*id), Value::Integer((*pts).into())];
        file.insert("insert into channel_state values (?, ?)", values)?;
    }
    Ok((file, notes))
}

/// Visits all peers; `None` is a row that is none.
pub(super) fn each_peer(
    database: &mut Database<'_>,
    visit: &mut dyn FnMut(Option<Peer>) -> Result<(), Error>,
) -> Result<(), Error> {
    database.each("peer_info", &["peer_id", "hash", "subtype"], OTHERS, &mut |row| {
        let kind = match row[2].integer().unwrap_or(0) {
            bits if bits & GIGAGROUP == GIGAGROUP => Some(Kind::Gigagroup),
            bits if bits & BROADCAST != 0 => Some(Kind::Broadcast),
            bits if bits & MEGAGROUP != 0 => Some(Kind::Megagroup),
            bits if bits & COMMUNITY != 0 => Some(Kind::Community),
            bits if bits & BOT != 0 => Some(Kind::Bot),
            _ => None,
        };
        let id = row[0].integer().filter(|id| *id != 0);
        visit(id.map(|id| Peer { id, access_hash: row[1].integer(), kind, ..Peer::default() }))
    })
}

/// Writes peers into a file that [`start`] began.
pub(super) fn peers_into(
    file: &Connection,
    material: &Material,
) -> Result<impl FnMut(&Peer) -> Result<Place, Error>, Error> {
    // The account itself is there already, without its hash.
    let mut insert = file
        .prepare(
            "insert into peer_info values (?, ?, ?) on conflict (peer_id) do update set hash = excluded.hash",
        )
        .map_err(failed)?;
    let own = material.telegram_user_id;
    Ok(move |peer: &Peer| {
        if !IDS.iter().any(|ids| ids.contains(&peer.id)) {
            return Ok(Place::None);
        }
        let subtype = peer.kind.map(|kind| match kind {
            Kind::Bot => BOT,
            Kind::Megagroup => MEGAGROUP,
            Kind::Broadcast => BROADCAST,
            Kind::Gigagroup => GIGAGROUP,
            Kind::Community => COMMUNITY,
        });
        let is_basic_group = IDS[1].contains(&peer.id);
        let hash = peer.access_hash.filter(|_| !is_basic_group);
        insert.execute((peer.id, hash, subtype)).map_err(failed)?;
        let has_more = peer.username.is_some() || peer.phone.is_some() || peer.name.is_some();
        Ok(if has_more && own != Some(peer.id) { Place::InPart } else { Place::Whole })
    })
}

fn write_dc(file: &mut Builder, dc: i32, ipv4: SocketAddrV4, key: Option<&DcKey>) -> Result<(), Error> {
    let ipv6 = match key.and_then(|key| key.address) {
        Some(SocketAddr::V6(address)) => address,
        // The column must not be empty; the mapped address leads to the same place.
        Some(SocketAddr::V4(_)) | None => SocketAddrV6::new(ipv4.ip().to_ipv6_mapped(), ipv4.port(), 0, 0),
    };
    let auth_key = key.map_or(Value::Null, |key| Value::Blob(key.auth_key.expose_secret()));
    let values = vec![
        Value::Integer(dc.into()),
        Value::Text(ipv4.to_string()),
        Value::Text(ipv6.to_string()),
        auth_key,
    ];
    file.insert("insert into dc_option values (?, ?, ?, ?)", values)
}

/// The account itself. Its access hash is not known here, and grammers takes NULL for that.
fn write_own_peer(file: &mut Builder, material: &Material, notes: &mut Vec<Note>) -> Result<(), Error> {
    match material.telegram_user_id {
        Some(id) if (1..=USER_ID_MAX).contains(&id) => {
            if material.is_bot.is_none() {
                notes.push(Note::AssumedUser);
            }
            let subtype = if material.is_bot == Some(true) { SELF | BOT } else { SELF };
            let values = vec![Value::Integer(id), Value::Integer(subtype)];
            file.insert("insert into peer_info values (?, null, ?)", values)
        }
        Some(_) => {
            notes.push(Note::NotCarried(Item::UserId));
            Ok(())
        }
        None => {
            if material.is_bot.is_some() {
                notes.push(Note::NotCarried(Item::BotFlag));
            }
            Ok(())
        }
    }
}

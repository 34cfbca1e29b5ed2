//! The users, groups and channels a session knows, carried from one library's file to another's, one at a time.

use super::{
    Error, Item, Note, builder::Builder, detect::Shape, grammers, sqlite::Database, telethon_sqlite,
};
use crate::domain::material::{Format, Material};

/// Somebody or something an account met.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Marked: above 0 a user, below -10^12 a channel, else below 0 a basic group.
    pub(super) id: i64,
    pub(super) access_hash: Option<i64>,
    pub(super) kind: Option<Kind>,
    pub(super) username: Option<String>,
    /// Digits.
    pub(super) phone: Option<i64>,
    pub(super) name: Option<String>,
    /// When it was last seen, in seconds since the Unix epoch.
    pub(super) date: Option<i64>,
}

/// What a peer is beyond what its id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bot,
    Megagroup,
    Broadcast,
    Gigagroup,
    Community,
}

/// How much of a peer found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Whole,
    /// Without its name, username, phone number or kind.
    InPart,
    /// Not at all.
    None,
}

/// Whether peers can go from a file of this shape into one of that format.
pub(super) fn carries(from: Shape, to: Format) -> bool {
    let read = matches!(from, Shape::TelethonSqlite | Shape::Grammers);
    read && matches!(to, Format::TelethonSqlite | Format::Grammers)
}

/// Puts all peers of a database into another, and tells what could not be carried.
pub(super) fn carry(
    database: &mut Database<'_>,
    from: Shape,
    file: &mut Builder,
    to: Format,
    material: &Material,
) -> Result<Vec<Note>, Error> {
    let (mut lost, mut partial) = (0, 0);
    file.fill(|connection| {
        let insert: &mut dyn FnMut(&Peer) -> Result<Place, Error> = match to {
            Format::TelethonSqlite => &mut telethon_sqlite::peers_into(connection)?,
            Format::Grammers => &mut grammers::peers_into(connection, material)?,
            _ => return Err(Error::Unsupported(to)),
        };
        let mut visit = |peer: Option<Peer>| {
            match peer.map_or(Ok(Place::None), |peer| insert(&peer))? {
                Place::Whole => {}
                Place::InPart => partial += 1,
                Place::None => lost += 1,
            }
            Ok(())
        };
        match from {
            Shape::TelethonSqlite => telethon_sqlite::each_peer(database, &mut visit),
            Shape::Grammers => grammers::each_peer(database, &mut visit),
            _ => Err(Error::UnknownSchema),
        }
    })?;
    let counts = [(lost, Item::Peers(lost)), (partial, Item::PeerDetails(partial))];
    Ok(counts.into_iter().filter(|(count, _)| *count > 0).map(|(_, item)| Note::NotCarried(item)).collect())
}

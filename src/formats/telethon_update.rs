//! A Telethon file that gets another session row and keeps everything else: entities, sent files, channels.

use sqlx::{
    Connection as _, Row as _,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteOwnedBuf},
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Addresses, Error, Note, address, key, sqlite::connect};
use crate::domain::material::Material;

const FAILED: Error = Error::Internal("SQLite in memory");

/// The bytes of the file with the session in it, made in memory. `None` for a file with code of its own, such as
/// triggers: writing to it would run that.
///
/// # Errors
/// `AddressUnknown`, `NoKey`, and `Corrupt` for a file that cannot be written to.
pub(super) async fn update(
    bytes: &[u8],
    material: &Material,
    addresses: &Addresses,
    with_state: bool,
) -> Result<Option<(Zeroizing<Vec<u8>>, Vec<Note>)>, Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    let address = address::ipv4_of(material.home_dc, Some(home), addresses)
        .ok_or(Error::AddressUnknown(material.home_dc))?;
    let mut notes = key::lost(material);
    if home.address.is_some_and(|told| told.is_ipv6()) {
        notes.push(Note::AddressReplaced);
    }
    let mut buffer = SqliteOwnedBuf::try_from(bytes).map_err(|_| Error::Internal("memory"))?;
    // A database in memory has no log beside it.
    if buffer.len() > 20 && buffer[18..20] == [2, 2] {
        buffer[18..20].copy_from_slice(&[1, 1]);
    }
    let mut database = connect(SqliteConnectOptions::new().in_memory(true)).await?;
    database.deserialize(None, buffer, false).await.map_err(|_| Error::Corrupt)?;
    let done = replace(&mut database, material, address, with_state).await;
    let done = match done {
        Ok(true) => database.serialize(None).await.map_err(|_| FAILED).map(|mut buffer| {
            let bytes = Zeroizing::new(buffer.to_vec());
            buffer.zeroize();
            Some((bytes, notes))
        }),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let _closed = database.close().await;
    done
}

async fn replace(
    database: &mut SqliteConnection,
    material: &Material,
    address: std::net::SocketAddrV4,
    with_state: bool,
) -> Result<bool, Error> {
    let foreign = "select count(*) from sqlite_schema where type not in ('table', 'index') or \
                   (type = 'table' and rootpage = 0)";
    let row = sqlx::query(foreign).fetch_one(&mut *database).await.map_err(|_| Error::Corrupt)?;
    if row.try_get::<i64, _>(0).map_err(|_| Error::Corrupt)? > 0 {
        return Ok(false);
    }
    let home = material.home().ok_or(Error::NoKey)?;
    let dead = |_| Error::Corrupt;
    // The former key must not stay in pages that are free now.
    sqlx::raw_sql("pragma secure_delete = on").execute(&mut *database).await.map_err(dead)?;
    let mut tx = database.begin().await.map_err(dead)?;
    sqlx::query("delete from sessions").execute(&mut *tx).await.map_err(dead)?;
    sqlx::query("insert into sessions (dc_id, server_address, port, auth_key) values (?, ?, ?, ?)")
        .bind(material.home_dc)
        .bind(address.ip().to_string())
        .bind(i64::from(address.port()))
        .bind(home.auth_key.expose_secret().to_vec())
        .execute(&mut *tx)
        .await
        .map_err(dead)?;
    if let Some(id) = material.telegram_user_id {
        sqlx::query("insert or replace into entities (id, hash) values (0, ?)")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(dead)?;
    }
    if let (true, Some(state)) = (with_state, &material.updates) {
        let update = "insert or replace into update_state (id, pts, qts, date, seq) values (0, ?, ?, ?, ?)";
        sqlx::query(update)
            .bind(state.pts)
            .bind(state.qts)
            .bind(state.date)
            .bind(state.seq)
            .execute(&mut *tx)
            .await
            .map_err(dead)?;
    }
    tx.commit().await.map_err(dead)?;
    Ok(true)
}

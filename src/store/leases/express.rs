//! What usually happens, in one round trip: on PostgreSQL a batch goes as one message of prepared statements, which the
//! server runs as one transaction of its own.
//!
//! No reply is waited for in between, so a process that is stopped or cut off in the middle holds no lock, and the
//! transaction happens wholly or not at all. It answers what was granted, extended and ended. Whatever was not, and why,
//! is left to the careful way, which can ask.

use std::time::Instant;

use futures::TryStreamExt as _;
use sea_orm::QueryResult;
use sqlx::{Either, PgConnection, postgres::PgPool};

use crate::{
    domain::time::millis,
    store::{
        Error, Store,
        error::classify_sqlx,
        leases::{
            desk::{Batch, LOCK_PATIENCE, Part},
            sql::Texts,
            tenant_of,
        },
        tx,
    },
};

const SERVING: &str = "serving leases";

/// Settings for the transaction alone, beside its limits. The planner believes in the table's last statistics: for one
/// that is small, or that changed much since, it likes to read all sessions of a tenant, with every version of each row
/// that leases left behind, rather than those that were asked for. Without these each is found by an index.
const INDEXES_ALONE: &[&str] =
    &["enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_material"];

/// What one statement of the message is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Settings for this transaction alone; they answer no rows.
    Set,
    Renew,
    Release,
    Grant,
}

/// The rows of one part, by statement.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) renewed: Vec<QueryResult>,
    pub(super) released: Vec<QueryResult>,
    pub(super) granted: Vec<QueryResult>,
}

/// Prepares the statements on a new connection, under a role that may see the tables.
///
/// # Errors
/// The database's.
pub(in crate::store) async fn prepare(
    connection: &mut PgConnection,
    texts: &Texts,
) -> Result<(), sqlx::Error> {
    let message = format!(
        "select set_config('role', 'service_role', true), set_config('search_path', '{path}', true); \
         prepare usm_renew(text, text, text) as {renew}; \
         prepare usm_release(text, text) as {release}; \
         prepare usm_grant(text, text, text, bigint) as {grant}",
        path = tx::SEARCH_PATH,
        renew = texts.renew,
        release = texts.release_told,
        grant = texts.grant_told,
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(message)).execute(connection).await?;
    Ok(())
}

impl Store {
    /// Serves a batch in one message; answers the rows of each part.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and the others of the database; whether anything happened is told by `sent`.
    pub(super) async fn express(
        &self,
        pool: &PgPool,
        batch: &Batch,
        deadline: Instant,
        sent: &std::sync::atomic::AtomicBool,
    ) -> Result<Vec<Rows>, Error> {
        let patience = millis(deadline.saturating_duration_since(Instant::now())).clamp(1, 600_000);
        let mut message = format!(
            "set local search_path = {path}; set local statement_timeout = {patience}; \
             set local lock_timeout = {lock_patience};",
            path = tx::SEARCH_PATH,
            lock_patience = LOCK_PATIENCE.as_millis(),
        );
        for setting in INDEXES_ALONE {
            message.push_str(&format!("set local {setting} = off;"));
        }
        let mut kinds = vec![(0, Kind::Set); 3 + INDEXES_ALONE.len()];
        for (number, part) in batch.parts.iter().enumerate() {
            self.write(part, &mut message, &mut |kind| kinds.push((number, kind)));
        }
        let mut connection = pool.acquire().await.map_err(classify_sqlx(SERVING))?;
        sent.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut rows: Vec<Rows> = batch.parts.iter().map(|_| Rows::default()).collect();
        let mut at = 0;
        let mut answers = sqlx::raw_sql(sqlx::AssertSqlSafe(message)).fetch_many(&mut *connection);
        while let Some(answer) = answers.try_next().await.map_err(classify_sqlx(SERVING))? {
            match answer {
                Either::Left(_done) => at += 1,
                Either::Right(row) => {
                    let (part, kind) = kinds.get(at).ok_or(Error::Corrupt { what: "answers of a batch" })?;
                    let rows = &mut rows[*part];
                    match kind {
                        Kind::Set => {}
                        Kind::Renew => rows.renewed.push(row.into()),
                        Kind::Release => rows.released.push(row.into()),
                        Kind::Grant => rows.granted.push(row.into()),
                    }
                }
            }
        }
        Ok(rows)
    }

    /// Whose rights, then what is asked. Settings are commands of their own here: unlike the function that sets them
    /// elsewhere they are not planned.
    fn write(&self, part: &Part, message: &mut String, kind: &mut impl FnMut(Kind)) {
        let (role, claims) = tx::identity(&part.authority);
        message
            .push_str(&format!("set local role {role}; set local request.jwt.claims = {};", quoted(&claims)));
        kind(Kind::Set);
        kind(Kind::Set);
        let environment = self.environment.as_str();
        let tenant = tenant_of(&part.authority);
        let mut say = |statement, name: &str, values: &[&str]| {
            let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
            message.push_str(&format!("execute {name}({});", values.join(", ")));
            kind(statement);
        };
        if !part.renewals.is_empty() {
            say(Kind::Renew, "usm_renew", &[&Self::renewals_asked(&part.renewals), environment, tenant]);
        }
        if !part.releases.is_empty() {
            say(Kind::Release, "usm_release", &[&Self::releases_asked(&part.releases), tenant]);
        }
        // A grant ends a place in a queue, which is the careful way's to do.
        let grants = || part.grants.iter().filter(|ask| !ask.work.queued);
        if grants().next().is_some() {
            let gap = millis(self.quiet_gap).to_string();
            say(Kind::Grant, "usm_grant", &[&Self::grants_asked(grants()), environment, tenant, &gap]);
        }
    }
}

/// A literal that nothing in it can end: what is quoted is JSON or one of our own words, and a dollar sign in JSON can
/// be written without one.
fn quoted(text: &str) -> String {
    format!("$q${}$q$", text.replace('$', "\\u0024"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_its_quotes() {
        let name = serde_json::json!({ "holder": "$q$; drop table x; --", "quote": "'\"\\" }).to_string();
        let literal = quoted(&name);
        assert_eq!(literal.matches("$q$").count(), 2);
        let inside = literal.trim_start_matches("$q$").trim_end_matches("$q$");
        let read: serde_json::Value = serde_json::from_str(inside).expect("JSON still");
        assert_eq!(read["holder"], "$q$; drop table x; --");
    }
}

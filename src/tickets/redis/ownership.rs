//! Which replica runs which login. A tenure ends by itself; who lost one may take it up again unless somebody else
//! did first.

use std::time::Duration;

use fred::types::Value;

use super::{Redis, bytes, millis};
use crate::{
    domain::{id::Ticket, login::Login},
    tickets::{Error, Former, Restored, Standing, content},
};

const RENEW: &str = include_str!("../lua/renew.lua");
const ORPHANS: &str = include_str!("../lua/orphans.lua");
const CLAIM: &str = include_str!("../lua/claim.lua");
const LET_GO: &str = include_str!("../lua/let_go.lua");
const RETIRE: &str = include_str!("../lua/retire.lua");
const RESTORE: &str = include_str!("../lua/restore.lua");

/// Logins that one call speaks of; more are asked about in turns.
const BATCH: usize = 500;
/// How long a new login's first tenure is: until the first round of renewals has surely come by.
pub(super) const FIRST_TENURE: Duration = Duration::from_millis(3200);
/// What is published when a login is left to others.
pub(super) const LEFT: &str = "left";

impl Redis {
    pub(in crate::tickets) async fn renew(
        &self,
        tickets: &[Ticket],
        tenure: Duration,
    ) -> Result<Vec<Standing>, Error> {
        let mut standings = Vec::with_capacity(tickets.len());
        for batch in tickets.chunks(BATCH) {
            let mut arguments: Vec<Value> = vec![
                self.replica.as_str().into(),
                millis(tenure).into(),
                self.keys.ticket_prefix().into(),
                self.keys.owner_prefix().into(),
            ];
            arguments.extend(batch.iter().map(|ticket| Value::from(ticket.expose_secret())));
            let answer: Vec<i64> =
                self.run("renewing logins", RENEW, vec![self.keys.running()], arguments).await?;
            if answer.len() != batch.len() {
                return Err(Error::Unreadable { source: None });
            }
            standings.extend(answer.into_iter().map(|standing| match standing {
                1 => Standing::Owner,
                2 => Standing::OwnerOfEnded,
                -1 => Standing::Gone,
                _ => Standing::Stranger,
            }));
        }
        Ok(standings)
    }

    pub(in crate::tickets) async fn orphans(&self, limit: u32) -> Result<Vec<Ticket>, Error> {
        let arguments = vec![i64::from(limit).into(), self.keys.ticket_prefix().into()];
        let answer: Vec<String> =
            self.run("looking for orphaned logins", ORPHANS, vec![self.keys.running()], arguments).await?;
        // What is no ticket of ours cannot be taken over.
        Ok(answer.iter().filter_map(|ticket| Ticket::parse(ticket).ok()).collect())
    }

    pub(in crate::tickets) async fn claim(
        &self,
        ticket: &Ticket,
        tenure: Duration,
    ) -> Result<Option<Former>, Error> {
        let arguments =
            vec![ticket.expose_secret().into(), self.replica.as_str().into(), millis(tenure).into()];
        let answer: String = self.run("claiming a login", CLAIM, self.login_keys(ticket), arguments).await?;
        match answer.as_str() {
            "let go" => Ok(Some(Former::LetGo)),
            "silent" => Ok(Some(Former::Silent)),
            "gone" | "held" => Ok(None),
            _ => Err(Error::Unreadable { source: None }),
        }
    }

    pub(in crate::tickets) async fn let_go(&self, ticket: &Ticket) -> Result<(), Error> {
        let arguments = vec![
            ticket.expose_secret().into(),
            self.replica.as_str().into(),
            self.keys.channel().into(),
            LEFT.into(),
        ];
        self.run::<i64>("leaving a login", LET_GO, self.login_keys(ticket), arguments).await?;
        Ok(())
    }

    pub(in crate::tickets) async fn retire(&self, ticket: &Ticket) -> Result<(), Error> {
        let arguments = vec![ticket.expose_secret().into(), self.replica.as_str().into()];
        self.run::<i64>("retiring a login", RETIRE, self.login_keys(ticket), arguments).await?;
        Ok(())
    }

    pub(in crate::tickets) async fn restore(
        &self,
        login: &Login,
        checkpoint: Option<&[u8]>,
        ttl: Duration,
    ) -> Result<Restored, Error> {
        let hash = login.ticket.hash();
        let checkpoint = match checkpoint {
            Some(plain) => content::seal_checkpoint(&self.vault, &hash, plain)?,
            None => Vec::new(),
        };
        let keys = vec![
            self.keys.ticket(&login.ticket),
            self.keys.active(&login.key),
            self.keys.owner(&login.ticket),
            self.keys.running(),
        ];
        let arguments: Vec<Value> = vec![
            login.ticket.expose_secret().into(),
            hash.as_str().into(),
            login.version.to_string().into(),
            login.state.name().into(),
            bytes(content::seal(&self.vault, login)?),
            bytes(checkpoint),
            millis(ttl).into(),
            self.keys.channel().into(),
            self.keys.ticket_prefix().into(),
            self.replica.as_str().into(),
            millis(FIRST_TENURE).into(),
        ];
        let answer: String = self.run("restoring a login", RESTORE, keys, arguments).await?;
        match answer.as_str() {
            "restored" => Ok(Restored::Restored),
            "there" => Ok(Restored::There),
            "superseded" => Ok(Restored::Superseded),
            _ => Err(Error::Unreadable { source: None }),
        }
    }

    pub(in crate::tickets) async fn orphaned(&self) {
        self.left.notified().await;
    }

    fn login_keys(&self, ticket: &Ticket) -> Vec<String> {
        vec![self.keys.ticket(ticket), self.keys.owner(ticket), self.keys.running()]
    }
}

//! Requests for a login that another replica runs, and their answers, on their way through Redis' channel. They are
//! sealed, and nowhere stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Error;
use crate::{
    domain::{
        error::{Error as Refusal, Reason},
        id::{RequestId, TicketHash},
        login::{Ask, text_of},
        secret::{self, Secret},
        time::millis,
    },
    vault::Vault,
};

const ASK: &str = "login request";
const ANSWER: &str = "login answer";
/// More than any request needs: codes and passwords are bounded where they come in.
const LENGTH_MAX: usize = 8 * 1024;
/// Facts that may come with a refusal, by the names that callers know.
const FACTS: [&str; 4] = ["attempts_left", "state", "telegram_error", "dc_id"];

/// A request from another replica.
#[derive(Debug)]
pub struct Asked {
    /// Its asker's name for it; a repetition has the same.
    pub id: String,
    pub ticket: TicketHash,
    /// `None`: somebody took the request up before, and its asker waits for the answer.
    pub ask: Option<Ask>,
}

/// What came of a request: the asker reads the login itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Refused { reason: Reason, retry_after: Option<Duration>, facts: Vec<(&'static str, String)> },
}

impl Answer {
    pub fn of(error: &Refusal) -> Self {
        let facts = error.facts.iter().filter(|(name, _)| FACTS.contains(name)).cloned().collect();
        Self::Refused { reason: error.reason, retry_after: error.retry_after, facts }
    }

    /// # Errors
    /// What the login's replica refused.
    pub fn require(self) -> Result<(), Refusal> {
        match self {
            Self::Done => Ok(()),
            Self::Refused { reason, retry_after, facts } => {
                let mut refusal = Refusal::new(reason, text_of(reason));
                refusal.retry_after = retry_after;
                refusal.facts = facts;
                Err(refusal)
            }
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum AskForm {
    Password {
        #[serde(with = "secret::plain")]
        text: Secret,
        request_id: Option<String>,
    },
    Code {
        #[serde(with = "secret::plain")]
        text: Secret,
    },
    Resend {
        request_id: Option<String>,
    },
    Cancel,
}

#[derive(Deserialize, Serialize)]
struct AnswerForm {
    reason: Option<String>,
    retry_after_millis: Option<i64>,
    facts: Vec<(String, String)>,
}

/// Sealed for one login and one request.
pub(super) fn seal_ask(vault: &Vault, ticket: &TicketHash, id: &str, ask: &Ask) -> Result<Vec<u8>, Error> {
    let form = match ask.clone() {
        Ask::Password { password: text, request } => {
            AskForm::Password { text, request_id: request.as_ref().map(RequestId::to_text) }
        }
        Ask::Code(text) => AskForm::Code { text },
        Ask::Resend(request) => AskForm::Resend { request_id: request.as_ref().map(RequestId::to_text) },
        Ask::Cancel => AskForm::Cancel,
    };
    seal(vault, ASK, &binding(ticket, id), &form)
}

pub(super) fn open_ask(vault: &Vault, ticket: &TicketHash, id: &str, sealed: &[u8]) -> Result<Ask, Error> {
    Ok(match open(vault, ASK, &binding(ticket, id), sealed)? {
        AskForm::Password { text, request_id } => {
            Ask::Password { password: text, request: request_of(request_id)? }
        }
        AskForm::Code { text } => Ask::Code(text),
        AskForm::Resend { request_id } => Ask::Resend(request_of(request_id)?),
        AskForm::Cancel => Ask::Cancel,
    })
}

fn request_of(text: Option<String>) -> Result<Option<RequestId>, Error> {
    RequestId::parse_optional(&text.unwrap_or_default()).map_err(|_| Error::Unreadable { source: None })
}

pub(super) fn seal_answer(vault: &Vault, id: &str, answer: &Answer) -> Result<Vec<u8>, Error> {
    let form = match answer {
        Answer::Done => AnswerForm { reason: None, retry_after_millis: None, facts: Vec::new() },
        Answer::Refused { reason, retry_after, facts } => AnswerForm {
            reason: Some(reason.name().to_owned()),
            retry_after_millis: retry_after.map(millis),
            facts: facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        },
    };
    seal(vault, ANSWER, id, &form)
}

pub(super) fn open_answer(vault: &Vault, id: &str, sealed: &[u8]) -> Result<Answer, Error> {
    let form: AnswerForm = open(vault, ANSWER, id, sealed)?;
    let Some(reason) = form.reason else { return Ok(Answer::Done) };
    let reason = Reason::parse(&reason).ok_or(Error::Unreadable { source: None })?;
    let facts = form
        .facts
        .into_iter()
        .filter_map(|(name, value)| FACTS.iter().find(|known| **known == name).map(|known| (*known, value)));
    Ok(Answer::Refused {
        reason,
        retry_after: form
            .retry_after_millis
            .and_then(|span| u64::try_from(span).ok())
            .map(Duration::from_millis),
        facts: facts.collect(),
    })
}

fn binding(ticket: &TicketHash, id: &str) -> String {
    format!("{}:{id}", ticket.as_str())
}

fn seal(vault: &Vault, context: &str, bound_to: &str, form: &impl Serialize) -> Result<Vec<u8>, Error> {
    // Room for all, so that the buffer never moves and leaves a copy behind.
    let mut text = Zeroizing::new(vec![0; LENGTH_MAX]);
    let mut room = std::io::Cursor::new(text.as_mut_slice());
    serde_json::to_writer(&mut room, form).map_err(|_| Error::TooLarge)?;
    let length = usize::try_from(room.position()).map_err(|_| Error::TooLarge)?;
    vault
        .seal_blob(context, bound_to.as_bytes(), &text[..length])
        .map_err(|error| Error::Unreadable { source: Some(Box::new(error)) })
}

fn open<T: for<'de> Deserialize<'de>>(
    vault: &Vault,
    context: &str,
    bound_to: &str,
    sealed: &[u8],
) -> Result<T, Error> {
    let text = vault
        .unseal_blob(context, bound_to.as_bytes(), sealed)
        .map_err(|error| Error::Unreadable { source: Some(Box::new(error)) })?;
    // The parser's own message may quote the text, so it goes no further.
    serde_json::from_slice(&text).map_err(|_| Error::Unreadable { source: None })
}

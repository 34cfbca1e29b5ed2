//! What Redis holds of a login besides its version and the name of its state: a JSON text, sealed by the vault and
//! bound to the ticket, so that it opens under no other one.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Error;
use crate::{
    domain::{
        error::Reason,
        id::{RequestId, SessionKey, Ticket, TicketHash},
        login::{CodeDelivery, CodeWay, Failure, Login, Method, QrToken, State},
        material::Device,
        secret::{self, Secret},
        time::{Timestamp, millis},
    },
    vault::Vault,
};

const VERSION: u32 = 2;
/// More than any login needs: its texts are bounded where they come in.
const LENGTH_MAX: usize = 64 * 1024;
const LOGIN: &str = "login ticket";
const CHECKPOINT: &str = "login checkpoint";

/// A row as Redis holds it.
pub(super) struct Row {
    pub(super) version: u64,
    pub(super) state: String,
    pub(super) sealed: Vec<u8>,
}

pub(super) fn seal(vault: &Vault, login: &Login) -> Result<Vec<u8>, Error> {
    let hash = login.ticket.hash();
    // Room for all, so that the buffer never moves and leaves a copy behind.
    let mut text = Zeroizing::new(vec![0; LENGTH_MAX]);
    let mut room = std::io::Cursor::new(text.as_mut_slice());
    serde_json::to_writer(&mut room, &Content::of(login)).map_err(|_| Error::TooLarge)?;
    let length = usize::try_from(room.position()).map_err(|_| Error::TooLarge)?;
    vault.seal_blob(LOGIN, hash.as_str().as_bytes(), &text[..length]).map_err(unreadable)
}

/// Puts a login together again. A superseded one was marked by a script, which cannot seal: there, and only
/// there, the version and the state stand beside the sealed contents.
pub(super) fn open(vault: &Vault, ticket: &Ticket, row: &Row) -> Result<Login, Error> {
    let hash = ticket.hash();
    let text = vault.unseal_blob(LOGIN, hash.as_str().as_bytes(), &row.sealed).map_err(unreadable)?;
    // The parser's own message may quote the text, so it goes no further.
    let content: Content = serde_json::from_slice(&text).map_err(|_| Error::Unreadable { source: None })?;
    let mut login = content.into_login(ticket).ok_or(Error::Unreadable { source: None })?;
    if login.version == row.version && login.state.name() == row.state {
        return Ok(login);
    }
    let superseded =
        row.state == State::Superseded.name() && login.version.checked_add(1) == Some(row.version);
    if superseded && !login.state.is_final() {
        login.state = State::Superseded;
        login.version = row.version;
        return Ok(login);
    }
    Err(Error::Unreadable { source: None })
}

pub(super) fn seal_checkpoint(vault: &Vault, hash: &TicketHash, plain: &[u8]) -> Result<Vec<u8>, Error> {
    vault.seal_blob(CHECKPOINT, hash.as_str().as_bytes(), plain).map_err(unreadable)
}

pub(super) fn open_checkpoint(
    vault: &Vault,
    hash: &TicketHash,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    vault.unseal_blob(CHECKPOINT, hash.as_str().as_bytes(), sealed).map_err(unreadable)
}

fn unreadable(error: crate::vault::Error) -> Error {
    Error::Unreadable { source: Some(Box::new(error)) }
}

/// A login without its ticket, which is the name of the row.
#[derive(Deserialize, Serialize)]
struct Content {
    form: u32,
    tenant: String,
    app: String,
    method: String,
    state: StateContent,
    create_time: i64,
    expire_time: i64,
    expected_user: Option<i64>,
    api_key_alias: String,
    device: DeviceContent,
    subject: String,
    request_id: Option<String>,
    request_hash: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    migrated_to: Option<i32>,
    code_delivery: Option<DeliveryContent>,
    password_request: Option<String>,
    resend_request: Option<String>,
    version: u64,
}

#[derive(Deserialize, Serialize)]
struct DeviceContent {
    device_model: String,
    system_version: String,
    app_version: String,
    system_lang_code: String,
    lang_code: String,
}

#[derive(Deserialize, Serialize)]
struct DeliveryContent {
    way: Option<String>,
    next_way: Option<String>,
    resend_time: Option<i64>,
    length: u32,
    hint: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum StateContent {
    Starting,
    WaitingQrScan {
        #[serde(with = "secret::plain")]
        url: Secret,
        expire_time: i64,
    },
    WaitingCode {
        attempts_left: u32,
    },
    WaitingPassword {
        hint: Option<String>,
        attempts_left: u32,
    },
    Authorized {
        telegram_user_id: i64,
    },
    Expired,
    Cancelled,
    Superseded,
    Failed {
        reason: String,
        message: String,
        retry_after_millis: Option<i64>,
    },
}

impl Content {
    fn of(login: &Login) -> Self {
        Self {
            form: VERSION,
            tenant: login.key.tenant.as_str().to_owned(),
            app: login.key.app.as_str().to_owned(),
            method: login.method.name().to_owned(),
            state: StateContent::of(&login.state),
            create_time: login.create_time.as_millis(),
            expire_time: login.expire_time.as_millis(),
            expected_user: login.expected_user,
            api_key_alias: login.api_key_alias.clone(),
            device: DeviceContent::of(&login.device),
            subject: login.subject.clone(),
            labels: login.labels.clone(),
            request_id: login.request_id.as_ref().map(RequestId::to_text),
            request_hash: login.request_hash.clone(),
            migrated_to: login.migrated_to,
            code_delivery: login.code_delivery.as_ref().map(DeliveryContent::of),
            password_request: login.password_request.as_ref().map(RequestId::to_text),
            resend_request: login.resend_request.as_ref().map(RequestId::to_text),
            version: login.version,
        }
    }

    fn into_login(self, ticket: &Ticket) -> Option<Login> {
        if self.form != VERSION {
            return None;
        }
        Some(Login {
            ticket: ticket.clone(),
            key: SessionKey::parse(&self.tenant, &self.app).ok()?,
            method: Method::parse(&self.method)?,
            state: self.state.into_state()?,
            create_time: Timestamp::from_millis(self.create_time),
            expire_time: Timestamp::from_millis(self.expire_time),
            expected_user: self.expected_user,
            api_key_alias: self.api_key_alias,
            device: self.device.into_device(),
            subject: self.subject,
            labels: self.labels,
            request_id: RequestId::parse_optional(&self.request_id.unwrap_or_default()).ok()?,
            request_hash: self.request_hash,
            migrated_to: self.migrated_to,
            code_delivery: match self.code_delivery {
                None => None,
                Some(delivery) => Some(delivery.into_delivery()?),
            },
            password_request: RequestId::parse_optional(&self.password_request.unwrap_or_default()).ok()?,
            resend_request: RequestId::parse_optional(&self.resend_request.unwrap_or_default()).ok()?,
            version: self.version,
        })
    }
}

impl DeviceContent {
    fn of(device: &Device) -> Self {
        let Device { device_model, system_version, app_version, system_lang_code, lang_code } =
            device.clone();
        Self { device_model, system_version, app_version, system_lang_code, lang_code }
    }

    fn into_device(self) -> Device {
        let Self { device_model, system_version, app_version, system_lang_code, lang_code } = self;
        Device { device_model, system_version, app_version, system_lang_code, lang_code }
    }
}

impl DeliveryContent {
    fn of(delivery: &CodeDelivery) -> Self {
        let name = |way: CodeWay| way.name().to_owned();
        Self {
            way: delivery.way.map(name),
            next_way: delivery.next_way.map(name),
            resend_time: delivery.resend_time.map(Timestamp::as_millis),
            length: delivery.length,
            hint: delivery.hint.clone(),
        }
    }

    fn into_delivery(self) -> Option<CodeDelivery> {
        let way = |name: Option<String>| match name {
            None => Some(None),
            Some(name) => CodeWay::parse(&name).map(Some),
        };
        Some(CodeDelivery {
            way: way(self.way)?,
            next_way: way(self.next_way)?,
            resend_time: self.resend_time.map(Timestamp::from_millis),
            length: self.length,
            hint: self.hint,
        })
    }
}

impl StateContent {
    fn of(state: &State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::WaitingQrScan(token) => {
                Self::WaitingQrScan { url: token.url.clone(), expire_time: token.expire_time.as_millis() }
            }
            State::WaitingCode { attempts_left } => Self::WaitingCode { attempts_left: *attempts_left },
            State::WaitingPassword { hint, attempts_left } => {
                Self::WaitingPassword { hint: hint.clone(), attempts_left: *attempts_left }
            }
            State::Authorized { telegram_user_id } => {
                Self::Authorized { telegram_user_id: *telegram_user_id }
            }
            State::Expired => Self::Expired,
            State::Cancelled => Self::Cancelled,
            State::Superseded => Self::Superseded,
            State::Failed(failure) => Self::Failed {
                reason: failure.reason.name().to_owned(),
                message: failure.message.clone(),
                retry_after_millis: failure.retry_after.map(millis),
            },
        }
    }

    fn into_state(self) -> Option<State> {
        Some(match self {
            Self::Starting => State::Starting,
            Self::WaitingQrScan { url, expire_time } => {
                State::WaitingQrScan(QrToken { url, expire_time: Timestamp::from_millis(expire_time) })
            }
            Self::WaitingCode { attempts_left } => State::WaitingCode { attempts_left },
            Self::WaitingPassword { hint, attempts_left } => State::WaitingPassword { hint, attempts_left },
            Self::Authorized { telegram_user_id } => State::Authorized { telegram_user_id },
            Self::Expired => State::Expired,
            Self::Cancelled => State::Cancelled,
            Self::Superseded => State::Superseded,
            Self::Failed { reason, message, retry_after_millis } => State::Failed(Failure {
                reason: Reason::parse(&reason)?,
                message,
                retry_after: match retry_after_millis {
                    None => None,
                    Some(span) => Some(Duration::from_millis(u64::try_from(span).ok()?)),
                },
            }),
        })
    }
}

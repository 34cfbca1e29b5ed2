//! Two-step passwords for logins anew: from a file, or asked for.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, Read as _},
    path::Path,
};

use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::Failure;
use crate::{
    cli::given,
    domain::{id::SessionKey, secret::Secret},
};

/// No list of passwords is longer, in bytes.
const LIST_LENGTH_MAX: u64 = 16 * 1024 * 1024;

/// The passwords that are known, and whether somebody can be asked.
pub(super) struct Passwords {
    known: HashMap<SessionKey, Secret>,
    /// One question at a time.
    asking: Mutex<()>,
    askable: bool,
}

impl Passwords {
    /// From lines of `tenant/app password`, or `app password` with the tenant named.
    ///
    /// # Errors
    /// When the list cannot be read, or a line is not of that form.
    pub(super) fn read(list: Option<&Path>, tenant: Option<&str>) -> Result<Self, Failure> {
        let askable = list.is_none() && std::io::stdin().is_terminal();
        let mut passwords = Self { known: HashMap::new(), asking: Mutex::new(()), askable };
        let Some(list) = list else { return Ok(passwords) };
        let told = |error: std::io::Error| {
            Failure::Failed(format!("the passwords in {} cannot be read: {error}", list.display()))
        };
        let mut text = Zeroizing::new(String::new());
        let file = std::fs::File::open(list).map_err(told)?;
        file.take(LIST_LENGTH_MAX).read_to_string(&mut text).map_err(told)?;
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            // The password is all that follows the first space or tab, its own spaces included.
            let parsed = line.split_once([' ', '\t']).and_then(|(who, password)| {
                let (tenant, app) = who.split_once('/').or_else(|| Some((tenant?, who)))?;
                Some((SessionKey::parse(tenant, app).ok()?, password)).filter(|_| !password.is_empty())
            });
            let Some((key, password)) = parsed else {
                return Err(Failure::Usage(format!(
                    "line {} of {} is not tenant/app, a space or tab, and the password",
                    number + 1,
                    list.display()
                )));
            };
            passwords.known.insert(key, Secret::new(password));
        }
        Ok(passwords)
    }

    pub(super) fn of(&self, key: &SessionKey) -> Option<Secret> {
        self.known.get(key).cloned()
    }

    /// Asks at the terminal; `None` without one, or without an answer.
    pub(super) async fn ask(&self, key: &SessionKey) -> Option<Secret> {
        if !self.askable {
            return None;
        }
        let _one = self.asking.lock().await;
        let what = format!("two-step password of {key}");
        let asked = tokio::task::spawn_blocking(move || given::ask(&what, "a list with --passwords")).await;
        asked.ok()?.ok()
    }
}

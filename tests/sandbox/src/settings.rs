//! What can be turned at a running sandbox, by `--set name=value` and by `POST /config`.

use serde_json::{Map, Value};

/// A name or a value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not `name=value`.
    #[error("`{0}` is not of the form name=value")]
    Form(String),
    /// No such name.
    #[error("unknown setting `{0}`; known are: {known}", known = NAMES.join(", "))]
    Unknown(String),
    /// The value is out of the setting's range.
    #[error("setting `{name}` must be {rule}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What its values look like.
        rule: &'static str,
    },
}

/// The adjustable behaviour of a sandbox. Times are seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Life of a QR login token.
    pub qr_ttl: u32,
    /// How long an accepted QR token waits for the client that showed it.
    pub qr_accepted_ttl: u32,
    /// A fixed login code; random five digits when empty.
    pub code: String,
    /// Life of a login code.
    pub code_ttl: u32,
    /// Wrong login codes that are accepted before the code dies.
    pub code_tries: u32,
    /// Seconds after which a client may ask for another login code.
    pub resend_after: u32,
    /// How long a server salt is current; it is still accepted for as long again.
    pub salt_ttl: u32,
    /// How far the server's clock is ahead of the machine's; negative for behind.
    pub skew: i32,
    /// `AUTH_KEY_DUPLICATED` for two open home-DC connections of one authorization that both send requests.
    pub dup_sessions: bool,
    /// The same rule for connections from different addresses, where `dup_sessions` is off.
    pub dup_ip: bool,
    /// How long an older connection may take to be seen as closed before it counts as parallel, in milliseconds.
    pub dup_grace_ms: u32,
    /// How old a login must be before it may end other logins of the account.
    pub fresh_reset: u32,
    /// Answers of at least so many bytes are sent compressed.
    pub gzip_from: u32,
}

/// All names, in the order in which they are listed.
const NAMES: [&str; 13] = [
    "qr_ttl",
    "qr_accepted_ttl",
    "code",
    "code_ttl",
    "code_tries",
    "resend_after",
    "salt_ttl",
    "skew",
    "dup_sessions",
    "dup_ip",
    "dup_grace_ms",
    "fresh_reset",
    "gzip_from",
];

/// A day, the bound of all times.
const DAY: u32 = 86_400;

impl Default for Settings {
    fn default() -> Self {
        Self {
            qr_ttl: 30,
            qr_accepted_ttl: 300,
            code: String::new(),
            code_ttl: 300,
            code_tries: 5,
            resend_after: 60,
            salt_ttl: 1800,
            skew: 0,
            dup_sessions: true,
            dup_ip: true,
            dup_grace_ms: 250,
            fresh_reset: 0,
            gzip_from: 512,
        }
    }
}

impl Settings {
    /// Applies `name=value`.
    ///
    /// # Errors
    /// [`SettingError`] when the name is unknown or the value does not fit; nothing is changed then.
    pub fn set_pair(&mut self, pair: &str) -> Result<(), SettingError> {
        let (name, value) = pair.split_once('=').ok_or_else(|| SettingError::Form(pair.to_owned()))?;
        self.set(name.trim(), value.trim())
    }

    /// Applies one value.
    ///
    /// # Errors
    /// [`SettingError`] when the name is unknown or the value does not fit; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        match name {
            "qr_ttl" => self.qr_ttl = number("qr_ttl", value, 1, DAY)?,
            "qr_accepted_ttl" => self.qr_accepted_ttl = number("qr_accepted_ttl", value, 1, DAY)?,
            "code" => {
                let fits = value.len() <= 10 && value.bytes().all(|b| b.is_ascii_digit());
                let rule = "at most ten digits, or empty for random codes";
                self.code =
                    fits.then(|| value.to_owned()).ok_or(SettingError::Value { name: "code", rule })?;
            }
            "code_ttl" => self.code_ttl = number("code_ttl", value, 1, DAY)?,
            "code_tries" => self.code_tries = number("code_tries", value, 1, 1000)?,
            "resend_after" => self.resend_after = number("resend_after", value, 0, DAY)?,
            "salt_ttl" => self.salt_ttl = number("salt_ttl", value, 2, DAY)?,
            "skew" => {
                let rule = "a whole number of seconds between -86400 and 86400";
                self.skew = value
                    .parse()
                    .ok()
                    .filter(|skew: &i32| skew.unsigned_abs() <= DAY)
                    .ok_or(SettingError::Value { name: "skew", rule })?;
            }
            "dup_sessions" => self.dup_sessions = switch("dup_sessions", value)?,
            "dup_ip" => self.dup_ip = switch("dup_ip", value)?,
            "dup_grace_ms" => self.dup_grace_ms = number("dup_grace_ms", value, 0, 10_000)?,
            "fresh_reset" => self.fresh_reset = number("fresh_reset", value, 0, DAY)?,
            "gzip_from" => self.gzip_from = number("gzip_from", value, 0, 1 << 20)?,
            _ => return Err(SettingError::Unknown(name.chars().take(64).collect())),
        }
        Ok(())
    }

    /// Applies all members of a JSON object, or none of them.
    ///
    /// # Errors
    /// [`SettingError`] for the first name or value that does not fit.
    pub fn set_json(&mut self, values: &Map<String, Value>) -> Result<(), SettingError> {
        let mut next = self.clone();
        for (name, value) in values {
            match value {
                Value::String(text) => next.set(name, text)?,
                Value::Null => next.set(name, "")?,
                other => next.set(name, &other.to_string())?,
            }
        }
        *self = next;
        Ok(())
    }

    /// All settings by name.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "qr_ttl": self.qr_ttl,
            "qr_accepted_ttl": self.qr_accepted_ttl,
            "code": self.code,
            "code_ttl": self.code_ttl,
            "code_tries": self.code_tries,
            "resend_after": self.resend_after,
            "salt_ttl": self.salt_ttl,
            "skew": self.skew,
            "dup_sessions": self.dup_sessions,
            "dup_ip": self.dup_ip,
            "dup_grace_ms": self.dup_grace_ms,
            "fresh_reset": self.fresh_reset,
            "gzip_from": self.gzip_from,
        })
    }
}

fn number(name: &'static str, value: &str, min: u32, max: u32) -> Result<u32, SettingError> {
    let rule = match (min, max) {
        (1, 1000) => "a whole number from 1 to 1000",
        (_, DAY) => "a whole number of seconds, at most 86400 and not below the least sensible value",
        _ => "a whole number in its range",
    };
    value.parse().ok().filter(|n| (min..=max).contains(n)).ok_or(SettingError::Value { name, rule })
}

fn switch(name: &'static str, value: &str) -> Result<bool, SettingError> {
    match value {
        "on" | "true" | "1" => Ok(true),
        "off" | "false" | "0" => Ok(false),
        _ => Err(SettingError::Value { name, rule: "on or off" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_shown_and_can_be_set_to_what_is_shown() {
        let mut settings = Settings::default();
        let shown = settings.to_json();
        let members = shown.as_object().expect("an object");
        assert_eq!(members.len(), NAMES.len());
        assert!(NAMES.iter().all(|name| members.contains_key(*name)));
        settings.set_json(members).expect("own values fit");
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn a_bad_member_changes_nothing() {
        let mut settings = Settings::default();
        let values = serde_json::json!({"code": "12345", "qr_ttl": -1});
        assert!(settings.set_json(values.as_object().expect("an object")).is_err());
        assert_eq!(settings, Settings::default());
        assert!(settings.set_pair("nonsense").is_err());
        assert!(settings.set_pair("colour=red").is_err());
        assert!(settings.set_pair("code=12a").is_err());
        assert!(settings.set_pair("skew=1e9").is_err());
        settings.set_pair("dup_sessions=off").expect("it fits");
        assert!(!settings.dup_sessions);
    }
}

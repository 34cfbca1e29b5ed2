//! Where values come from: flags before environment before file, and what nobody knows is a mistake.

use std::collections::BTreeMap;

use crate::config::{
    errors::Mistake,
    setting::{CLIENT_ENV, SETTINGS, Secrecy, Setting},
};

/// Where a value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Environment,
    File,
    Default,
    Unset,
}

/// A value and where it was found.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) origin: Origin,
    /// The name under which its owner wrote it.
    pub(crate) key: String,
}

/// Values of one start, before any of them is understood.
pub(crate) struct Gathered {
    by_setting: BTreeMap<&'static str, Given>,
    /// (alias, part) of the api keys beside `MASTER`.
    pub(crate) api_keys: BTreeMap<(String, Part), Given>,
    pub(crate) mistakes: Vec<Mistake>,
}

/// Half of an api_id/api_hash pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Id,
    Hash,
}

impl Gathered {
    pub(crate) fn get(&self, setting: &Setting) -> Option<&Given> {
        self.by_setting.get(setting.name)
    }

    pub(crate) fn from(
        flags: &BTreeMap<String, String>,
        env: &BTreeMap<String, String>,
        file: Option<&str>,
    ) -> Self {
        let mut gathered =
            Self { by_setting: BTreeMap::new(), api_keys: BTreeMap::new(), mistakes: Vec::new() };
        let file = gathered.flatten(file);
        for setting in SETTINGS {
            // An empty value means unset: compose files and unit files write it so.
            let found = [
                (flags.get(setting.name), Origin::Flag, format!("--{}", setting.name)),
                (env.get(setting.env), Origin::Environment, setting.env.to_owned()),
                (file.get(setting.toml), Origin::File, setting.toml.to_owned()),
            ]
            .into_iter()
            .find_map(|(text, origin, key)| {
                let text = text.filter(|text| !text.is_empty())?;
                Some(Given { text: text.clone(), origin, key })
            });
            if let Some(given) = found {
                gathered.by_setting.insert(setting.name, given);
            }
        }
        gathered.api_keys_of_env(env);
        gathered.api_keys_of_file(&file);
        gathered.refuse_unknown(flags, env, &file);
        gathered
    }

    /// The file as dotted keys and plain values.
    fn flatten(&mut self, file: Option<&str>) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        match file.map(str::parse::<toml::Table>) {
            None => {}
            Some(Ok(table)) => self.flatten_table("", &table, &mut flat),
            Some(Err(error)) => {
                // The parser's own text quotes the line, which may hold a secret.
                let at = error.span().map_or(0, |span| span.start);
                let line = file.map_or(0, |text| text.get(..at).unwrap_or(text).lines().count().max(1));
                self.mistakes.push(Mistake {
                    key: "USM_CONFIG".to_owned(),
                    value: None,
                    rule: format!("must be a TOML file; it is not from line {line} on"),
                });
            }
        }
        flat
    }

    fn flatten_table(&mut self, prefix: &str, table: &toml::Table, flat: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let text = match value {
                toml::Value::Table(inner) => {
                    self.flatten_table(&path, inner, flat);
                    continue;
                }
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Datetime(_) | toml::Value::Array(_) => {
                    self.mistakes.push(Mistake {
                        key: path,
                        value: None,
                        rule: "must be a text, a number or a boolean".to_owned(),
                    });
                    continue;
                }
            };
            flat.insert(canonical(&path), text);
        }
    }

    fn api_keys_of_env(&mut self, env: &BTreeMap<String, String>) {
        for (name, text) in env {
            let (part, alias) = if let Some(alias) = name.strip_prefix("TELEGRAM_API_ID_") {
                (Part::Id, alias)
            } else if let Some(alias) = name.strip_prefix("TELEGRAM_API_HASH_") {
                (Part::Hash, alias)
            } else {
                continue;
            };
            if alias != "MASTER" && !text.is_empty() {
                let given = Given { text: text.clone(), origin: Origin::Environment, key: name.clone() };
                self.api_keys.insert((alias.to_owned(), part), given);
            }
        }
    }

    fn api_keys_of_file(&mut self, file: &BTreeMap<String, String>) {
        for (key, text) in file {
            if let Some((alias, part)) = api_key_path(key)
                && alias != "MASTER"
            {
                self.api_keys.entry((alias.to_owned(), part)).or_insert_with(|| Given {
                    text: text.clone(),
                    origin: Origin::File,
                    key: key.clone(),
                });
            }
        }
    }

    fn refuse_unknown(
        &mut self,
        flags: &BTreeMap<String, String>,
        env: &BTreeMap<String, String>,
        file: &BTreeMap<String, String>,
    ) {
        let unknown = |key: String, rule: &str| Mistake { key, value: None, rule: rule.to_owned() };
        for name in flags.keys().filter(|name| crate::config::setting::find(name).is_none()) {
            self.mistakes.push(unknown(format!("--{name}"), "no such setting"));
        }
        for name in env.keys().filter(|name| name.starts_with("USM_")) {
            let known =
                SETTINGS.iter().any(|setting| setting.env == name) || CLIENT_ENV.contains(&name.as_str());
            if !known {
                self.mistakes.push(unknown(name.clone(), "no such setting; unset it or mend its name"));
            }
        }
        for key in file.keys() {
            let known = SETTINGS.iter().any(|setting| setting.toml == key) || api_key_path(key).is_some();
            if !known {
                self.mistakes.push(unknown(key.clone(), "no such key; remove it or mend its name"));
            }
        }
    }
}

/// Aliases are written in any case in a file and in capitals in the environment: one alias all the same.
fn canonical(path: &str) -> String {
    let mut parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    if let [telegram, api_keys, alias, _] = parts.as_mut_slice()
        && telegram == "telegram"
        && api_keys == "api_keys"
    {
        *alias = alias.to_ascii_uppercase();
    }
    parts.join(".")
}

fn api_key_path(key: &str) -> Option<(&str, Part)> {
    let (alias, part) = key.strip_prefix("telegram.api_keys.")?.split_once('.')?;
    match part {
        "id" => Some((alias, Part::Id)),
        "hash" => Some((alias, Part::Hash)),
        _ => None,
    }
}

/// The value as it may be shown.
pub(crate) fn shown(secrecy: Secrecy, text: &str) -> String {
    match secrecy {
        Secrecy::Plain => text.to_owned(),
        Secrecy::Secret => "(secret)".to_owned(),
        Secrecy::Address => without_password(text),
    }
}

/// An address without the password in it; nothing of a text that is no address.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return "(hidden)".to_owned();
    };
    // Query parameters may carry passwords as well.
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{rest}"),
        Some((user_info, host)) => {
            let user = user_info.split_once(':').map_or(user_info, |(user, _)| user);
            format!("{scheme}://{user}:***@{host}")
        }
    }
}

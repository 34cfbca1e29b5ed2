//! Who may log in from a Mini App: the files of bots and of their tokens.
//!
//! A mistake is told with its line or its bot; of a token never more than the bot it belongs to, which is no secret.

use std::{collections::BTreeMap, io, path::Path};

use serde::Deserialize;

use crate::{
    config::{Endpoint, Inputs, MiniApp, read, read::Reader},
    domain::{
        id::TenantId,
        miniapp::{AppRule, BOTS_MAX, Bot, BotId, Bots, RULES_MAX},
        secret::Secret,
    },
};

/// Telegram's keys, as api/bots/webapps names them.
const PRODUCTION_KEY: &str = "e7bf03a2fa4602af4580703d88dda5bb59f32ed8b02a56c187fe7d34caed242d";
const TEST_KEY: &str = "40055058a4ee38156a06562e52eece92a771bcd8346a8c4615cb7376eddf72ec";
/// Lengths of the part of a bot token after its colon; Telegram's have 35 characters today.
const TOKEN_LENGTHS: std::ops::RangeInclusive<usize> = 20..=128;

pub(crate) fn miniapp(reader: &mut Reader, inputs: Inputs<'_>, endpoint: &Endpoint) -> MiniApp {
    let telegrams = match endpoint {
        Endpoint::Test => TEST_KEY,
        Endpoint::Production | Endpoint::Sandbox | Endpoint::Custom(_) => PRODUCTION_KEY,
    };
    let public_key = reader.optional("miniapp-public-key", public_key).or_else(|| public_key(telegrams).ok());
    MiniApp {
        hmac_secret: reader.optional("miniapp-hmac-secret", read::secret_of(16)),
        timestamp_tolerance: reader.value("miniapp-timestamp-tolerance", read::span(1, 3600)),
        bots: bots(reader, inputs),
        public_key: public_key.expect("Telegram's keys are well formed; a test reads both"),
    }
}

fn public_key(text: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    match hex::decode_to_slice(text, &mut key) {
        Ok(()) => Ok(key),
        Err(_) => Err("must be 64 hexadecimal digits".to_owned()),
    }
}

fn bots(reader: &mut Reader, inputs: Inputs<'_>) -> Bots {
    let mut bots = match contents(reader, "miniapp-tenants", inputs.read) {
        None => Bots::new(),
        Some(text) => told(reader, "miniapp-tenants", parse_tenants(&text)),
    };
    if let Some(text) = contents(reader, "miniapp-bot-tokens", inputs.read_private) {
        let text = zeroize::Zeroizing::new(text);
        for (id, token) in told(reader, "miniapp-bot-tokens", parse_tokens(&text)) {
            match bots.get_mut(&id) {
                Some(bot) => bot.token = Some(token),
                None => reader.refuse(
                    "miniapp-bot-tokens",
                    &format!("holds a token of bot {id}, which USM_MINIAPP_TENANTS does not name"),
                ),
            }
        }
    }
    bots
}

/// The file that a setting names, if it names one that can be read.
fn contents(
    reader: &mut Reader,
    name: &'static str,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Option<String> {
    reader.optional(name, |path| {
        read(Path::new(path)).map_err(|error| match error.kind() {
            // Ours, about who can read it; the system's own texts have kinds.
            io::ErrorKind::Other => format!("cannot be used: {error}"),
            kind => format!("must be a file that can be read ({kind})"),
        })
    })
}

/// What was understood, and every mistake under the setting's name.
fn told<T>(reader: &mut Reader, name: &'static str, (parsed, mistakes): (T, Vec<String>)) -> T {
    for mistake in mistakes {
        reader.refuse(name, &mistake);
    }
    parsed
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenants {
    #[serde(default)]
    bots: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    tenant: String,
    app_ids: Vec<String>,
}

fn parse_tenants(text: &str) -> (Bots, Vec<String>) {
    let file: Tenants = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            let rule = format!("must hold [bots.<bot id>] with tenant and app_ids: {}", error.message());
            return (Bots::new(), vec![rule]);
        }
    };
    let (mut bots, mut mistakes) = (Bots::new(), Vec::new());
    if file.bots.len() > BOTS_MAX {
        mistakes.push(format!("must name {BOTS_MAX} bots or fewer"));
        return (bots, mistakes);
    }
    for (id, row) in file.bots {
        let tenant = TenantId::parse(&row.tenant);
        let apps: Vec<_> = row.app_ids.iter().map_while(|rule| AppRule::parse(rule)).collect();
        match (BotId::parse(&id), tenant) {
            (None, _) => mistakes.push(format!("names a bot {id:?}, which is no bot id")),
            (_, Err(_)) => mistakes.push(format!("must give bot {id} a tenant that can be one")),
            _ if row.app_ids.len() > RULES_MAX => {
                mistakes.push(format!("must give bot {id} {RULES_MAX} app_ids or fewer"));
            }
            _ if apps.is_empty() || apps.len() < row.app_ids.len() => mistakes.push(format!(
                "must give bot {id} app_ids, each an app id, one with {{user_id}} in it, or *"
            )),
            (Some(bot), Ok(tenant)) => {
                bots.insert(bot, Bot { tenant, apps, token: None });
            }
        }
    }
    (bots, mistakes)
}

fn parse_tokens(text: &str) -> (BTreeMap<BotId, Secret>, Vec<String>) {
    let (mut tokens, mut mistakes) = (BTreeMap::new(), Vec::new());
    let lines = text.lines().map(str::trim).enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let parts = line.split_once(':').and_then(|(id, secret)| Some((BotId::parse(id)?, secret)));
        let sound = |secret: &str| {
            TOKEN_LENGTHS.contains(&secret.len())
                && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        match parts {
            Some((id, secret)) if sound(secret) => {
                if tokens.insert(id, Secret::new(line)).is_some() {
                    mistakes.push(format!("holds two tokens of bot {id}"));
                }
            }
            Some(_) | None => mistakes.push(format!("must hold <bot id>:<token> in line {}", at + 1)),
        }
        // More than could belong to anybody: the rest would only repeat it.
        if tokens.len() + mistakes.len() > 2 * BOTS_MAX {
            break;
        }
    }
    (tokens, mistakes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANTS: &str = r#"
[bots.123456]
tenant = "acme"
app_ids = ["news", "user-{user_id}"]
[bots.654321]
tenant = "globex"
app_ids = ["*"]
"#;
    const SECRET: &str = "AAHunter2Hunter2Hunter2Hunter2Hunter2";

    #[test]
    fn telegrams_keys_are_well_formed() {
        assert!(public_key(PRODUCTION_KEY).is_ok() && public_key(TEST_KEY).is_ok());
        for bad in ["", "ab", &PRODUCTION_KEY[1..], &format!("{PRODUCTION_KEY}00"), &"g".repeat(64)] {
            assert!(public_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_file_of_tenants_says_who_may_log_in_for_what() {
        let (bots, mistakes) = parse_tenants(TENANTS);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let bot = &bots[&BotId::parse("123456").expect("sound")];
        assert_eq!((bot.tenant.as_str(), bot.apps.len()), ("acme", 2));
        assert!(parse_tenants("").1.is_empty(), "nobody yet");
    }

    #[test]
    fn every_mistake_about_bots_is_told() {
        for (broken, what) in [
            (TENANTS.replace("123456", "0123"), "no bot id"),
            (TENANTS.replace("acme", "../acme"), "a tenant"),
            (TENANTS.replace("news", "a/b"), "app_ids"),
            (TENANTS.replace("\"*\"", ""), "app_ids"),
            (TENANTS.replace("tenant =", "tenent ="), "tenent"),
            (format!("{TENANTS}\n[bots.123456]\n"), "must hold"),
            ("[bots".to_owned(), "must hold"),
        ] {
            let (_, mistakes) = parse_tenants(&broken);
            assert!(mistakes.iter().any(|mistake| mistake.contains(what)), "{what}: {mistakes:?}");
        }
        let both = TENANTS.replace("acme", "../acme").replace("\"*\"", "");
        assert_eq!(parse_tenants(&both).1.len(), 2, "all at once");
    }

    #[test]
    fn tokens_come_a_line_each_and_are_never_quoted() {
        let text = format!("# of acme\n\n123456:{SECRET}\n  654321:{SECRET}x \n");
        let (tokens, mistakes) = parse_tokens(&text);
        assert_eq!((tokens.len(), mistakes.len()), (2, 0), "{mistakes:?}");
        let broken = format!("{SECRET}\n123456:{SECRET}\n123456:{SECRET}\n7:short\n8:{SECRET} {SECRET}\n");
        let (_, mistakes) = parse_tokens(&broken);
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
        assert!(!format!("{mistakes:?}").contains("Hunter2"), "{mistakes:?}");
        assert!(mistakes[0].contains("line 1"), "{mistakes:?}");
    }
}

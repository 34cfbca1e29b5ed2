//! Whom a Mini App may sign in, and for which sessions: the operator's word, never the request's.

use std::{collections::BTreeMap, fmt};

use crate::domain::{
    id::{AppId, SessionKey, TenantId},
    secret::Secret,
};

/// Bots that may be configured; each is tried for every initData.
pub const BOTS_MAX: usize = 64;
/// Rules that one bot may have.
pub const RULES_MAX: usize = 256;
/// Stands in a rule for the user's own id.
const USER: &str = "{user_id}";

/// Telegram's id of a bot: the number before the colon of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BotId(i64);

impl BotId {
    /// `None` unless a positive number in plain digits.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|id| plain && *id > 0).map(Self)
    }
}

impl fmt::Display for BotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which names of sessions a bot's users may log in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppRule {
    /// `*`: any of the tenant's.
    Any,
    /// This very one, the same for every user.
    Named(AppId),
    /// One of the user's own: what stands before and after the user's id.
    PerUser { before: String, after: String },
}

impl AppRule {
    /// `None` for a text that no session's name can match.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        match text.split_once(USER) {
            None => AppId::parse(text).ok().map(Self::Named),
            // The longest id must fit, and so must the rest: a rule that holds for some users only is a trap.
            Some((before, after)) => AppId::parse(&format!("{before}{}{after}", i64::MAX))
                .ok()
                .map(|_| Self::PerUser { before: before.to_owned(), after: after.to_owned() }),
        }
    }

    fn allows(&self, user: i64, app: &AppId) -> bool {
        match self {
            Self::Any => true,
            Self::Named(named) => named == app,
            Self::PerUser { before, after } => app.as_str() == format!("{before}{user}{after}"),
        }
    }
}

/// A bot whose Mini App may log in.
#[derive(Clone, Debug)]
pub struct Bot {
    pub tenant: TenantId,
    pub apps: Vec<AppRule>,
    /// Proves initData by HMAC; without it Telegram's own signature does.
    pub token: Option<Secret>,
}

impl Bot {
    /// The session that a user asks for, if it is one that the bot's users may log in for.
    pub fn session(&self, user: i64, tenant: Option<&TenantId>, app: AppId) -> Option<SessionKey> {
        let own = tenant.is_none_or(|named| *named == self.tenant);
        let allowed = self.apps.iter().any(|rule| rule.allows(user, &app));
        (own && allowed).then(|| SessionKey { tenant: self.tenant.clone(), app })
    }
}

/// Every configured bot.
pub type Bots = BTreeMap<BotId, Bot>;

#[cfg(test)]
mod tests {
    use super::*;

    fn bot(rules: &[&str]) -> Bot {
        let apps = rules.iter().map(|rule| AppRule::parse(rule).expect(rule)).collect();
        Bot { tenant: TenantId::parse("acme").expect("sound"), apps, token: None }
    }

    fn allows(bot: &Bot, user: i64, tenant: Option<&str>, app: &str) -> bool {
        let tenant = tenant.map(|tenant| TenantId::parse(tenant).expect("sound"));
        bot.session(user, tenant.as_ref(), AppId::parse(app).expect("sound")).is_some()
    }

    #[test]
    fn a_bots_users_get_what_its_rules_name_and_nothing_else() {
        let bot = bot(&["news", "user-{user_id}"]);
        for (user, tenant, app, expected) in [
            (7, None, "news", true),
            (7, Some("acme"), "news", true),
            (7, Some("other"), "news", false),
            (7, None, "newsletter", false),
            (7, None, "user-7", true),
            (7, None, "user-70", false),
            (7, None, "user-07", false),
            (70, None, "user-7", false),
            (7, None, "user-{user_id}x", false),
        ] {
            // A name with braces is none at all.
            let possible = AppId::parse(app).is_ok();
            assert_eq!(possible && allows(&bot, user, tenant, app), expected, "{user} {app}");
        }
        let open = self::bot(&["*"]);
        assert!(allows(&open, 7, None, "anything"));
        assert!(!allows(&open, 7, Some("other"), "anything"));
        assert!(!allows(&self::bot(&[]), 7, None, "anything"));
    }

    #[test]
    fn rules_that_can_never_hold_are_refused() {
        for bad in ["", "**", "a/b", "-{user_id}", "{user_id}{user_id}", "{user}", &"x".repeat(129)] {
            assert_eq!(AppRule::parse(bad), None, "{bad}");
        }
        assert!(AppRule::parse("{user_id}").is_some());
    }

    #[test]
    fn ids_of_bots_are_plain_numbers() {
        assert_eq!(BotId::parse("123456").map(|id| id.to_string()).as_deref(), Some("123456"));
        for bad in ["", "0", "-1", "+1", "01", "1 ", "9223372036854775808", "x"] {
            assert_eq!(BotId::parse(bad), None, "{bad}");
        }
    }
}

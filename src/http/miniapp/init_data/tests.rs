use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use proptest::prelude::*;

use super::*;
use crate::domain::{
    id::TenantId,
    miniapp::{AppRule, Bot},
    secret::Secret,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TOKEN: &str = "111:AAHunter2Hunter2Hunter2Hunter2Hunter2";

/// Bot 111 with a token, bot 222 by Telegram's signature alone.
struct World {
    judge: Judge,
    telegram: Ed25519KeyPair,
}

impl World {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let telegram = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        let bot = |token: Option<&str>| Bot {
            tenant: TenantId::parse("acme").expect("sound"),
            apps: vec![AppRule::Any],
            token: token.map(Secret::new),
        };
        let id = |text| BotId::parse(text).expect("sound");
        let bots = Bots::from([(id("111"), bot(Some(TOKEN))), (id("222"), bot(None))]);
        let key = telegram.public_key().as_ref().try_into().expect("32 bytes");
        Self { judge: Judge::new(&bots, key), telegram }
    }

    fn judge(&self, text: &str) -> Result<(String, i64), Refused> {
        self.judge.judge(text, NOW).map(|init| (init.bot.to_string(), init.user))
    }

    /// As Telegram makes it: Ed25519 for the bot, then an HMAC over everything.
    fn init_data(&self, bot: &str, token: &str, fields: &[(&str, &str)]) -> String {
        let mut fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        fields.sort();
        let joined = |fields: &[(String, String)]| {
            fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
        };
        let message = format!("{bot}:WebAppData\n{}", joined(&fields));
        let signature = BASE64.encode(self.telegram.sign(message.as_bytes()));
        fields.push(("signature".to_owned(), signature.trim_end_matches('=').to_owned()));
        fields.sort();
        let key = hmac(b"WebAppData", token.as_bytes());
        fields.push(("hash".to_owned(), hex::encode(hmac(&key, joined(&fields).as_bytes()))));
        fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
    }
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

const FIELDS: [(&str, &str); 4] = [
    ("query_id", "AAHdF6IQAAAAAN0XohDhrOrc"),
    ("user", r#"{"id":279058397,"first_name":"Vlad & Ko","language_code":"ru"}"#),
    ("auth_date", "1800000000"),
    ("start_param", "a_b-c"),
];

#[test]
fn both_proofs_hold_each_for_its_bots() {
    let world = World::new();
    let by_token = world.init_data("111", TOKEN, &FIELDS);
    assert_eq!(world.judge(&by_token), Ok(("111".to_owned(), 279_058_397)));
    // Whatever HMAC stands there: this bot's token is not known here.
    let by_telegram = world.init_data("222", "222:another", &FIELDS);
    assert_eq!(world.judge(&by_telegram), Ok(("222".to_owned(), 279_058_397)));
    // Where a token is configured, Telegram's signature does not stand in for it.
    assert_eq!(world.judge(&world.init_data("111", "111:another", &FIELDS)), Err(Refused::Forged));
    assert_eq!(world.judge(&world.init_data("333", "333:another", &FIELDS)), Err(Refused::Forged));
    assert_eq!(World::new().judge(&by_telegram), Err(Refused::Forged), "another key than Telegram's");
}

/// Vectors of Telegram's own libraries' documentation cannot be had with a known token; this one was computed
/// apart from this code, by Python's hmac and hashlib.
#[test]
fn the_hmac_is_the_one_that_others_compute() {
    let bot = Bot {
        tenant: TenantId::parse("acme").expect("sound"),
        apps: vec![AppRule::Any],
        token: Some(Secret::new("123456:TEST-TOKEN-of-nobody-0123456789abcdef")),
    };
    let bots = Bots::from([(BotId::parse("123456").expect("sound"), bot)]);
    let judge = Judge::new(&bots, [0; 32]);
    let text = "user=%7B%22id%22%3A42%7D&auth_date=1800000000&query_id=AAE&hash=600eed4b3c2e0bd48c04a8db8d3c548b0b388500782c3c5f6e78601277316cd0";
    let found = judge.judge(text, NOW).expect("signed");
    assert_eq!((found.bot.to_string().as_str(), found.user), ("123456", 42));
}

#[test]
fn nothing_of_it_can_be_changed_dropped_doubled_or_merged() {
    let world = World::new();
    for good in [world.init_data("111", TOKEN, &FIELDS), world.init_data("222", "222:x", &FIELDS)] {
        let by_token = world.judge(&good).expect("good").0 == "111";
        let pairs: Vec<&str> = good.split('&').collect();
        for (at, pair) in pairs.iter().enumerate() {
            let name = pair.split('=').next().expect("a name");
            // Each proof covers everything but itself; Telegram's does not cover the HMAC.
            let covered = by_token || name != "hash";
            let changed = |with: Vec<String>| {
                let mut all: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
                all.splice(at..=at, with);
                world.judge(&all.join("&"))
            };
            assert_eq!(changed(vec![format!("{pair}0")]).is_err(), covered, "{name} longer");
            assert_eq!(changed(vec![pair[..pair.len() - 1].to_owned()]).is_err(), covered, "{name} shorter");
            assert_eq!(changed(vec![]).is_err(), covered, "{name} dropped");
            assert_eq!(changed(vec![format!("{name}=")]).is_err(), covered, "{name} emptied");
            let twice = changed(vec![(*pair).to_owned(), (*pair).to_owned()]);
            assert_eq!(twice, Err(Refused::Malformed), "{name} twice");
        }
        assert_eq!(world.judge(&format!("{good}&extra=1")), Err(Refused::Forged));
        // The HMAC stands last, and Telegram's signature does not cover it.
        let covered = if by_token { good.len() } else { good.rfind("&hash=").expect("an HMAC") };
        for length in 0..covered {
            assert!(world.judge(&good[..length]).is_err(), "cut at {length}");
        }
        // One signed form must have one meaning.
        let merged = good.replacen("&query_id=", "%0Aquery_id=", 1);
        assert_ne!(merged, good);
        assert_eq!(world.judge(&merged), Err(Refused::Malformed));
        let renamed = good.replacen("auth_date=", "auth%5Fdate=", 1);
        assert_eq!(world.judge(&renamed), Err(Refused::Malformed));
    }
}

#[test]
fn however_it_is_spelled_it_is_the_same_proof() {
    let world = World::new();
    let good = world.init_data("111", TOKEN, &FIELDS);
    let digest = |text: &str| world.judge.judge(text, NOW).expect("good").digest;
    let mut turned: Vec<&str> = good.split('&').collect();
    turned.reverse();
    assert_eq!(digest(&good), digest(&turned.join("&")));
    assert_eq!(digest(&good), digest(&good.replace("%20", "+")));
    assert_eq!(digest(&good), digest(&good.replace("AAHd", "%41AHd")));
    let later = [("user", FIELDS[1].1), ("auth_date", "1800000001")];
    assert_ne!(digest(&good), digest(&world.init_data("111", TOKEN, &later)));
}

#[test]
fn it_is_good_for_five_minutes_from_when_it_was_signed() {
    let world = World::new();
    let at =
        |date: &str| world.judge(&world.init_data("111", TOKEN, &[FIELDS[1], ("auth_date", date)])).err();
    assert_eq!((at("1799999700"), at("1800000060")), (None, None));
    assert_eq!((at("1799999699"), at("0")), (Some(Refused::Stale), Some(Refused::Stale)));
    assert_eq!((at("1800000061"), at("9000000000")), (Some(Refused::Early), Some(Refused::Early)));
    for bad in ["", "-1", "+1800000000", "1800000000.5", "99999999999999999999", "18000000 00"] {
        assert_eq!(at(bad), Some(Refused::Malformed), "{bad}");
    }
    let forged = world.init_data("111", "111:another", &[FIELDS[1], ("auth_date", "0")]);
    assert_eq!(world.judge(&forged), Err(Refused::Forged), "only Telegram's word is told to be old");
}

#[test]
fn users_that_are_none_and_lists_without_end_are_refused() {
    let world = World::new();
    for user in ["", "7", "{}", r#"{"id":0}"#, r#"{"id":-7}"#, r#"{"id":"7"}"#, r#"{"id":7,"id":8}"#] {
        let text = world.init_data("111", TOKEN, &[("user", user), FIELDS[2]]);
        assert_eq!(world.judge(&text), Err(Refused::Malformed), "{user}");
    }
    let many: Vec<(String, String)> = (0..32).map(|at| (format!("f{at}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(world.judge(&world.init_data("111", TOKEN, &many)), Err(Refused::Malformed));
    let long = "x".repeat(9000);
    let long = world.init_data("111", TOKEN, &[FIELDS[1], FIELDS[2], ("start_param", &long)]);
    assert_eq!(world.judge(&long), Err(Refused::Malformed));
}

proptest! {
    #[test]
    fn any_text_is_judged_without_panic(text in ".{0,200}", tail in "[a-z%=&+0-9]{0,80}") {
        let world = World::new();
        prop_assert!(world.judge(&text).is_err());
        prop_assert!(world.judge(&tail).is_err());
    }

    #[test]
    fn what_is_encoded_is_decoded_again(text in ".*") {
        prop_assert_eq!(decode(&encode(&text)), Some(text));
    }
}

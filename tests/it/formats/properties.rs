//! Any bytes are refused without a panic; any session survives every way between two forms.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    panic,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use proptest::{collection::vec, option, prelude::*};
use usm::{
    domain::{
        material::{AuthKey, DcKey, Device, Format, Material, Proxy, UpdateState},
        secret::Secret,
    },
    formats::{self, Error, Item, Note},
};

use super::{addresses, full_material};

const WRITTEN: [Format; 8] = [
    Format::TelethonString,
    Format::TelethonSqlite,
    Format::PyrogramString,
    Format::PyrogramSqlite,
    Format::GramjsString,
    Format::MtcuteString,
    Format::Grammers,
    Format::Raw,
];
const STRINGS: [Format; 4] =
    [Format::TelethonString, Format::PyrogramString, Format::GramjsString, Format::MtcuteString];

/// SQLite works on threads of its own; a panic there would only look like a refusal.
static WORKER_PANICS: AtomicUsize = AtomicUsize::new(0);

fn watch_workers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let inner = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some("usm-format") {
                WORKER_PANICS.fetch_add(1, Ordering::Relaxed);
            }
            inner(info);
        }));
    });
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn parse(bytes: &[u8]) -> Result<formats::Parsed, Error> {
    watch_workers();
    let started = Instant::now();
    let result = block_on(formats::parse(bytes, None, &addresses()));
    assert!(started.elapsed() < Duration::from_secs(8), "reading took {:?}", started.elapsed());
    assert_eq!(WORKER_PANICS.load(Ordering::Relaxed), 0, "a worker panicked");
    result
}

fn write(material: &Material, format: Format) -> formats::Written {
    block_on(formats::write(material, format, &addresses())).unwrap()
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        // A prefix that no GramJS string can have in its place.
        any::<[u8; 14]>().prop_map(|tail| {
            let mut octets = [0x20; 16];
            octets[2..].copy_from_slice(&tail);
            IpAddr::from(octets)
        }),
    ];
    (ip, 1..=u16::MAX)
        .prop_map(|(ip, port)| SocketAddr::new(ip, port))
        .prop_filter("usable", |address| !address.ip().is_unspecified() && !address.ip().is_multicast())
}

fn any_key() -> impl Strategy<Value = AuthKey> {
    vec(any::<u8>(), 256)
        .prop_filter("a key", |bytes| bytes.iter().any(|byte| *byte != 0))
        .prop_map(|bytes| AuthKey::from_slice(&bytes).unwrap())
}

prop_compose! {
    fn any_dc_key()(auth_key in any_key(), address in option::of(any_address())) -> DcKey {
        DcKey { auth_key, address }
    }
}

prop_compose! {
    fn any_material()(
        home_dc in 1..=5_i32,
        home in any_dc_key(),
        others in proptest::collection::btree_map(1..=5_i32, any_dc_key(), 0..3),
        telegram_user_id in option::of(1..=0xff_ffff_ffff_i64),
        is_bot in option::of(any::<bool>()),
        api_id in any::<i32>(),
        device_model in option::of(".{0,20}"),
        proxy in option::of("socks5://[a-z]{1,9}:[0-9]{1,4}"),
        updates in option::of(any::<(i32, i32, i32, i32)>()),
        channels in proptest::collection::btree_map(1..=i64::MAX, any::<i32>(), 0..4),
    ) -> Material {
        let mut keys: BTreeMap<i32, DcKey> = others;
        keys.insert(home_dc, home);
        let device = match device_model {
            Some(device_model) => Device { device_model, ..Device::default() },
            None => Device::default(),
        };
        Material {
            home_dc, keys, telegram_user_id, is_bot, api_id, device,
            proxy: proxy.map(|url| Proxy { url: Secret::new(url) }),
            updates: updates.map(|(pts, qts, date, seq)| UpdateState { pts, qts, date, seq }),
            channels,
        }
    }
}

/// What comes out of a form, by what its writer said it leaves out.
fn as_carried(material: &Material, format: Format, notes: &[Note]) -> Material {
    let mut carried = material.clone();
    for note in notes {
        match note {
            Note::NotCarried(Item::UserId) => carried.telegram_user_id = None,
            Note::NotCarried(Item::BotFlag) => carried.is_bot = None,
            Note::NotCarried(Item::ApiId) => carried.api_id = 0,
            Note::NotCarried(Item::Device) => carried.device = Device::default(),
            Note::NotCarried(Item::Proxy) => carried.proxy = None,
            Note::NotCarried(Item::UpdateState) => carried.updates = None,
            Note::NotCarried(Item::OtherKeys(count)) => {
                assert_eq!(*count, material.keys.len() as u64 - 1);
                carried.keys.retain(|dc, _| *dc == material.home_dc);
            }
            Note::NotCarried(Item::Address) => {
                carried.keys.get_mut(&material.home_dc).unwrap().address = None;
            }
            Note::NotCarried(Item::ChannelStates(count)) => {
                assert_eq!(*count, material.channels.len() as u64);
                carried.channels.clear();
            }
            Note::AssumedUser => carried.is_bot = Some(false),
            // "No bot" is read as "not known" where nobody is named.
            Note::AssumedNobody => carried.is_bot = carried.is_bot.filter(|is_bot| *is_bot),
            Note::AddressReplaced | Note::PortNegative => {}
            other => panic!("{} of a writer", other.code()),
        }
    }
    // Where the material tells no address that the form can hold, the endpoint's is written.
    if matches!(format, Format::PyrogramString | Format::PyrogramSqlite) {
        return carried;
    }
    let is_ipv4_only = matches!(format, Format::TelethonSqlite | Format::Grammers);
    for (dc, key) in &mut carried.keys {
        key.address = key
            .address
            .filter(|address| address.is_ipv4() || !is_ipv4_only)
            .or_else(|| addresses().get(dc).copied());
    }
    carried
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_form_gives_back_what_it_does_not_say_it_leaves_out(material in any_material()) {
        for first in WRITTEN {
            let written = write(&material, first);
            let expected = as_carried(&material, first, &written.notes);
            let read = parse(&written.data).unwrap();
            prop_assert_eq!(read.format, first);
            prop_assert_eq!(&read.material, &expected);
            for second in WRITTEN {
                let again = write(&read.material, second);
                let expected = as_carried(&read.material, second, &again.notes);
                prop_assert_eq!(&parse(&again.data).unwrap().material, &expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in vec(any::<u8>(), 0..2048)) {
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn any_text_is_judged_without_a_panic(text in "[ -~\\n]{0,600}") {
        prop_assert!(parse(text.as_bytes()).is_err());
    }

    #[test]
    fn any_pages_behind_a_sqlite_header_are_judged_without_a_panic(
        pages in vec(any::<u8>(), 1100..4000), is_header_sound in any::<bool>(),
    ) {
        let mut bytes = b"SQLite format 3\0".to_vec();
        bytes.extend(pages);
        if is_header_sound {
            // Header fields that let SQLite go on to the schema.
            bytes[16..24].copy_from_slice(&[2, 0, 1, 1, 0, 64, 32, 32]);
            bytes[44..48].copy_from_slice(&4_u32.to_be_bytes());
            bytes[56..60].copy_from_slice(&1_u32.to_be_bytes());
            bytes.truncate(bytes.len() / 512 * 512);
        }
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn damaged_sessions_are_judged_without_a_panic(
        format in proptest::sample::select(&WRITTEN),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = write(&full_material(), format).data.to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(parsed) = parse(&bytes) {
            prop_assert!(parsed.material.check().is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn strings_of_any_bytes_are_judged_without_a_panic(
        head in vec(0..=6_u8, 0..8), body in vec(any::<u8>(), 240..330), mark in "1?", standard in any::<bool>(),
    ) {
        let bytes = [head, body].concat();
        let text = if standard { STANDARD.encode(&bytes) } else { URL_SAFE_NO_PAD.encode(&bytes) };
        if let Ok(parsed) = parse(format!("{mark}{text}").as_bytes()) {
            prop_assert!(parsed.material.check().is_ok());
        }
    }

    #[test]
    fn damaged_strings_are_refused_or_of_the_same_form(
        material in any_material(),
        format in proptest::sample::select(&STRINGS),
        edits in vec((any::<prop::sample::Index>(), "[A-Za-z0-9+/=_ -]{0,3}"), 1..4),
    ) {
        let mut text = String::from_utf8(write(&material, format).data.to_vec()).unwrap();
        for (at, piece) in edits {
            let at = at.index(text.len());
            text.replace_range(at..=at, &piece);
        }
        match parse(text.as_bytes()) {
            Ok(parsed) => {
                prop_assert!(parsed.material.check().is_ok());
                // A changed length of the address makes one of these two of the other.
                let marked = [Format::TelethonString, Format::GramjsString];
                prop_assert!(
                    parsed.format == format || (marked.contains(&parsed.format) && marked.contains(&format))
                );
            }
            Err(error) => {
                let said = format!("{error} {error:?}");
                prop_assert!(text.len() < 16 || !said.contains(&text[text.len() / 2..text.len() / 2 + 8]));
            }
        }
    }

    #[test]
    fn a_cut_string_is_never_a_session(
        material in any_material(),
        format in proptest::sample::select(&STRINGS),
        length in any::<prop::sample::Index>(),
    ) {
        let text = write(&material, format).data.to_vec();
        // One of Pyrogram's has the length of an older one, once in a while, and its note says so.
        if let Ok(parsed) = parse(&text[..length.index(text.len())]) {
            prop_assert!(parsed.format == Format::PyrogramString && parsed.notes.contains(&Note::MaybeCut));
        }
    }
}

#[test]
fn the_schema_page_may_be_damaged_anywhere() {
    // The first page holds the schema and decides what SQLite does with everything else.
    let good = write(&full_material(), Format::TelethonSqlite).data;
    let used = (0..120).chain(2400..4096);
    for at in used {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0xff;
        if let Ok(parsed) = parse(&bytes) {
            assert!(parsed.material.check().is_ok());
        }
    }
}

#[test]
fn another_format_than_the_one_named_is_refused() {
    for written in WRITTEN {
        let bytes = write(&full_material(), written).data;
        for hint in Format::ALL {
            let result = block_on(formats::parse(&bytes, Some(*hint), &addresses()));
            if *hint == written {
                assert!(result.is_ok());
            } else {
                assert_eq!(result.unwrap_err(), Error::OtherFormat(written));
            }
        }
    }
}

#[test]
fn formats_that_are_not_written_are_refused() {
    // Telegram Desktop's form has tests of its own: it holds no account without a user id.
    let is_written = |format: &Format| WRITTEN.contains(format) || *format == Format::Tdata;
    for format in Format::ALL.iter().copied().filter(|format| !is_written(format)) {
        let result = block_on(formats::write(&full_material(), format, &addresses()));
        assert_eq!(result.unwrap_err(), Error::Unsupported(format));
        assert_eq!(formats::writable(format), Err(Error::Unsupported(format)));
    }
    assert!(WRITTEN.into_iter().all(|format| formats::writable(format).is_ok()));
}

#[test]
fn raw_documents_are_read_strictly() {
    let good = String::from_utf8(write(&full_material(), Format::Raw).data.to_vec()).unwrap();
    for (from, to, code) in [
        ("\"version\":1", "\"version\":2", "unknown_version"),
        ("\"version\":1", "\"version\":1,\"extra\":0", "json_malformed"),
        ("usm-session", "other", "json_unknown"),
        ("\"dc_id\":4", "\"dc_id\":7", "dc"),
        ("\"dc_id\":2", "\"dc_id\":4", "dc"),
        ("149.154.167.92:80", "149.154.167.92:0", "port"),
        ("149.154.167.92:80", "somewhere", "address"),
        ("\"auth_key\":\"", "\"auth_key\":\"!", "string_malformed"),
        ("\"user_id\":7000000001", "\"user_id\":\"7\"", "json_malformed"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert_eq!(parse(changed.as_bytes()).unwrap_err().code(), code, "{to}");
    }
}

#[test]
fn refusals_never_print_what_was_read() {
    let good = String::from_utf8(write(&full_material(), Format::Raw).data.to_vec()).unwrap();
    let changed = good.replacen("\"is_bot\":false", "\"is_bot\":\"sesame\"", 1);
    let error = parse(changed.as_bytes()).unwrap_err();
    let domain = usm::domain::error::Error::from(error.clone());
    for text in [error.to_string(), format!("{error:?}"), domain.to_string(), format!("{domain:?}")] {
        assert!(!text.contains("sesame"), "{text}");
    }
    let parsed = parse(good.as_bytes()).unwrap();
    let text = format!("{parsed:?} {:?}", write(&full_material(), Format::Raw));
    let key = full_material().home().unwrap().auth_key.expose_secret().to_vec();
    assert!(!text.contains(&hex::encode(&key)) && !text.contains(&format!("{:?}", &key[..4])));
}

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{Error, KeyRing, KeyRingError, Standing, Vault};
use crate::domain::{
    id::SessionKey,
    material::{AuthKey, DcKey, Device, Material, Proxy, SealedMaterial, UpdateState},
    secret::Secret,
    session::Environment,
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const FIXTURE_RING: &[u8] = include_bytes!("fixtures/ring_v1.json");
const FIXTURE_MATERIAL: &[u8] = include_bytes!("fixtures/material_v1.bin");

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("usm-vault-{}", uuid::Uuid::new_v4())))
    }

    fn ring(&self) -> PathBuf {
        self.0.join("keys.json")
    }

    /// A ring file with this text, readable by its owner.
    fn with(text: &[u8]) -> Self {
        let folder = Self::new();
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.ring(), text).unwrap();
        fs::set_permissions(folder.ring(), fs::Permissions::from_mode(0o600)).unwrap();
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key() -> SessionKey {
    SessionKey::parse("tenant", "app").unwrap()
}

fn environment() -> Environment {
    Environment::new("sandbox")
}

fn vault() -> Vault {
    let folder = Folder::new();
    Vault::new(KeyRing::create(&folder.ring(), NOW).unwrap())
}

fn full_material() -> Material {
    let key = |fill: u8| AuthKey::from_slice(&[fill; 256]).unwrap();
    Material {
        home_dc: 2,
        keys: [
            (2, DcKey { auth_key: key(0xA5), address: Some("149.154.167.51:443".parse().unwrap()) }),
            (4, DcKey { auth_key: key(0x5A), address: Some("[2001:67c:4e8:f004::a]:443".parse().unwrap()) }),
            (5, DcKey { auth_key: key(0x11), address: None }),
        ]
        .into(),
        telegram_user_id: Some(5_000_000_001),
        is_bot: Some(false),
        api_id: 17_349,
        device: Device {
            device_model: "Pixel 8".to_owned(),
            system_version: "Android 15".to_owned(),
            app_version: "11.2".to_owned(),
            system_lang_code: "ru".to_owned(),
            lang_code: "en".to_owned(),
        },
        proxy: Some(Proxy { url: Secret::new("socks5://user:word@127.0.0.1:1080") }),
        updates: Some(UpdateState { pts: 10, qts: -1, date: 1_700_000_000, seq: 3 }),
        channels: std::collections::BTreeMap::new(),
    }
}

#[test]
fn material_of_version_1_stays_readable() {
    let vault = Vault::new(KeyRing::parse(FIXTURE_RING, Path::new("ring_v1.json")).unwrap());
    let sealed =
        SealedMaterial { bytes: FIXTURE_MATERIAL.to_vec(), key_id: "k-first".to_owned(), version: 7 };
    assert_eq!(vault.unseal(&key(), &environment(), &sealed).unwrap(), full_material());
}

#[test]
fn fingerprints_and_lease_ids_stay_what_they_are() {
    let vault = Vault::new(KeyRing::parse(FIXTURE_RING, Path::new("ring_v1.json")).unwrap());
    assert_eq!(
        vault.fingerprint(&full_material()).unwrap().as_str(),
        "cc132bd7a7e87153e3091dd7148fc65e2a6ab8225ebbb84baad1470326e66d61"
    );
    assert_eq!(vault.lease_id(&[b"ab", b"c"]).expose_secret(), "471dbb8827bea3f8e9e0c7252e9105b9");
    assert!(vault.lease_id(&[b"ab", b"c"]) != vault.lease_id(&[b"a", b"bc"]));
}

#[test]
fn access_tokens_are_vouched_for_by_the_ring_they_were_made_with() {
    let (one, replica) = (vault(), vault());
    let tag = one.sign_access(b"payload");
    assert!(one.vouches_for_access(b"payload", &tag));
    let same_ring = Vault::new(KeyRing::parse(FIXTURE_RING, Path::new("ring_v1.json")).unwrap());
    let again = Vault::new(KeyRing::parse(FIXTURE_RING, Path::new("ring_v1.json")).unwrap());
    assert!(again.vouches_for_access(b"payload", &same_ring.sign_access(b"payload")));
    assert!(!replica.vouches_for_access(b"payload", &tag), "another ring");
    for (payload, tag) in [
        (b"payloae".as_slice(), tag.as_slice()),
        (b"", &tag),
        (b"payload", &tag[..31]),
        (b"payload", &[]),
        (b"payload", &[0; 32]),
    ] {
        assert!(!one.vouches_for_access(payload, tag));
    }
}

#[test]
fn sealing_twice_gives_different_bytes_and_shows_nothing_of_the_key() {
    let vault = vault();
    let one = vault.seal(&key(), &environment(), 1, &full_material()).unwrap();
    let two = vault.seal(&key(), &environment(), 1, &full_material()).unwrap();
    assert!(one.bytes != two.bytes);
    assert!(!one.bytes.windows(8).any(|it| it == [0xA5; 8] || it == b"user:wor"));
}

#[test]
fn material_opens_only_in_its_own_row() {
    let vault = vault();
    let sealed = vault.seal(&key(), &environment(), 1, &full_material()).unwrap();
    let refused = |key: &SessionKey, environment: &Environment, sealed: &SealedMaterial| {
        assert!(matches!(vault.unseal(key, environment, sealed), Err(Error::Broken)));
    };
    refused(&SessionKey::parse("other", "app").unwrap(), &environment(), &sealed);
    refused(&SessionKey::parse("tenant", "other").unwrap(), &environment(), &sealed);
    refused(&SessionKey::parse("tenantapp", "x").unwrap(), &environment(), &sealed);
    refused(&key(), &Environment::new("production"), &sealed);
    refused(&key(), &environment(), &SealedMaterial { version: 2, ..sealed.clone() });
    refused(&key(), &environment(), &SealedMaterial { key_id: "k-other".to_owned(), ..sealed.clone() });
    assert!(vault.unseal(&key(), &environment(), &sealed).is_ok());
}

#[test]
fn material_does_not_open_with_another_ring() {
    let sealed = vault().seal(&key(), &environment(), 1, &full_material()).unwrap();
    let error = vault().unseal(&key(), &environment(), &sealed).unwrap_err();
    assert!(matches!(&error, Error::UnknownKey { key_id } if *key_id == sealed.key_id));
    let refusal = crate::domain::error::Error::from(error);
    assert!(refusal.message.contains("bring back the key file"));
}

#[test]
fn a_blob_opens_only_in_its_own_context() {
    let vault = vault();
    let sealed = vault.seal_blob("login ticket", b"one", b"contents").unwrap();
    assert_eq!(vault.unseal_blob("login ticket", b"one", &sealed).unwrap().as_slice(), b"contents");
    assert!(matches!(vault.unseal_blob("login ticket", b"two", &sealed), Err(Error::Broken)));
    assert!(matches!(vault.unseal_blob("login ticketo", b"ne", &sealed), Err(Error::Broken)));
    let material = vault.seal(&key(), &environment(), 1, &full_material()).unwrap();
    assert!(matches!(vault.unseal_blob("tenant", b"app", &material.bytes), Err(Error::Broken)));
    assert!(matches!(vault.seal_blob("big", b"", &vec![0; (1 << 20) + 1]), Err(Error::TooLarge)));
}

#[test]
fn a_rotated_ring_still_opens_and_rewraps_without_touching_the_data() {
    let folder = Folder::new();
    let before = Vault::new(KeyRing::create(&folder.ring(), NOW).unwrap());
    let sealed = before.seal(&key(), &environment(), 3, &full_material()).unwrap();

    let after = Vault::new(KeyRing::generate(&folder.ring(), NOW).unwrap());
    assert_eq!(after.unseal(&key(), &environment(), &sealed).unwrap(), full_material());
    let rewrapped = after.rewrap(&key(), &environment(), &sealed).unwrap().unwrap();
    assert_eq!(rewrapped.key_id, after.current_key_id());
    assert_eq!(after.unseal(&key(), &environment(), &rewrapped).unwrap(), full_material());
    let data_length = 300;
    assert_eq!(
        sealed.bytes[sealed.bytes.len() - data_length..],
        rewrapped.bytes[rewrapped.bytes.len() - data_length..]
    );
    assert!(after.rewrap(&key(), &environment(), &rewrapped).unwrap().is_none());
    assert!(matches!(before.unseal(&key(), &environment(), &rewrapped), Err(Error::UnknownKey { .. })));
    let elsewhere = SessionKey::parse("other", "app").unwrap();
    assert!(matches!(after.rewrap(&elsewhere, &environment(), &sealed), Err(Error::Broken)));
    assert_eq!(after.fingerprint(&full_material()), before.fingerprint(&full_material()));
    assert!(after.lease_id(&[b"x"]) == before.lease_id(&[b"x"]));
}

#[test]
fn a_new_ring_is_private_and_never_overwritten() {
    let folder = Folder::new();
    let ring = KeyRing::create(&folder.ring(), NOW).unwrap();
    assert_eq!(fs::metadata(folder.ring()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(matches!(KeyRing::create(&folder.ring(), NOW), Err(KeyRingError::Exists { .. })));
    let again = KeyRing::open(&folder.ring()).unwrap();
    assert_eq!(again.current().id(), ring.current().id());
    assert_eq!(again.current().create_time(), NOW);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no draft stays behind");
}

#[test]
fn of_many_creating_a_ring_at_once_one_succeeds() {
    let folder = Folder::new();
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| KeyRing::create(&folder.ring(), NOW).is_ok())).collect();
        threads.into_iter().map(|it| it.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
    KeyRing::open(&folder.ring()).unwrap();
}

#[test]
fn generating_keeps_the_former_keys() {
    let folder = Folder::new();
    let first = KeyRing::create(&folder.ring(), NOW).unwrap();
    let ring = KeyRing::generate(&folder.ring(), NOW).unwrap();
    let standings: Vec<_> = ring.keys().iter().map(|key| key.standing()).collect();
    assert_eq!(standings, [Standing::Former, Standing::Current]);
    assert_eq!(ring.keys()[0].id(), first.current().id());
    assert_eq!(KeyRing::open(&folder.ring()).unwrap().current().id(), ring.current().id());
    assert_eq!(fs::metadata(folder.ring()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn generating_at_once_loses_no_key() {
    let folder = Folder::new();
    KeyRing::create(&folder.ring(), NOW).unwrap();
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| match KeyRing::generate(&folder.ring(), NOW) {
                    Ok(_) => 1,
                    Err(KeyRingError::Busy { .. }) => 0,
                    Err(other) => panic!("{other}"),
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).sum::<usize>()
    });
    assert_eq!(KeyRing::open(&folder.ring()).unwrap().keys().len(), 1 + made);
}

#[test]
fn an_exposed_ring_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o777] {
        let folder = Folder::with(FIXTURE_RING);
        fs::set_permissions(folder.ring(), fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyRing::open(&folder.ring()).unwrap_err();
        assert!(matches!(error, KeyRingError::Exposed { .. }), "{mode:o}: {error}");
        assert!(error.to_string().contains("chmod 600"));
    }
}

#[test]
fn what_is_not_a_ring_is_refused_by_name() {
    use KeyRingError as E;
    let text = String::from_utf8(FIXTURE_RING.to_vec()).unwrap();
    let refused = |text: &str, expected: fn(&KeyRingError) -> bool| {
        let folder = Folder::with(text.as_bytes());
        let error = KeyRing::open(&folder.ring()).unwrap_err();
        assert!(expected(&error), "{error}");
        assert!(error.to_string().contains("keys.json"), "{error}");
        assert!(!format!("{error:?}").contains("0101"), "{error:?}");
    };
    refused("", |it| matches!(it, E::Empty { .. }));
    refused(" \n", |it| matches!(it, E::Empty { .. }));
    refused("[]", |it| matches!(it, E::Damaged { .. }));
    refused(&text.replace("\"version\": 1", "\"version\": 2"), |it| {
        matches!(it, E::Newer { version: 2, .. })
    });
    refused(&text.replace("0101", "01"), |it| matches!(it, E::Damaged { .. }));
    refused(&text.replace("0101", "01xx"), |it| matches!(it, E::Damaged { .. }));
    refused(
        &text.replace("\"current\": \"k-first\"", "\"current\": \"k-none\""),
        |it| matches!(it, E::Damaged { rule, .. } if rule.contains("current")),
    );
    refused(
        &text.replace("k-second", "k-first"),
        |it| matches!(it, E::Damaged { rule, .. } if rule.contains("twice")),
    );
    refused(
        &text.replace("k-second", "k second"),
        |it| matches!(it, E::Damaged { rule, .. } if rule.contains("id")),
    );
    refused(&text[..text.len() / 2], |it| matches!(it, E::Damaged { .. }));
    refused(&" ".repeat(70_000).replacen(' ', "{", 1), |it| matches!(it, E::Damaged { .. }));
}

#[test]
fn a_ring_may_be_a_link_for_reading_but_not_for_changing() {
    let folder = Folder::with(FIXTURE_RING);
    let link = folder.0.join("link");
    symlink(folder.ring(), &link).unwrap();
    assert!(KeyRing::open(&link).is_ok());
    assert!(matches!(KeyRing::generate(&link, NOW), Err(KeyRingError::NotAFile { .. })));
    assert!(matches!(KeyRing::open(&folder.0), Err(KeyRingError::NotAFile { .. })));
    assert!(matches!(KeyRing::open(&folder.0.join("none")), Err(KeyRingError::Missing { .. })));
}

#[test]
fn debug_shows_names_and_nothing_secret() {
    let ring = KeyRing::parse(FIXTURE_RING, Path::new("ring_v1.json")).unwrap();
    let vault = Vault::new(ring);
    let shown = format!("{:?} {:?}", vault, vault.keys());
    assert!(shown.contains("k-first"));
    assert!(!shown.contains("0101") && !shown.contains("1, 1, 1"), "{shown}");
}

fn materials() -> impl Strategy<Value = Material> {
    let dc_key = (prop::array::uniform32(1u8..), any::<Option<(u32, u16)>>()).prop_map(|(half, address)| {
        let auth_key = AuthKey::from_slice(&half.repeat(8)).unwrap();
        let address = address.map(|(ip, port)| (std::net::Ipv4Addr::from(ip), port).into());
        DcKey { auth_key, address }
    });
    let device = ("\\PC{0,40}", "\\PC{0,40}", "\\PC{0,8}").prop_map(|(model, system, lang)| Device {
        device_model: model,
        system_version: system,
        system_lang_code: lang.clone(),
        lang_code: lang,
        ..Device::default()
    });
    let updates = any::<Option<(i32, i32, i32, i32)>>()
        .prop_map(|it| it.map(|(pts, qts, date, seq)| UpdateState { pts, qts, date, seq }));
    (
        any::<i32>(),
        prop::collection::btree_map(any::<i32>(), dc_key, 0..6),
        any::<(Option<i64>, Option<bool>, i32)>(),
        device,
        prop::option::of("socks5://\\PC{1,60}"),
        updates,
        prop::collection::btree_map(1..=i64::MAX, any::<i32>(), 0..4),
    )
        .prop_map(
            |(home_dc, keys, (telegram_user_id, is_bot, api_id), device, proxy, updates, channels)| {
                Material {
                    home_dc,
                    keys,
                    telegram_user_id,
                    is_bot,
                    api_id,
                    device,
                    proxy: proxy.map(|url| Proxy { url: Secret::new(url) }),
                    updates,
                    channels,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sealed_opens_alike(material in materials(), version in any::<i64>()) {
        let vault = vault();
        let sealed = vault.seal(&key(), &environment(), version, &material).unwrap();
        prop_assert_eq!(vault.unseal(&key(), &environment(), &sealed).unwrap(), material);
    }

    #[test]
    fn any_flipped_bit_breaks_the_seal(material in materials(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let vault = vault();
        let mut sealed = vault.seal(&key(), &environment(), 1, &material).unwrap();
        let at = at.index(sealed.bytes.len());
        sealed.bytes[at] ^= 1 << bit;
        prop_assert!(vault.unseal(&key(), &environment(), &sealed).is_err());
    }

    #[test]
    fn truncated_or_random_bytes_are_refused(cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let vault = vault();
        let sealed = vault.seal(&key(), &environment(), 1, &full_material()).unwrap();
        let bytes = sealed.bytes[..cut.index(sealed.bytes.len())].to_vec();
        for bytes in [bytes, noise.clone()] {
            let sealed = SealedMaterial { bytes, ..sealed.clone() };
            prop_assert!(vault.unseal(&key(), &environment(), &sealed).is_err());
        }
        // Whatever it is, reading it ends without a panic.
        let _ = super::material::decode(&noise);
    }
}

//! Archives and files that somebody made to hurt their reader, and bytes that nobody made.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};
use usm::{
    domain::material::{AuthKey, DcKey, Material},
    formats::{self, Error, Note},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{FIRST, Files, Made, account, account_everywhere, arrays, list, parse, written, zip};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Judged in time and without a panic, which would come as an internal error.
fn judged(archive: &[u8], passcode: &str) -> Result<formats::Parsed, Error> {
    let started = Instant::now();
    let result = block_on(parse(archive, passcode, Some(0)));
    assert!(started.elapsed() < Duration::from_secs(8), "reading took {:?}", started.elapsed());
    if let Err(Error::Internal(what)) = result {
        panic!("{what}");
    }
    result
}

fn archive(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut archive);
    archive.finish().unwrap().into_inner()
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

fn packed() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

/// The files below a path, which is written with the separator.
fn below(files: &Files, prefix: &str, options: SimpleFileOptions) -> Vec<u8> {
    archive(|archive| {
        for (path, bytes) in files {
            archive.start_file(format!("{prefix}{path}"), options).unwrap();
            archive.write_all(bytes).unwrap();
        }
    })
}

#[test]
fn archives_of_every_archiver_are_read() {
    let files = block_on(written(&[account(4, 7)], ""));
    for prefix in ["", "tdata/", "./tdata/", "Telegram Desktop/tdata/"] {
        for options in [stored(), packed()] {
            let parsed = judged(&below(&files, prefix, options), "").unwrap();
            assert_eq!(parsed.material, account(4, 7), "{prefix}");
        }
    }
    let windows: Files = files.iter().map(|(path, bytes)| (path.replace('/', "\\"), bytes.clone())).collect();
    assert!(judged(&below(&windows, "tdata\\", stored()), "").is_ok());
    // A whole folder, with its caches.
    let mut whole = files.clone();
    for n in 0..500 {
        whole.insert(format!("user_data/cache/{n}"), vec![7; 1000]);
    }
    assert!(judged(&below(&whole, "tdata/", packed()), "").is_ok());
}

#[test]
fn archives_that_are_none_are_refused_by_name() {
    let files = block_on(written(&[account(4, 7)], ""));
    let refused = |bytes: &[u8]| judged(bytes, "").unwrap_err();
    assert_eq!(refused(&archive(|_| {})), Error::Empty);
    assert_eq!(refused(&archive(|archive| archive.add_directory("tdata", stored()).unwrap())), Error::Empty);
    for prefix in ["../", "/", "tdata/../../", "C:\\", "..\\"] {
        assert_eq!(refused(&below(&files, prefix, stored())), Error::ArchivePath, "{prefix}");
    }
    let mut two = files.clone();
    two.extend(files.iter().map(|(path, bytes)| (format!("copy/{path}"), bytes.clone())));
    assert_eq!(refused(&below(&two, "", stored())), Error::TdataFolders);
    let picture = Files::from([("picture.png".to_owned(), vec![1; 100])]);
    assert_eq!(refused(&below(&picture, "", stored())), Error::TdataNoKeyFile);
    let good = below(&files, "", stored());
    assert_eq!(refused(&good[..good.len() - 30]), Error::ArchiveDamaged);
    assert_eq!(refused(&good[..100]), Error::ArchiveDamaged);
    let link = archive(|archive| archive.add_symlink("key_datas", "/etc/passwd", stored()).unwrap());
    assert_eq!(refused(&link), Error::NotRegular);
    // The bit that says that a file is locked, at both places.
    let mut sealed = below(&Files::from([("key_datas".to_owned(), vec![1; 100])]), "", stored());
    let entry = sealed.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    sealed[6] |= 1;
    sealed[entry + 8] |= 1;
    assert_eq!(refused(&sealed), Error::ArchiveSealed);
}

#[test]
fn archives_that_would_fill_the_memory_are_refused() {
    let refused = |bytes: &[u8]| judged(bytes, "").unwrap_err();
    let of = |length: usize| {
        archive(|archive| {
            archive.start_file("key_datas", packed()).unwrap();
            archive.write_all(&vec![0; length]).unwrap();
        })
    };
    assert_eq!(refused(&of(5 << 20)), Error::ArchiveTooLarge);
    assert_eq!(refused(&of(1 << 20)), Error::ArchiveTooLarge, "it shrank by more than anything sealed does");
    // It says that it is smaller than it is.
    let mut lying = of(50_000);
    let entry = lying.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    for at in [22, entry + 24] {
        lying[at..at + 4].copy_from_slice(&200_u32.to_le_bytes());
    }
    assert_eq!(refused(&lying), Error::ArchiveDamaged);
    let mut many = archive(|archive| archive.start_file("key_datas", stored()).unwrap());
    many.extend_from_slice(&b"PK\x01\x02".repeat(50_001));
    assert_eq!(refused(&many), Error::ArchiveTooLarge);
    // Many files of bearable size.
    let all = archive(|archive| {
        archive.start_file("key_datas", stored()).unwrap();
        for index in 0..16 {
            let name = opentele2_core::tdata::account::folder_name(
                &opentele2_core::tdata::account::data_name("data", index),
            );
            archive.start_file(format!("{name}s"), stored()).unwrap();
            archive.write_all(&vec![7; 3 << 20]).unwrap();
        }
    });
    assert_eq!(refused(&all), Error::ArchiveTooLarge);
}

fn any_key() -> impl Strategy<Value = AuthKey> {
    vec(any::<u8>(), 256)
        .prop_filter("a key", |bytes| bytes.iter().any(|byte| *byte != 0))
        .prop_map(|bytes| AuthKey::from_slice(&bytes).unwrap())
}

prop_compose! {
    fn any_account()(
        home_dc in 1..=5_i32,
        keys in proptest::collection::btree_map(1..=5_i32, any_key(), 0..4),
        home in any_key(),
        user_id in 1..=i64::MAX,
    ) -> Material {
        let mut keys: BTreeMap<i32, DcKey> =
            keys.into_iter().map(|(dc, auth_key)| (dc, DcKey { auth_key, address: None })).collect();
        keys.insert(home_dc, DcKey { auth_key: home, address: None });
        Material { home_dc, keys, telegram_user_id: Some(user_id), ..account(1, 1) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_comes_back_whole(
        materials in vec(any_account(), 1..=6),
        passcode in prop_oneof![9 => Just(String::new()), 1 => ".{1,20}"],
    ) {
        let files = block_on(written(&materials, &passcode));
        let read = block_on(super::judge(&files, &passcode)).unwrap();
        prop_assert_eq!(read.len(), materials.len());
        for (read, material) in read.into_iter().zip(&materials) {
            let read = read.unwrap();
            prop_assert_eq!(&read.material, material);
            prop_assert_eq!(read.notes, [Note::AddressMissing]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_archive_is_judged_without_a_panic(bytes in vec(any::<u8>(), 0..3000)) {
        prop_assert!(judged(&[b"PK\x03\x04", &bytes[..]].concat(), "").is_err());
    }

    #[test]
    fn damaged_archives_are_judged_without_a_panic(
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        // What an archive tells of its files comes last.
        near_the_end in any::<bool>(),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
        is_packed in any::<bool>(),
    ) {
        let files = block_on(written(&[account_everywhere()], ""));
        let options = if is_packed { packed() } else { stored() };
        let mut bytes = below(&files, "tdata/", options);
        let from = if near_the_end { bytes.len() - 300 } else { 4 };
        for (at, byte) in edits {
            let at = from + at.index(bytes.len() - from);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(4 + cut.index(bytes.len() - 4));
        }
        if let Ok(parsed) = judged(&bytes, "") {
            prop_assert!(parsed.material.check().is_ok());
        }
    }

    #[test]
    fn any_payload_of_a_key_file_is_judged_without_a_panic(
        payload in vec(any::<u8>(), 0..400),
        trailer in vec(any::<u8>(), 0..200),
        is_headed in any::<bool>(),
        passcode in prop_oneof![6 => Just(""), 1 => Just("x")],
    ) {
        let mut made = Made::new();
        made.put("key_datas", payload);
        prop_assert!(judged(&zip(&made.files), passcode).is_err());
        let head: &[u8] = if is_headed { &[0x4b, 0x44, 0x32, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1] } else { &[] };
        let trailer = [head, &trailer].concat();
        made.put("key_datas", arrays(&[Some(&[3; 32]), None, Some(&[1; 48]), Some(&trailer)]));
        prop_assert!(judged(&zip(&made.files), passcode).is_err());
    }

    #[test]
    fn any_sealed_settings_are_judged_without_a_panic(
        settings in vec(any::<u8>(), 0..700),
        block in proptest::option::of(proptest::sample::select(&[0, 1, 2, 3, 0x27, 0x32, 0x4a, 0x4b, 0x50, 0x5e][..])),
        config in vec(any::<u8>(), 0..200),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut made = Made::new();
        made.put_key_file(&list(&[0], 0));
        let head = block.map_or(Vec::new(), |block: u32| block.to_be_bytes().to_vec());
        made.put_sealed(&format!("{FIRST}s"), &[head, settings].concat());
        if let Ok(parsed) = judged(&zip(&made.files), "") {
            prop_assert!(parsed.material.check().is_ok());
        }
        // A good one with a few bytes changed, beside a config that is none.
        let mut good = super::foreign_account(0, &account_everywhere()).encode_mtp_data().unwrap();
        for (at, byte) in edits {
            let at = at.index(good.len().min(60));
            good[at] = byte;
        }
        made.put_sealed(&format!("{FIRST}s"), &good);
        made.put_sealed(&format!("{FIRST}/configs"), &arrays(&[Some(&config)]));
        if let Ok(parsed) = judged(&zip(&made.files), "") {
            prop_assert!(parsed.material.check().is_ok());
        }
    }
}

#[test]
fn refusals_never_print_what_was_read() {
    let locked = block_on(written(&[account(4, 7)], "hush"));
    let error = judged(&zip(&locked), "loud").unwrap_err();
    for text in [format!("{error}"), format!("{error:?}")] {
        assert!(!text.contains("loud") && !text.contains("hush"), "{text}");
    }
    let options = formats::Options { passcode: super::secret("loud"), account: None };
    assert!(!format!("{options:?}").contains("loud"));
    let folder = block_on(formats::write_tdata(&[account(4, 7)], None)).unwrap();
    assert!(!format!("{folder:?}").contains("files"), "not even the sealed bytes");
}

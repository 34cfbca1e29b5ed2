//! Every schema version, every kind of damage: `tests/formats/python/corpus.py` writes them and says what to expect.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use serde_json::{Value, json};
use usm::formats::{self, Error, SourceFile};

use super::{addresses, python};

/// What a reader said, in the corpus' words.
fn answer(result: Result<&formats::Parsed, &Error>) -> Value {
    let parsed = match result {
        Err(error) => return json!({ "code": error.code() }),
        Ok(parsed) => parsed,
    };
    let material = &parsed.material;
    let home = material.home().unwrap();
    json!({
        "format": parsed.format.name(),
        "dc": material.home_dc,
        "key": hex::encode(home.auth_key.expose_secret()),
        "address": home.address.map(|address| address.to_string()),
        "user_id": material.telegram_user_id,
        "is_bot": material.is_bot,
        "api_id": material.api_id,
        "updates": material.updates.map(|state| [state.pts, state.qts, state.date, state.seq]),
        "channels": material.channels,
        "notes": parsed.notes.iter().map(formats::Note::code).collect::<Vec<_>>(),
    })
}

/// Names, sizes, contents and times of change of all files.
fn snapshot(folder: &Path) -> BTreeMap<String, (u64, Vec<u8>, std::time::SystemTime)> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            // The huge ones are told by their sizes.
            let content = if metadata.len() < 1 << 20 { fs::read(entry.path()).unwrap() } else { Vec::new() };
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, (metadata.len(), content, metadata.modified().unwrap()))
        })
        .collect()
}

#[tokio::test]
async fn every_file_of_the_corpus_is_read_or_refused_as_it_should_be_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = python::run("corpus.py", &[folder.path().as_os_str()]);
    let before = snapshot(folder.path());
    let folder_changed = fs::metadata(folder.path()).unwrap().modified().unwrap();

    let mut wrong = Vec::new();
    for entry in corpus.as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let started = Instant::now();
        let result = formats::read_file(folder.path(), &folder.path().join(name), &addresses()).await;
        let found = answer(result.as_ref().map(|SourceFile { parsed, .. }| parsed));
        if found != entry["expect"] {
            wrong.push(format!("{name}:\n  expected {}\n  found    {found}", entry["expect"]));
        }
        let seconds = started.elapsed().as_secs();
        assert!(seconds < 8, "{name} took {seconds} s");
        if let Err(error) = result {
            let text = error.to_string();
            assert!(!text.ends_with('.') && text.starts_with(char::is_lowercase), "{text}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(before == snapshot(folder.path()), "a source was changed, or something was left beside it");
    assert_eq!(folder_changed, fs::metadata(folder.path()).unwrap().modified().unwrap());
}

#[tokio::test]
async fn bytes_alone_are_judged_like_files_without_siblings() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = python::run("corpus.py", &[folder.path().as_os_str()]);
    for entry in corpus.as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let path = folder.path().join(name);
        let has_siblings =
            ["-journal", "-wal"].iter().any(|suffix| folder.path().join(format!("{name}{suffix}")).exists());
        if has_siblings || name == "larger.session" {
            continue;
        }
        let result = formats::parse(&fs::read(&path).unwrap(), None, &addresses()).await;
        let mut found = answer(result.as_ref());
        if name == "string_in_it.session" {
            found["notes"] = json!(["name_unlike_content"]);
        }
        assert_eq!(found, entry["expect"], "{name}");
    }
}

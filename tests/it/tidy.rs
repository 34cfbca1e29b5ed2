//! Rules of the source tree that no compiler checks. `ARCHITECTURE.md` draws what they keep.

mod documents;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A crate or path that only some places may name. Names ending in `*` stand for every crate that begins so.
struct Fence {
    names: &'static [&'static str],
    only_in: &'static [&'static str],
    why: &'static str,
}

const FENCES: &[Fence] = &[
    Fence {
        names: &["tonic*", "prost*", "usm_client"],
        only_in: &["src/grpc/", "src/boot/", "src/telemetry/layer.rs", "src/cli/"],
        why: "gRPC and its messages end at the edge; behind it there are domain types",
    },
    Fence {
        names: &["tower*"],
        only_in: &["src/grpc/", "src/http/", "src/boot/", "src/telemetry/layer.rs", "src/cli/"],
        why: "what lies around a call is the edges'",
    },
    Fence {
        names: &["aws_lc_rs"],
        only_in: &["src/http/miniapp/init_data/"],
        why: "one place judges what Telegram says of a user",
    },
    Fence { names: &["axum*"], only_in: &["src/http/", "src/boot/"], why: "only the HTTP edge speaks HTTP" },
    Fence {
        names: &["sea_orm*", "usm_migrations"],
        only_in: &["src/store/"],
        why: "SQL runs under a role and a caller's claims, which only the store sets",
    },
    Fence { names: &["sqlx*"], only_in: &["src/store/"], why: "only the store has a database" },
    Fence {
        names: &["rusqlite*"],
        only_in: &["src/formats/"],
        why: "only formats open foreign SQLite files",
    },
    Fence {
        names: &["fred"],
        only_in: &["src/tickets/redis.rs", "src/tickets/redis/"],
        why: "one room speaks to Redis",
    },
    Fence {
        names: &["grammers_*"],
        only_in: &["src/telegram/"],
        why: "one place opens connections to Telegram",
    },
    Fence { names: &["jsonwebtoken"], only_in: &["src/auth/"], why: "one place judges credentials" },
    Fence { names: &["aes_gcm"], only_in: &["src/vault/"], why: "one place seals" },
    Fence {
        names: &["opentelemetry*"],
        only_in: &["src/telemetry/"],
        why: "spans are made in one place, so that none records an argument",
    },
    Fence {
        names: &["usm_sandbox"],
        only_in: &["src/boot/", "src/cli/"],
        why: "a production build has no sandbox",
    },
    Fence { names: &["clap*"], only_in: &["src/cli/"], why: "flags are the command line's" },
    Fence { names: &["toml"], only_in: &["src/config/"], why: "settings are read in one place" },
    Fence {
        names: &["std::env::var", "std::env::vars", "std::env::var_os", "std::env::vars_os"],
        only_in: &["src/config/", "src/cli/"],
        why: "a setting that is read elsewhere is in no table, no check and no printout",
    },
    Fence {
        names: &["SystemTime::now"],
        only_in: &["src/app/clock.rs"],
        why: "time is a value that is read once, at the edge of a call or a task",
    },
    Fence {
        names: &["expose_secret"],
        only_in: &[
            // Sealing, and turning keys into what Telegram or a library takes.
            "src/vault/",
            "src/telegram/",
            "src/formats/",
            // The secret types themselves, and hashes of ids and keys.
            "src/domain/",
            "src/store/leases/mod.rs",
            "src/tickets/key.rs",
            // Addresses that hold a password, on their way to a driver.
            "src/config/resolve.rs",
            "src/store/connect.rs",
            "src/tickets/redis.rs",
            "src/tickets/redis/ownership.rs",
            // What is sealed into a ticket.
            "src/tickets/content.rs",
            "src/app/tokens.rs",
            // Credentials, judged and made.
            "src/auth/",
            "src/http/miniapp/init_data/",
            "src/http/miniapp/signature.rs",
            "src/boot/mod.rs",
            // What a caller is entitled to.
            "src/grpc/convert/",
            "src/grpc/login_service.rs",
            "src/http/miniapp/answer.rs",
            "src/http/miniapp/password.rs",
            "src/cli/connect.rs",
            // The passcode that locks what is exported, on its way to the service.
            "src/cli/export.rs",
            "src/cli/given.rs",
            "src/cli/import/sending.rs",
            "src/cli/lease.rs",
            "src/cli/login/",
            "src/cli/token.rs",
            "src/cli/quickstart/story.rs",
        ],
        why: "each place that opens a secret is one to review; a new one is added here on purpose",
    },
    Fence {
        names: &["unwrap()"],
        only_in: &[],
        why: "an error is handled, or `expect` says why it cannot be",
    },
    Fence {
        names: &["todo!", "unimplemented!", "dbg!"],
        only_in: &[],
        why: "what is not there answers UNIMPLEMENTED",
    },
];

/// Folders of `src`, and the modules that they must not name.
const LAYERS: &[(&[&str], &[&str])] = &[
    (&["app"], &["grpc", "http", "cli", "boot"]),
    (
        &["store", "tickets", "telegram", "vault", "formats"],
        &["grpc", "http", "cli", "boot", "app", "config"],
    ),
    (&["store", "telegram", "formats"], &["vault", "tickets"]),
    (&["telegram", "formats", "vault", "tickets"], &["store"]),
    (&["store", "tickets", "vault", "formats"], &["telegram"]),
    (&["store", "tickets", "vault", "telegram"], &["formats"]),
    (
        &["domain", "telemetry", "config", "auth"],
        &["grpc", "http", "cli", "boot", "app", "store", "tickets", "telegram", "vault", "formats"],
    ),
    (&["domain", "auth"], &["telemetry", "config"]),
    (&["app", "store", "tickets", "telegram", "vault", "formats"], &["auth"]),
    (&["grpc"], &["http"]),
    (&["http"], &["grpc"]),
    (&["grpc", "http"], &["cli", "boot", "store", "tickets", "vault", "config"]),
];

const LINES_MAX: usize = 600;

/// Spelled so that this file does not hold them.
const NOWHERE: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "say in an issue what is left, and in the code why it is as it is"),
    (concat!("FIX", "ME"), "mend it"),
    (concat!("#[", "ignore"), "a test that does not run proves nothing"),
    (concat!("/ro", "ot/"), "the tree works on every machine"),
    (concat!("/wo", "rk/"), "the tree works on every machine"),
];

struct File {
    /// From the root of the tree.
    path: String,
    text: String,
}

/// Tracked text files: what lies in the tree without what is built there.
fn tree() -> Vec<File> {
    fn visit(folder: &Path, root: &Path, files: &mut Vec<File>) {
        for entry in fs::read_dir(folder).expect("a folder of the tree").map(|entry| entry.expect("readable"))
        {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let hidden = name.starts_with('.') && ![".ci", ".config"].contains(&name.as_str());
            let built = ["target", "build", "node_modules", "__pycache__", "Cargo.lock"]
                .contains(&name.as_str())
                || name.ends_with(".egg-info");
            if hidden || built {
                continue;
            }
            if path.is_dir() {
                visit(&path, root, files);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
    }
    let root = root();
    let mut files = Vec::new();
    visit(&root, &root, &mut files);
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rust that ends up in the program: the server and the crates it stands on, without what is generated.
fn is_production(path: &str) -> bool {
    let ours = ["src/", "migrations/src/", "clients/rust/src/", "tests/sandbox/src/"];
    path.ends_with(".rs")
        && !path.ends_with("/tests.rs")
        && ours.iter().any(|folder| path.starts_with(folder))
        && !path.starts_with("clients/rust/src/gen/")
}

/// The lines of a file that are code and no test, with their numbers.
fn code(file: &File) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let (mut marked, mut in_tests) = (false, false);
    for (at, line) in file.text.lines().enumerate() {
        in_tests |= marked && line.contains("mod ") && line.ends_with('{');
        if !in_tests && !line.trim_start().starts_with("//") {
            lines.push((at + 1, line.split(" // ").next().unwrap_or(line)));
        }
        in_tests &= line != "}";
        marked = line == "#[cfg(test)]";
    }
    lines
}

/// Whether the line names the crate or path, and not only something that contains its letters.
fn names(line: &str, name: &str) -> bool {
    let (stem, open) = name.strip_suffix('*').map_or((name, false), |stem| (stem, true));
    let whole = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(stem).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let rest = &line[at + stem.len()..];
        let rest = if open { rest.trim_start_matches(whole) } else { rest };
        let is_path = name.contains("::") || name.ends_with(['!', ')']) || name == "expose_secret";
        let free = before.is_none_or(|c| !whole(c) && (is_path || (c != ':' && c != '.')));
        free && if is_path {
            !rest.starts_with(whole)
        } else {
            rest.starts_with("::") || rest.starts_with(';')
        }
    })
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "{} rules are broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn frameworks_and_secrets_stay_where_they_belong() {
    let mut broken = Vec::new();
    for file in tree().iter().filter(|file| is_production(&file.path)) {
        // The other crates have fences of their own kind; of these they keep the ones that hold everywhere.
        let server = file.path.starts_with("src/");
        for fence in FENCES.iter().filter(|fence| server || fence.only_in.is_empty()) {
            if fence.only_in.iter().any(|place| file.path.starts_with(place)) {
                continue;
            }
            for (number, line) in code(file) {
                for name in fence.names.iter().filter(|name| names(line, name)) {
                    broken.push(format!("{}:{number} names {name}: {}", file.path, fence.why));
                }
            }
        }
    }
    report(&broken);
}

#[test]
fn layers_point_one_way() {
    let mut broken = Vec::new();
    let files = tree();
    for (folders, forbidden) in LAYERS {
        for file in files.iter().filter(|file| is_production(&file.path)) {
            if !folders.iter().any(|folder| file.path.starts_with(&format!("src/{folder}/"))) {
                continue;
            }
            // `use crate::{` puts the module at the beginning of a line of its own.
            for (number, line) in code(file) {
                let listed = line.strip_prefix("    ").filter(|line| !line.starts_with(' '));
                for module in *forbidden {
                    let path = format!("crate::{module}");
                    let item = listed.is_some_and(|item| item.starts_with(&format!("{module}::")))
                        && !line.contains('(')
                        && !line.contains('=');
                    // The key ring's error is told to whoever reads a sealed ticket.
                    let tickets_seal = file.path.starts_with("src/tickets/") && *module == "vault";
                    if (names(line, &path) || item) && !tickets_seal {
                        broken
                            .push(format!("{}:{number} names {path}: arrows point to the domain", file.path));
                    }
                }
            }
        }
    }
    for file in files.iter().filter(|file| file.path.starts_with("src/domain/")) {
        for (number, line) in code(file) {
            for word in
                ["async fn", "async move", ".await", "tokio::", "Instant::now", "std::fs", "std::net::Tcp"]
            {
                if line.contains(word) {
                    broken.push(format!(
                        "{}:{number} has {word}: the domain decides, it does not do",
                        file.path
                    ));
                }
            }
        }
    }
    report(&broken);
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut broken = Vec::new();
    for file in tree() {
        let source = [".rs", ".py", ".ts", ".css", ".proto", ".sql", ".lua"]
            .iter()
            .any(|end| file.path.ends_with(end));
        let generated = file.path.starts_with("clients/rust/src/gen/")
            || file.path.starts_with("clients/python/src/usm/")
            || file.text.starts_with("// @generated");
        let lines = file.text.lines().count();
        if source && !generated && lines > LINES_MAX {
            broken.push(format!("{}:{lines} a file over {LINES_MAX} lines is two files", file.path));
        }
        if is_production(&file.path) && !file.text.starts_with("//!") {
            broken.push(format!(
                "{}:1 begins without `//!`: say its purpose and what it must not know",
                file.path
            ));
        }
    }
    report(&broken);
}

#[test]
fn nothing_is_left_lying_about() {
    let mut broken = Vec::new();
    for file in tree() {
        for (at, line) in file.text.lines().enumerate() {
            for (word, why) in NOWHERE.iter().filter(|(word, _)| line.contains(word)) {
                broken.push(format!("{}:{} has {word}: {why}", file.path, at + 1));
            }
        }
    }
    report(&broken);
}

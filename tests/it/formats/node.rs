//! The Node that tests run, and the packages for it.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// Whether the foreign libraries of Node are to be met: `USM_TEST_NODE=none` says that there is no Node here, which the
/// test runner reports.
pub(crate) fn is_wanted() -> bool {
    std::env::var("USM_TEST_NODE").as_deref() != Ok("none")
}

/// Runs a script of `tests/formats/node` beside its packages and reads the JSON it prints.
pub(crate) fn run(script: &str, arguments: &[&OsStr]) -> serde_json::Value {
    let home = home();
    let output =
        Command::new("node").arg(home.join(script)).args(arguments).output().unwrap_or_else(|error| {
            panic!("cannot run node: {error}; install Node 20, or set USM_TEST_NODE=none to go without")
        });
    assert!(output.status.success(), "{script} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The scripts, with their packages, installed on first use and kept among the build's temporary files.
fn home() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/node");
    let wanted = fs::read(source.join("package.json")).unwrap();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("formats-node");
    if fs::read(home.join("ready")).ok().as_ref() != Some(&wanted) {
        fs::create_dir_all(&home).unwrap();
        fs::copy(source.join("package.json"), home.join("package.json")).unwrap();
        // Without scripts: what they would build is a database that nobody opens here.
        let arguments = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        let output = Command::new("npm").args(arguments).arg(&home).output().unwrap_or_else(|error| {
            panic!("cannot run npm: {error}; install Node 20, or set USM_TEST_NODE=none to go without")
        });
        assert!(
            output.status.success(),
            "the packages cannot be installed; these tests need them:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(home.join("ready"), wanted).unwrap();
    }
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, home.join(path.file_name().unwrap())).unwrap();
    }
    home
}

//! The Python that tests run, and the releases of foreign libraries for it.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

/// `USM_TEST_PYTHON`, by default the system's.
pub(crate) fn program() -> String {
    std::env::var("USM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn command(script: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/python").join(script));
    command
}

/// Runs a script of `tests/formats/python` and reads the JSON it prints.
pub(crate) fn run(script: &str, arguments: &[&OsStr]) -> serde_json::Value {
    let output = command(script).args(arguments).output().unwrap_or_else(|error| {
        panic!("cannot run {}: {error}; install Python 3 or set USM_TEST_PYTHON", program())
    });
    assert!(output.status.success(), "{script} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with one Telethon release.
pub(crate) fn telethon(release: &str) -> PathBuf {
    package("telethon", release)
}

/// A folder with one release of a package and what it needs, installed on first use and kept among the build's
/// temporary files.
pub(crate) fn package(name: &str, release: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = base.join(format!("{name}-{release}"));
    if folder.join(name).join("__init__.py").exists() {
        return folder;
    }
    let fresh = base.join(format!("{name}-{release}.{}", std::process::id()));
    let output = Command::new(program())
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
        .arg(&fresh)
        .arg(format!("{name}=={release}"))
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}; set USM_TEST_PYTHON", program()));
    assert!(
        output.status.success(),
        "{name} {release} is not there and cannot be installed for {}; these tests need it:\n{}",
        program(),
        String::from_utf8_lossy(&output.stderr)
    );
    // Another run may have been faster.
    if fs::rename(&fresh, &folder).is_err() {
        fs::remove_dir_all(&fresh).unwrap();
    }
    folder
}

/// A program that keeps a file locked until dropped.
pub(crate) struct Holder(Child);

impl Holder {
    pub(crate) fn of(file: &Path, mode: &str) -> Self {
        let mut child = command("hold.py")
            .arg(file)
            .arg(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

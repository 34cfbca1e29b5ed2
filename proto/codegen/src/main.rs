//! Writes the generated Rust code of the `usm.v1` contract into `clients/rust/src/gen`.
//!
//! A crate of its own: inside the client a broken stub would stop its own generator. Needs no protoc.
//!
//! `cargo run -p usm-codegen` writes; with `--check` it writes nothing and fails when the stubs are stale.

mod contract;
mod debug;
mod rules;
mod stubs;

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("unknown argument {other}; usage: usm-codegen [--check]"),
    };
    let contract = contract::Contract::read(&root().join("proto"))?;
    let broken = rules::broken(&contract);
    if !broken.is_empty() {
        bail!("the contract breaks its rules:\n{}", broken.join("\n"));
    }
    let files = stubs::generate(&contract)?;
    let folder = stubs_folder();
    if check {
        let stale = stubs::stale(&files, &folder)?;
        if !stale.is_empty() {
            bail!("stale: {}; run `cargo run -p usm-codegen`", stale.join(", "));
        }
        return Ok(());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for (name, content) in &files {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where the stubs live.
fn stubs_folder() -> PathBuf {
    root().join("clients/rust/src/gen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_stubs_are_what_the_contract_generates() -> anyhow::Result<()> {
        let contract = contract::Contract::read(&root().join("proto"))?;
        let files = stubs::generate(&contract)?;
        let stale = stubs::stale(&files, &stubs_folder())?;
        assert!(stale.is_empty(), "stale: {stale:?}; run `cargo run -p usm-codegen`");
        Ok(())
    }

    #[test]
    fn the_contract_keeps_its_own_rules() -> anyhow::Result<()> {
        let contract = contract::Contract::read(&root().join("proto"))?;
        let broken = rules::broken(&contract);
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        Ok(())
    }
}

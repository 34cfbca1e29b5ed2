//! Turns the contract into the files of `clients/rust/src/gen`.

use crate::{
    contract::{Contract, is_secret},
    debug,
};
use anyhow::Context;
use std::{collections::BTreeMap, path::Path};

/// Generated files: name to content.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Generates all files.
pub(crate) fn generate(contract: &Contract) -> anyhow::Result<Files> {
    let folder = Scratch::make()?;
    let mut builder = tonic_prost_build::configure()
        .out_dir(&folder.0)
        .btree_map(".")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .emit_rerun_if_changed(false);
    for message in contract.messages() {
        if message.fields().any(|field| is_secret(&field)) {
            builder = builder.skip_debug([format!(".{}", message.full_name())]);
            // The line above silences the message's oneofs too, which hold no secrets of their own.
            for oneof in message.oneofs() {
                builder = builder.type_attribute(format!(".{}", oneof.full_name()), "#[derive(Debug)]");
            }
        }
    }
    builder.compile_fds(contract.files.clone()).context("generate the stubs")?;
    let mut files = Files::new();
    for entry in std::fs::read_dir(&folder.0).context("list the generated stubs")? {
        let path = entry.context("list the generated stubs")?.path();
        let name = path.file_name().context("a generated file has a name")?.to_string_lossy().into_owned();
        files.insert(name, std::fs::read(&path).context("read a generated stub")?);
    }
    files.insert("debug.rs".to_owned(), debug::generate(contract)?.into_bytes());
    files.insert("descriptor.bin".to_owned(), contract.reflection_set()?);
    Ok(files)
}

/// Names of the files in `folder` that differ from the generated ones, are missing or are there in excess.
pub(crate) fn stale(files: &Files, folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut stale = Vec::new();
    for (name, content) in files {
        if std::fs::read(folder.join(name)).ok().as_ref() != Some(content) {
            stale.push(name.clone());
        }
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let name = entry.context("list the stubs")?.file_name().to_string_lossy().into_owned();
        if !files.contains_key(&name) {
            stale.push(name);
        }
    }
    Ok(stale)
}

/// A temporary folder, removed when dropped. The generator writes files and nothing else.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("usm-codegen-{}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("empty {}", path.display()))?;
        }
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to do about a folder that cannot be removed: it holds no secrets.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

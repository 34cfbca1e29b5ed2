//! Reads the contract: descriptors with comments, and which fields are secret. Knows nothing of Rust code.

use anyhow::Context;
use prost::Message;
use prost_types::{FileDescriptorSet, SourceCodeInfo};
use protox::prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use std::path::{Path, PathBuf};

/// Package of the contract.
pub(crate) const PACKAGE: &str = "usm.v1";

/// The compiled contract.
pub(crate) struct Contract {
    /// All files, imports included, with comments.
    pub(crate) files: FileDescriptorSet,
    /// The same as bytes, with the options that the typed form does not know.
    encoded: Vec<u8>,
    pool: DescriptorPool,
}

impl Contract {
    /// Compiles every file of the package below `folder`.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut compiler = protox::Compiler::new([folder]).context("open the folder of the contract")?;
        compiler.include_imports(true).include_source_info(true);
        compiler.open_files(sources(folder)?).context("compile the contract")?;
        Ok(Self {
            files: compiler.file_descriptor_set(),
            encoded: compiler.encode_file_descriptor_set(),
            pool: compiler.descriptor_pool(),
        })
    }

    /// Messages of the package, nested ones included, map entries left out, ordered by full name.
    pub(crate) fn messages(&self) -> Vec<MessageDescriptor> {
        let mut messages: Vec<_> = self
            .pool
            .all_messages()
            .filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
            .collect();
        messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
        messages
    }

    /// The pool with all descriptors.
    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The descriptor set for reflection: the comments of the contract stay, since tools show them; positions without a
    /// comment and the source information of imports go, since nothing reads them.
    pub(crate) fn reflection_set(&self) -> anyhow::Result<Vec<u8>> {
        let kind = DescriptorPool::global()
            .get_message_by_name("google.protobuf.FileDescriptorSet")
            .context("find the descriptor of descriptor sets")?;
        let mut set =
            DynamicMessage::decode(kind, self.encoded.as_slice()).context("decode the descriptor set")?;
        let files =
            set.get_field_by_name_mut("file").and_then(Value::as_list_mut).context("find the files")?;
        for file in files.iter_mut().filter_map(Value::as_message_mut) {
            let ours = file.get_field_by_name("package").is_some_and(|name| name.as_str() == Some(PACKAGE));
            if !ours {
                file.clear_field_by_name("source_code_info");
                continue;
            }
            let info = file.get_field_by_name_mut("source_code_info").and_then(Value::as_message_mut);
            let places =
                info.and_then(|info| info.get_field_by_name_mut("location")).and_then(Value::as_list_mut);
            if let Some(places) = places {
                places.retain(|place| {
                    place.as_message().is_some_and(|it| it.has_field_by_name("leading_comments"))
                });
            }
        }
        Ok(set.encode_to_vec())
    }
}

/// Whether a field must not show up in debug output: it carries the option `debug_redact`.
pub(crate) fn is_secret(field: &protox::prost_reflect::FieldDescriptor) -> bool {
    let options = field.options();
    options
        .descriptor()
        .get_field_by_name("debug_redact")
        .is_some_and(|option| options.get_field(&option).as_bool().unwrap_or_default())
}

/// Comment before the element at `path`, trimmed; empty if there is none.
pub(crate) fn comment<'a>(info: &'a SourceCodeInfo, path: &[i32]) -> &'a str {
    info.location.iter().find(|place| place.path == path).map_or("", |place| place.leading_comments().trim())
}

fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = folder.join(PACKAGE.replace('.', "/"));
    let entries = std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

//! Printing: tables for people, JSON for programs.
#![allow(clippy::print_stdout, reason = "this is where commands print")]

use std::{io::IsTerminal as _, sync::LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// One JSON document, or one line per step of something followed live.
    Json,
}

static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(usm_client::proto::FILE_DESCRIPTOR_SET)
        .expect("the descriptor is part of this program")
});

/// The message as JSON, by the contract's own field names; `name` is its name within `usm.v1`.
///
/// # Errors
/// When the contract knows no such message.
pub(super) fn json(name: &str, message: &impl prost::Message) -> Result<Value, Failure> {
    let descriptor = CONTRACT
        .get_message_by_name(&format!("usm.v1.{name}"))
        .ok_or_else(|| Failure::Failed(format!("the contract has no message {name}")))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// One JSON document.
pub(super) fn print_document(value: &Value) {
    println!("{value:#}");
}

/// One line of JSON in a stream of them.
pub(super) fn print_line(value: &Value) {
    println!("{value}");
}

pub(super) fn print_text(text: impl std::fmt::Display) {
    println!("{text}");
}

/// Text that people see beside the data; never mixed into what programs read.
#[allow(clippy::print_stderr, reason = "this is where commands speak beside their data")]
pub(super) fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// A table with aligned columns.
pub(super) fn print_table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    println!("{}", line(header.to_vec()));
    for row in rows {
        println!("{}", line(row.iter().map(String::as_str).collect()));
    }
}

/// Names and values, one to a line; empty values are left out.
pub(super) fn print_facts(facts: &[(&str, String)]) {
    let shown: Vec<_> = facts.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in shown {
        println!("{name:<width$}  {value}");
    }
}

/// Whether somebody watches.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// The text as a QR code of half blocks, dark on light as scanners like it.
pub(super) fn qr(text: &str) -> Result<String, Failure> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L)?;
    Ok(code
        .render::<qrcode::render::unicode::Dense1x2>()
        .dark_color(qrcode::render::unicode::Dense1x2::Light)
        .light_color(qrcode::render::unicode::Dense1x2::Dark)
        .build())
}

/// A timestamp as people read it, in UTC.
pub(super) fn time(at: Option<&prost_types::Timestamp>) -> String {
    at.map(ToString::to_string).unwrap_or_default()
}

/// A span in seconds.
pub(super) fn span(span: Option<&prost_types::Duration>) -> String {
    span.map(|span| format!("{}s", span.seconds)).unwrap_or_default()
}

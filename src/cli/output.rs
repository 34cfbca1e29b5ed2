//! Printing: tables for people, JSON for programs.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    sync::{LazyLock, Mutex, PoisonError},
};

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

/// Black on bright white, in colours that themes leave alone: scanners want it so on dark and light terminals alike.
const QR_COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const COLOURS_OFF: &str = "\x1b[0m";

static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(usm_client::proto::FILE_DESCRIPTOR_SET)
        .expect("the descriptor is part of this program")
});

/// The first failure to print. A command goes on without its reader: what it does must not stop halfway.
static UNPRINTED: Mutex<Option<io::Error>> = Mutex::new(None);

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
    print_text(format_args!("{value:#}"));
}

/// One line of JSON in a stream of them.
pub(super) fn print_line(value: &Value) {
    print_text(value);
}

pub(super) fn print_text(text: impl Display) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Takes back as many lines of a terminal.
pub(super) fn erase(lines: usize) {
    if lines > 0 {
        let mut out = io::stdout().lock();
        // A terminal that went away is noticed by what is printed next.
        let _ = write!(out, "\x1b[{lines}A\x1b[J");
    }
}

/// Whether everything that was to be printed was. A reader that had enough is no failure.
///
/// # Errors
/// What kept the output from its place, such as a full disk.
pub(super) fn printed() -> Result<(), Failure> {
    match UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("the output could not be written: {error}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Text that people see beside the data; never mixed into what programs read.
pub(super) fn note(text: impl Display) {
    // Nobody is left to be told that this failed.
    let _ = writeln!(io::stderr().lock(), "{text}");
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
    print_text(line(header.to_vec()));
    for row in rows {
        let row: Vec<_> = row.iter().map(|cell| harmless(cell)).collect();
        print_text(line(row.iter().map(String::as_str).collect()));
    }
}

/// Names and values, one to a line; empty values are left out.
pub(super) fn print_facts(facts: &[(&str, String)]) {
    let shown: Vec<_> = facts.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in shown {
        print_text(format_args!("{name:<width$}  {}", harmless(value)));
    }
}

/// Text that others wrote, such as an account's name or hint, without what a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Whether somebody watches.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The text as a QR code of half blocks: in colours of its own on a terminal, elsewhere so that it is right on a
/// dark background.
///
/// # Errors
/// When the text is too long for a code.
pub(super) fn qr(text: &str) -> Result<String, Failure> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L)?;
    if !is_terminal() {
        return Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build());
    }
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build();
    let lines: Vec<_> = picture.lines().map(|line| format!("{QR_COLOURS}{line}{COLOURS_OFF}")).collect();
    Ok(lines.join("\n"))
}

/// A timestamp as people read it, in UTC.
pub(super) fn time(at: Option<&prost_types::Timestamp>) -> String {
    at.map(ToString::to_string).unwrap_or_default()
}

/// A span in seconds.
pub(super) fn span(span: Option<&prost_types::Duration>) -> String {
    span.map(|span| format!("{}s", span.seconds)).unwrap_or_default()
}

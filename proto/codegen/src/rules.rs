//! The rules every element of the contract keeps, checked on the descriptors: comments, shapes, secrets and the names
//! that comments refer to.

use crate::contract::{Contract, PACKAGE, comment, is_secret};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
    SourceCodeInfo,
};
use protox::prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use std::collections::BTreeSet;

/// Methods that change nothing start with one of these; all others need a `request_id`.
const READING: [&str; 3] = ["Get", "List", "Watch"];
/// Names of string and bytes fields that always hold a secret, or what comes close to one.
const SECRET_NAMES: [&str; 14] = [
    "auth_key",
    "bot_token",
    "code",
    "data",
    "lease_id",
    "passcode",
    "password",
    "phone_number",
    "qr_png",
    "qr_url",
    "secret",
    "ticket",
    "token",
    "api_hash",
];
/// `ErrorReason` in the comments of methods comes after this word.
const ERRORS: &str = "Errors:";

/// Every rule that the contract breaks, one line each; empty if none.
pub(crate) fn broken(contract: &Contract) -> Vec<String> {
    let mut broken = Vec::new();
    let reasons = reasons(contract);
    for file in contract.files.file.iter().filter(|file| file.package() == PACKAGE) {
        check_file(file, &reasons, &mut broken);
    }
    for message in contract.messages() {
        for field in message.fields() {
            check_secret(&field, &mut broken);
        }
    }
    for service in contract.pool().services().filter(|service| service.package_name() == PACKAGE) {
        for method in service.methods() {
            check_shape(&method, &mut broken);
        }
    }
    broken
}

/// Reasons without their prefix.
fn reasons(contract: &Contract) -> BTreeSet<String> {
    let reasons = contract.pool().get_enum_by_name("usm.v1.ErrorReason");
    let values = reasons
        .iter()
        .flat_map(|reasons| reasons.values().map(|it| it.name().to_owned()).collect::<Vec<_>>());
    values.map(|name| name.trim_start_matches("ERROR_REASON_").to_owned()).collect()
}

fn check_file(file: &FileDescriptorProto, reasons: &BTreeSet<String>, broken: &mut Vec<String>) {
    let Some(info) = &file.source_code_info else {
        broken.push(format!("{}: no source information", file.name()));
        return;
    };
    for (index, message) in (0..).zip(&file.message_type) {
        check_message(info, &[4, index], message, broken);
    }
    for (index, kind) in (0..).zip(&file.enum_type) {
        check_enum(info, &[5, index], kind, broken);
    }
    for (index, service) in (0..).zip(&file.service) {
        check_service(info, &[6, index], service, reasons, broken);
    }
}

fn check_message(info: &SourceCodeInfo, path: &[i32], message: &DescriptorProto, broken: &mut Vec<String>) {
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    need_comment(info, path, message.name(), broken);
    for (index, field) in (0..).zip(&message.field) {
        need_comment(
            info,
            &[path, &[2, index]].concat(),
            &format!("{}.{}", message.name(), field.name()),
            broken,
        );
    }
    for (index, oneof) in (0..).zip(&message.oneof_decl) {
        need_comment(
            info,
            &[path, &[8, index]].concat(),
            &format!("{}.{}", message.name(), oneof.name()),
            broken,
        );
    }
    for (index, nested) in (0..).zip(&message.nested_type) {
        check_message(info, &[path, &[3, index]].concat(), nested, broken);
    }
    for (index, nested) in (0..).zip(&message.enum_type) {
        check_enum(info, &[path, &[4, index]].concat(), nested, broken);
    }
}

fn check_enum(info: &SourceCodeInfo, path: &[i32], kind: &EnumDescriptorProto, broken: &mut Vec<String>) {
    need_comment(info, path, kind.name(), broken);
    for (index, value) in (0..).zip(&kind.value) {
        let path = [path, &[2, index]].concat();
        need_comment(info, &path, value.name(), broken);
        let starts_with_code =
            || comment(info, &path).strip_prefix('`').is_some_and(|text| text.contains("`. "));
        if kind.name() == "ErrorReason" && value.number() != 0 && !starts_with_code() {
            broken.push(format!("{}: the comment does not start with the gRPC code", value.name()));
        }
    }
}

fn check_service(
    info: &SourceCodeInfo,
    path: &[i32],
    service: &ServiceDescriptorProto,
    reasons: &BTreeSet<String>,
    broken: &mut Vec<String>,
) {
    need_comment(info, path, service.name(), broken);
    for (index, method) in (0..).zip(&service.method) {
        let path = [path, &[2, index]].concat();
        need_comment(info, &path, method.name(), broken);
        check_method_comment(method, comment(info, &path), reasons, broken);
    }
}

fn check_method_comment(
    method: &MethodDescriptorProto,
    comment: &str,
    reasons: &BTreeSet<String>,
    broken: &mut Vec<String>,
) {
    let name = method.name();
    let Some((before, errors)) = comment.split_once(ERRORS) else {
        broken.push(format!("{name}: the comment does not tell the errors"));
        return;
    };
    let before = before.split_whitespace().collect::<Vec<_>>().join(" ");
    if !before.contains("Scope `") && !before.contains("Any valid token") {
        broken.push(format!("{name}: the comment does not tell who may call"));
    }
    let quoted = errors.split('`').skip(1).step_by(2);
    for reason in quoted.filter(|text| text.chars().all(|c| c.is_ascii_uppercase() || c == '_')) {
        if !reasons.contains(reason) {
            broken.push(format!("{name}: the comment names {reason}, which is no ErrorReason"));
        }
    }
}

fn need_comment(info: &SourceCodeInfo, path: &[i32], name: &str, broken: &mut Vec<String>) {
    if comment(info, path).is_empty() {
        broken.push(format!("{name}: no comment"));
    }
}

/// A field whose name says that it holds a secret is marked as one.
fn check_secret(field: &FieldDescriptor, broken: &mut Vec<String>) {
    let text = matches!(field.kind(), Kind::String | Kind::Bytes);
    if text && SECRET_NAMES.contains(&field.name()) && !is_secret(field) {
        broken.push(format!("{}: not marked debug_redact", field.full_name()));
    }
}

fn check_shape(method: &MethodDescriptor, broken: &mut Vec<String>) {
    let (name, input, output) = (method.name(), method.input(), method.output());
    let resource = output.get_field(1);
    if !resource.is_some_and(|field| matches!(field.kind(), Kind::Message(_))) {
        broken.push(format!("{name}: field 1 of the response is not its resource"));
    }
    let reads = READING.iter().any(|verb| name.starts_with(verb));
    if !reads && !method.is_client_streaming() {
        need_field(&input, "request_id", Kind::String, broken);
    }
    if name.starts_with("List") {
        need_field(&input, "page_size", Kind::Int32, broken);
        need_field(&input, "page_token", Kind::String, broken);
        need_field(&output, "next_page_token", Kind::String, broken);
    }
    if name.starts_with("Update") && input.get_field_by_name("update_mask").is_none() {
        broken.push(format!("{}: no update_mask", input.full_name()));
    }
}

fn need_field(message: &MessageDescriptor, name: &str, kind: Kind, broken: &mut Vec<String>) {
    if message.get_field_by_name(name).is_none_or(|field| field.kind() != kind) {
        broken.push(format!("{}: no field {name} of kind {kind:?}", message.full_name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a contract of one file.
    fn broken_in(source: &str) -> anyhow::Result<Vec<String>> {
        let folder = std::env::temp_dir().join(format!("usm-rules-{}-{:p}", std::process::id(), source));
        std::fs::create_dir_all(folder.join("usm/v1"))?;
        let source = format!("syntax = \"proto3\";\npackage usm.v1;\n{source}");
        std::fs::write(folder.join("usm/v1/probe.proto"), source)?;
        let contract = Contract::read(&folder)?;
        std::fs::remove_dir_all(&folder)?;
        Ok(broken(&contract))
    }

    #[test]
    fn an_element_without_comment_is_found() -> anyhow::Result<()> {
        let broken =
            broken_in("// M.\nmessage M { oneof o { string a = 1; } }\nenum E { E_UNSPECIFIED = 0; }\n")?;
        assert_eq!(
            broken,
            ["M.a: no comment", "M.o: no comment", "E: no comment", "E_UNSPECIFIED: no comment"]
        );
        Ok(())
    }

    #[test]
    fn a_secret_without_its_mark_is_found() -> anyhow::Result<()> {
        let broken = broken_in("// M.\nmessage M {\n  // P.\n  string password = 1;\n}\n")?;
        assert_eq!(broken, ["usm.v1.M.password: not marked debug_redact"]);
        Ok(())
    }

    #[test]
    fn a_method_of_the_wrong_shape_is_found() -> anyhow::Result<()> {
        let broken = broken_in(
            "// S.\nservice S {\n  // Does. Scope `x`.\n  // Errors: `NO_SUCH_REASON`.\n  rpc ListIt(Q) returns (A);\n}\n\
             // Q.\nmessage Q {}\n// A.\nmessage A {}\n",
        )?;
        assert_eq!(
            broken,
            [
                "ListIt: the comment names NO_SUCH_REASON, which is no ErrorReason",
                "ListIt: field 1 of the response is not its resource",
                "usm.v1.Q: no field page_size of kind int32",
                "usm.v1.Q: no field page_token of kind string",
                "usm.v1.A: no field next_page_token of kind string",
            ]
        );
        Ok(())
    }
}

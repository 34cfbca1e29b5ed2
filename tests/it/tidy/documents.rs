//! Documents that must not fall behind the code: tables are the code's own, links lead somewhere.

use std::{collections::BTreeSet, fmt::Write as _};

use usm::{
    config::SETTINGS,
    domain::error::Reason,
    grpc::policy::{self, Serving},
    telemetry::metrics,
};

use super::{read, report, root, tree};

/// The part of a document between `<!-- name -->` and `<!-- /name -->`.
fn part<'a>(document: &'a str, name: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("<!-- {name} -->\n")).expect("the part begins");
    rest.split_once(&format!("<!-- /{name} -->")).expect("the part ends").0
}

fn must_be(path: &str, name: &str, wanted: &str) {
    let document = read(path);
    assert!(
        part(&document, name) == wanted,
        "{path}: between the marks of `{name}` there must be\n\n{wanted}"
    );
}

#[test]
fn the_configuration_reference_is_the_table_of_settings() {
    let mut table =
        "| variable | flag | TOML key | default | meaning |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for setting in SETTINGS {
        let default = match setting.default {
            None | Some("") => "–".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        writeln!(
            table,
            "| `{}` | `--{}` | `{}` | {default} | {} |",
            setting.env,
            setting.name,
            setting.toml,
            setting.help.replace('|', "\\|").replace('<', "&lt;").replace("[[", "\\[[")
        )
        .expect("a string takes everything");
    }
    must_be("docs/configuration.md", "settings", &table);
}

/// The words of the contract about a reason: its code, what it means, and what to do if there is anything to do.
fn told(contract: &str, reason: &str) -> (String, String, String) {
    let line = format!("  ERROR_REASON_{reason} = ");
    let above = contract.split(&line).next().expect("before it");
    let comment: Vec<_> =
        above.lines().rev().map_while(|line| line.trim().strip_prefix("// ")).collect::<Vec<_>>();
    let comment = comment.into_iter().rev().collect::<Vec<_>>().join(" ");
    let (code, rest) = comment.split_once(". ").unwrap_or_else(|| panic!("{reason}: no code in its comment"));
    match rest.split_once(". ") {
        Some((meaning, way_out)) => (code.to_owned(), format!("{meaning}."), way_out.to_owned()),
        None => (code.to_owned(), rest.to_owned(), "–".to_owned()),
    }
}

#[test]
fn the_error_reference_is_the_contracts() {
    let contract = read("proto/usm/v1/error.proto");
    let mut table = "| reason | code | meaning | way out |\n| --- | --- | --- | --- |\n".to_owned();
    for reason in Reason::ALL {
        let (code, meaning, way_out) = told(&contract, reason.name());
        writeln!(table, "| `{}` | {code} | {meaning} | {way_out} |", reason.name()).expect("a string");
    }
    must_be("docs/errors.md", "reasons", &table);
}

#[test]
fn the_metrics_reference_is_the_table_of_metrics() {
    let mut table = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for metric in metrics::ALL {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let labels = if labels.is_empty() { "–" } else { &labels };
        writeln!(table, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help).expect("a string");
    }
    must_be("docs/operations.md", "metrics", &table);
}

#[test]
fn the_readme_names_every_method_that_is_not_served_yet() {
    let readme = read("README.md");
    let named: BTreeSet<_> = part(&readme, "unimplemented").split('`').skip(1).step_by(2).collect();
    let later: BTreeSet<_> = policy::TABLE
        .iter()
        .filter(|row| row.serving == Serving::Later)
        .filter_map(|row| row.method().rsplit('/').next())
        .collect();
    assert_eq!(named, later);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in tree().iter().filter(|file| file.path.ends_with(".md")) {
        let folder = root().join(&file.path).parent().expect("a folder").to_owned();
        for (at, line) in file.text.lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split('#').next().unwrap_or_default();
                if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                    broken.push(format!("{}:{} links to {target}, which is not there", file.path, at + 1));
                }
            }
        }
    }
    report(&broken);
}

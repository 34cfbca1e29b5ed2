//! What the program says about itself, and its exit codes.

use super::program::Usm;

/// The names under «Commands:» in a help text.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_ascii_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

fn check(usm: &Usm, path: &[String]) -> usize {
    let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
    args.push("--help");
    let help = usm.run(&args).done().out;
    assert!(help.contains("Example"), "usm {args:?} shows no example:\n{help}");
    assert!(help.contains("Usage: usm"), "{help}");
    let below = commands(&help).into_iter().map(|name| {
        let mut path = path.to_vec();
        path.push(name);
        check(usm, &path)
    });
    1 + below.sum::<usize>()
}

#[test]
fn every_command_has_help_with_an_example() {
    let checked = check(&Usm::new(), &[]);
    assert!(checked > 35, "only {checked} commands were found");
}

#[test]
fn wrong_usage_ends_with_2_and_failure_with_1() {
    let usm = Usm::new();
    usm.run(&[]).misused("Usage: usm");
    usm.run(&["frobnicate"]).misused("unrecognized subcommand");
    usm.run(&["session", "status", "--tenant-id", "acme"]).misused("--app-id");
    usm.run(&["session", "list", "--state", "asleep"]).misused("no state is called asleep");
    usm.run(&["session", "list", "--server", "nowhere"]).misused("--server must be a URL");
    usm.run(&["session", "list", "--server", "http://127.0.0.1:1"]).failed("no service answers at");
    usm.run(&["lease", "renew", "--epoch", "1"]).misused("USM_LEASE_ID");
    usm.run(&["serve", "--listen", "everywhere"]).misused("--listen");
    usm.run(&["--version"]).done();
}

#[test]
fn whoever_reads_only_the_beginning_ends_nothing_in_panic() {
    use std::process::{Command, Stdio};
    for args in [&["config", "print"][..], &["completions", "bash"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_usm"))
            .args(args)
            .env_clear()
            .env("HOME", "/nonexistent")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn output_that_has_no_place_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_usm"))
        .args(["config", "print"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not be written"));
}

#[test]
fn completions_are_printed_for_each_shell() {
    let usm = Usm::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(usm.run(&["completions", shell]).done().out.contains("quickstart"), "{shell}");
    }
}

//! The whole job in one command.

use super::program::Usm;

#[test]
fn the_quickstart_tells_every_step_and_leaves_nothing_behind() {
    // Whatever the environment says of other servers is none of its business.
    let usm =
        Usm::new().with("DATABASE_URL", "postgres://nowhere/x").with("USM_SERVER", "http://127.0.0.1:1");
    let ran = usm.run(&["quickstart"]).done();
    for step in
        ["QR code", "PASSWORD_INVALID", "AUTHORIZED", "get_me", "SESSION_LEASED", "REVOKED", "steps held"]
    {
        assert!(ran.out.contains(step), "«{step}» is missing in {}", ran.out);
    }
    assert_eq!(ran.err, "", "a quickstart has nothing to warn of");
    assert_eq!(std::fs::read_dir(usm.path("tmp")).unwrap().count(), 0, "something was left behind");
    assert!(!usm.path("data").exists() && !usm.path("home").exists());
}

#[test]
fn kept_running_it_tells_how_to_go_on_and_ends_on_a_signal() {
    let usm = Usm::new();
    let mut running = usm.start(&["quickstart", "--keep-running"]);
    let lines = running.lines_until("usm login qr --tenant-id");
    let said = |prefix: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(prefix));
        line.unwrap_or_else(|| panic!("«{prefix}» is missing in {lines:#?}")).to_owned()
    };
    let (server, token) = (said("export USM_SERVER="), said("export USM_TOKEN="));
    assert!(lines.iter().filter(|line| line.starts_with("grpcurl -plaintext")).count() >= 3, "{lines:#?}");
    let usm = usm.with("USM_SERVER", server).with("USM_TOKEN", token);
    let sessions = usm.run(&["session", "list", "--output", "json"]).done().json();
    assert_eq!(sessions[0]["state"], "SESSION_STATE_REVOKED");
    let ran = running.interrupt();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(std::fs::read_dir(usm.path("tmp")).unwrap().count(), 0, "something was left behind");
}

#[test]
fn interrupted_midway_it_says_so_and_cleans_up() {
    let usm = Usm::new();
    let mut running = usm.start(&["quickstart"]);
    running.lines_until("[ 1]");
    running.interrupt().failed("SIGINT");
    assert_eq!(std::fs::read_dir(usm.path("tmp")).unwrap().count(), 0, "something was left behind");
}

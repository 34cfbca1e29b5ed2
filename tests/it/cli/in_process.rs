//! Commands that run the service in their own process.

use serde_json::json;

use super::program::{Service, Usm};

fn on(usm: &Usm, args: &[&str]) -> super::program::Ran {
    usm.run(&[args, &["--database-url", &usm.sqlite()]].concat())
}

fn operator() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    format!("cli:{}", String::from_utf8(output.stdout).unwrap().trim())
}

#[test]
fn an_embedded_database_is_one_processs_at_a_time() {
    let service = Service::start();
    service.import("news", 8001);
    let list = ["session", "list", "--output", "json"];
    on(&service.usm, &list).failed("another process has");

    let usm = service.stop().with("USM_TELEGRAM", "sandbox");
    let sessions = on(&usm, &list).done().json();
    assert_eq!(sessions[0]["app_id"], "news");
    let key = ["--tenant-id", "acme", "--app-id", "news"];
    on(&usm, &[&["custody", "give"][..], &key].concat()).done();
    let events = on(&usm, &[&["session", "events", "--output", "json"][..], &key].concat()).done().json();
    let last = events.as_array().unwrap().last().unwrap();
    assert_eq!(last["actor"], json!(operator()), "{last}");
    on(&usm, &["health"]).done();

    // The server finds everything again, the sandbox's authorizations included.
    let service = Service::of(usm);
    service.about("news", &["custody", "take"]).done();
    service.about("news", &["session", "validate"]).done();
}

#[test]
fn a_database_named_by_the_environment_is_used_unless_a_server_is() {
    let usm = Usm::new().with("USM_TELEGRAM", "sandbox");
    let database = usm.sqlite();
    let usm = usm.with("DATABASE_URL", database);
    assert_eq!(usm.run(&["session", "list", "--output", "json"]).done().json(), json!([]));
    let usm = usm.with("USM_SERVER", "http://127.0.0.1:1");
    usm.run(&["session", "list"]).failed("no service answers");
    on(&usm, &["session", "list"]).done();
    on(&usm, &["session", "list", "--server", "http://127.0.0.1:1"]).misused("cannot be used with");
}

#[test]
fn a_database_of_another_telegram_is_refused() {
    let usm = Service::start().stop();
    on(&usm, &["session", "list"]).failed("sandbox");
}

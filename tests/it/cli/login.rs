//! Signing in from scripts: JSON lines to follow, a password from elsewhere.

use serde_json::{Value, json};

use super::program::{Running, Service};

const PASSWORD: &str = "correct horse";

fn account(service: &Service, id: i64, dc: i32, password: Option<&str>) {
    let account =
        json!({"id": id, "first_name": "Ada", "dc": dc, "password": password, "hint": "a\u{1b}[2Jhint"});
    service.post("/users", &account);
}

fn start(service: &Service, app: &str, more: &[&str]) -> Running {
    service.usm.start(&[&["login", "qr", "--tenant-id", "acme", "--app-id", app], more].concat())
}

/// Steps until the one of that name.
fn until(login: &mut Running, name: &str) -> Value {
    loop {
        let step = login.step();
        for member in ["step", "ticket", "qr_url", "state"] {
            assert!(step[member].is_string(), "{member} is missing in {step}");
        }
        if step["step"] == name {
            return step;
        }
    }
}

#[test]
fn a_login_is_followed_line_by_line_to_its_end() {
    let service = Service::start();
    account(&service, 5001, 1, Some(PASSWORD));
    let mut login = start(&service, "news", &["--output", "json"]);
    let shown = until(&mut login, "qr_shown");
    assert_eq!(shown["state"], "LOGIN_STATE_WAITING_QR_SCAN");
    let ticket = shown["ticket"].as_str().unwrap().to_owned();
    service.post("/scan", &json!({"token": shown["qr_url"], "user_id": 5001}));
    let asked = until(&mut login, "password_needed");
    assert_eq!(asked["state"], "LOGIN_STATE_WAITING_PASSWORD");
    assert_eq!(asked["attempts_left"], 5);

    let submit = ["login", "password", "--ticket", &ticket, "--password-file", "-"];
    let wrong = service.usm.run_with_input(&submit, "hunter2\n").failed("PASSWORD_INVALID");
    assert!(!format!("{wrong:?}").contains("hunter2"));
    let right = service.usm.run_with_input(&submit, &format!("{PASSWORD}\n")).done();
    assert!(!format!("{right:?}").contains(PASSWORD));
    let end = until(&mut login, "authorized");
    assert_eq!(end["telegram_user_id"], 5001);
    login.end().done();

    let again = service.run(&["login", "finalize", "--ticket", &ticket, "--output", "json"]).done().json();
    assert_eq!(again["state"], "LOGIN_STATE_AUTHORIZED");
    let session = service.about("news", &["session", "status", "--output", "json"]).done().json();
    assert_eq!(
        (&session["state"], &session["telegram_user_id"]),
        (&json!("SESSION_STATE_AUTHORIZED"), &json!(5001))
    );
}

#[test]
fn without_a_terminal_a_login_is_told_in_plain_lines() {
    let service = Service::start();
    account(&service, 5002, 2, Some(PASSWORD));
    let mut login = start(&service, "plain", &[]);
    let shown = login.lines_until("qr_url=").pop().unwrap();
    let url = shown.split_once("qr_url=").unwrap().1.to_owned();
    assert!(url.starts_with("tg://login?token="), "{shown}");
    service.post("/scan", &json!({"token": url, "user_id": 5002}));
    let asked = login.lines_until("usm login password --ticket").pop().unwrap();
    assert!(!asked.contains('\u{1b}'), "{asked:?}");
    let ticket = asked.rsplit_once(' ').unwrap().1.to_owned();
    // Nobody to ask here either.
    service.run(&["login", "password", "--ticket", &ticket]).misused("USM_PASSWORD");
    let flag = service.run(&["login", "finalize", "--ticket", &ticket, "--password", PASSWORD]).done();
    assert!(flag.err.contains("warning: --password on the command line"), "{flag:?}");
    login.lines_until("authorized telegram_user_id=5002");
    login.end().done();
}

#[test]
fn a_login_can_be_cancelled_from_elsewhere_and_watched() {
    let service = Service::start();
    let mut login = start(&service, "away", &["--output", "json"]);
    let ticket = until(&mut login, "qr_shown")["ticket"].as_str().unwrap().to_owned();
    let mut watch = service.usm.start(&["login", "watch", "--ticket", &ticket, "--output", "json"]);
    assert_eq!(watch.step()["ticket"], json!(ticket));
    let cancelled = service.run(&["login", "cancel", "--ticket", &ticket, "--output", "json"]).done().json();
    assert_eq!(cancelled["state"], "LOGIN_STATE_CANCELLED");
    until(&mut login, "cancelled");
    login.end().failed("cancelled");
    until(&mut watch, "cancelled");
    watch.end().failed("cancelled");
    service.run(&["login", "finalize", "--ticket", &ticket]).failed("cancelled");
    service.run(&["login", "finalize", "--ticket", "no-such-ticket"]).failed("TICKET_NOT_FOUND");
}

#[test]
fn an_account_that_was_not_expected_is_refused() {
    let service = Service::start();
    account(&service, 5004, 2, None);
    let mut login = start(&service, "pinned", &["--expected-telegram-user-id", "5999", "--output", "json"]);
    let shown = until(&mut login, "qr_shown");
    service.post("/scan", &json!({"token": shown["qr_url"], "user_id": 5004}));
    let failed = until(&mut login, "failed");
    assert_eq!(failed["reason"], "ACCOUNT_MISMATCH");
    login.end().failed("ACCOUNT_MISMATCH");
}

#[test]
fn a_phone_login_is_answered_from_a_script() {
    let service = Service::start();
    let account = json!({"id": 5005, "first_name": "Ada", "dc": 2, "phone": "9996625005"});
    service.post("/users", &account);
    let mut login = service.usm.start(&[
        "login",
        "phone",
        "--tenant-id",
        "acme",
        "--app-id",
        "phoned",
        "--phone",
        "+999 66 25005",
        "--output",
        "json",
    ]);
    let sent = until(&mut login, "code_sent");
    assert_eq!((&sent["state"], &sent["code_sent_by"]), (&json!("LOGIN_STATE_WAITING_CODE"), &json!("app")));
    let ticket = sent["ticket"].as_str().unwrap().to_owned();
    service.run(&["login", "code", "--ticket", &ticket, "--resend"]).failed("RESEND_UNAVAILABLE");
    let code = service.get("/codes")[0]["code"].as_str().unwrap().to_owned();
    let wrong = if code == "00000" { "11111\n" } else { "00000\n" };
    let submit = ["login", "code", "--ticket", &ticket, "--code-file", "-"];
    service.usm.run_with_input(&submit, wrong).failed("CODE_INVALID");
    let right = service.usm.run_with_input(&submit, &format!("{code}\n")).done();
    assert!(right.out.contains("AUTHORIZED"), "{}", right.out);
    until(&mut login, "authorized");
    login.end().done();
}

#[test]
fn a_bot_signs_in_by_one_command() {
    const TOKEN: &str = "77:AAbot-token_of-the-tests";
    let service = Service::start();
    let robot = json!({"id": 77, "first_name": "Robot", "dc": 2, "is_bot": true, "bot_token": TOKEN});
    service.post("/users", &robot);
    let bot = ["login", "bot", "--tenant-id", "acme", "--app-id", "robot", "--bot-token-file", "-"];
    let done = service.usm.run_with_input(&bot, &format!("{TOKEN}\n")).done();
    assert!(done.out.contains("AUTHORIZED") && !format!("{done:?}").contains(TOKEN), "{done:?}");
    let unknown = service.usm.run_with_input(&bot, "78:AAanother\n").failed("BOT_TOKEN_INVALID");
    assert!(!format!("{unknown:?}").contains("AAanother"));
}

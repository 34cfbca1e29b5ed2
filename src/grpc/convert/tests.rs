use std::{collections::BTreeMap, time::Duration};

use usm_client::v1;

use super::*;
use crate::{
    app::leases::Handout,
    domain::{
        event::Kind,
        id::{Holder, LeaseId, SessionKey, Ticket},
        lease::{Drain, Ended, Lease, LeaseView, Purpose},
        login::{Failure, Login, Method, QrToken, State},
        material::{Device, Format},
        secret::Secret,
        session::{Custody, Environment, LogOut, RevokedReason, Session, StateName},
    },
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);

fn key() -> SessionKey {
    SessionKey::parse("acme", "bot").expect("sound")
}

fn a_session() -> Session {
    Session::new(key(), Custody::Service, Environment::new("sandbox"), NOW)
}

fn view(remaining: u64, evicted: bool) -> LeaseView {
    LeaseView {
        holder: "worker-7".to_owned(),
        epoch: 4,
        acquire_time: NOW,
        expire_time: NOW + Duration::from_secs(90),
        remaining: Duration::from_secs(remaining),
        free_in: Duration::from_secs(remaining + 15),
        purpose: Purpose::Lend,
        drain: evicted.then_some(Drain::Evicted),
    }
}

#[test]
fn names_of_enums_are_the_same_in_domain_and_contract() {
    for name in StateName::ALL {
        let sent = session::state(*name);
        assert_eq!(sent.as_str_name(), format!("SESSION_STATE_{}", name.as_str()));
        assert_eq!(session::states(&[sent.into()]).expect("known"), [*name]);
    }
    for custody in Custody::ALL {
        let sent = session::custody(*custody);
        assert_eq!(sent.as_str_name(), format!("SESSION_CUSTODY_{}", custody.name()));
        assert_eq!(session::custody_filter(sent.into()).expect("known"), Some(*custody));
    }
    for format in Format::ALL {
        let sent = material::format(*format);
        let name = format.name().to_ascii_uppercase().replace('-', "_");
        assert_eq!(sent.as_str_name(), format!("SESSION_FORMAT_{name}"));
        assert_eq!(material::format_given(sent.into()).expect("known"), Some(*format));
    }
    for method in Method::ALL {
        let name = method.name().to_ascii_uppercase();
        assert_eq!(login::method(*method).as_str_name(), format!("LOGIN_METHOD_{name}"));
    }
    for kind in Kind::ALL {
        assert_ne!(session::kind(*kind), v1::SessionEventKind::Unspecified);
    }
}

#[test]
fn numbers_that_name_nothing_are_refused() {
    for number in [-1, 99] {
        assert!(session::states(&[number]).is_err());
        assert!(session::custody_filter(number).is_err());
        assert!(material::format_given(number).is_err());
    }
    assert!(session::states(&[0]).is_err());
    assert_eq!(session::custody_filter(0).expect("any"), None);
    assert_eq!(material::format_given(0).expect("any"), None);
}

#[test]
fn a_session_never_shows_a_lease_id() {
    let mut shown = a_session();
    shown.lease = Some(view(30, false));
    let message = session::session(&shown);
    let lease = message.lease.expect("shown");
    assert_eq!((lease.lease_id.as_str(), lease.holder.as_str(), lease.epoch), ("", "worker-7", 4));
    assert_eq!(lease.ttl, Some(prost_types::Duration { seconds: 30, nanos: 0 }));
    assert_eq!(
        message.create_time,
        Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 })
    );
}

#[test]
fn a_lease_tells_what_it_is_in_the_middle_of() {
    let state = |lease: LeaseView| lease::view(&key(), &lease).state();
    assert_eq!(state(view(30, false)), v1::LeaseState::Held);
    assert_eq!(state(view(30, true)), v1::LeaseState::Draining);
    assert_eq!(state(view(0, false)), v1::LeaseState::Quarantined);
    let ended = Ended { key: key(), epoch: 4, rest: None };
    let released = lease::released(&ended);
    assert_eq!((released.state(), released.epoch), (v1::LeaseState::Released, 4));
}

#[test]
fn only_its_holder_sees_the_id_of_a_lease() {
    let lease = Lease {
        lease_id: LeaseId::from_random([7; 16]),
        key: key(),
        holder: Holder::parse("worker-7").expect("sound"),
        epoch: 4,
        ttl: Duration::from_secs(90),
        acquire_time: NOW,
        renew_after: Duration::from_secs(30),
    };
    let held = lease::held(&lease);
    assert_eq!(held.lease_id, "07".repeat(16));
    assert_eq!(held.renew_after, Some(prost_types::Duration { seconds: 30, nanos: 0 }));
    assert!(!format!("{held:?}").contains("0707"));
}

#[test]
fn a_pending_log_out_is_shown() {
    let mut revoked = a_session();
    revoked.state = crate::domain::session::State::Revoked {
        reason: RevokedReason::ManualRevoke,
        log_out: LogOut::Pending,
    };
    let message = session::session(&revoked);
    assert!(message.log_out_pending);
    assert_eq!(message.state_reason, "manual_revoke");
}

fn a_login(state: State) -> Login {
    Login {
        ticket: Ticket::from_random([9; 32]),
        key: key(),
        method: Method::Qr,
        state,
        create_time: NOW,
        expire_time: NOW + Duration::from_secs(600),
        expected_user: None,
        api_key_alias: "MASTER".to_owned(),
        device: Device::default(),
        subject: "service_role".to_owned(),
        request_id: None,
        migrated_to: None,
        code_delivery: None,
        password_request: None,
        request_hash: None,
        resend_request: None,
        labels: std::collections::BTreeMap::from([("purpose".to_owned(), "news".to_owned())]),
        version: 1,
    }
}

fn qr() -> State {
    State::WaitingQrScan(QrToken {
        url: Secret::new("tg://login?token=AAECAwQF"),
        expire_time: NOW + Duration::from_secs(30),
    })
}

#[test]
fn a_login_shows_its_code_only_while_it_waits_for_a_scan() {
    let shown = login::login(&a_login(qr()), NOW).expect("drawn");
    assert_eq!(shown.qr_url, "tg://login?token=AAECAwQF");
    assert!(shown.qr_png.starts_with(b"\x89PNG"));
    assert!(!format!("{shown:?}").contains("AAECAwQF"));
    let done = login::login(&a_login(State::Authorized { telegram_user_id: 42 }), NOW).expect("sound");
    assert_eq!((done.qr_url.as_str(), done.qr_png.len(), done.telegram_user_id), ("", 0, 42));
}

#[test]
fn a_failed_login_says_why_in_the_words_of_errors() {
    let failure = Failure {
        reason: Reason::AccountMismatch,
        message: "another account".to_owned(),
        retry_after: Some(Duration::from_secs(5)),
    };
    let failed = login::login(&a_login(State::Failed(failure)), NOW).expect("sound").failure.expect("why");
    assert_eq!(failed.reason, "ACCOUNT_MISMATCH");
    assert_eq!(failed.retry_after, Some(prost_types::Duration { seconds: 5, nanos: 0 }));
}

#[test]
fn a_watcher_hears_of_a_migration_once_and_before_the_next_step() {
    use v1::watch_login_response::Step;
    let before = a_login(qr());
    let mut moved = a_login(State::WaitingPassword { hint: None, attempts_left: 5 });
    moved.migrated_to = Some(4);
    let names = |before: Option<&Login>, now: &Login| -> Vec<&'static str> {
        let answers = login::steps(before, now, NOW).expect("sound");
        answers
            .into_iter()
            .map(|answer| match answer.step {
                Some(Step::QrShown(_)) => "qr",
                Some(Step::Migrated(_)) => "migrated",
                Some(Step::PasswordNeeded(_)) => "password",
                Some(_) => "other",
                None => "none",
            })
            .collect()
    };
    assert_eq!(names(None, &before), ["qr"]);
    assert_eq!(names(Some(&before), &moved), ["migrated", "password"]);
    assert_eq!(names(Some(&moved), &moved), ["password"]);
    assert_eq!(names(None, &a_login(State::Starting)), ["none"]);
}

#[test]
fn a_proxy_comes_back_as_it_was_given() {
    let given = v1::Proxy {
        kind: v1::ProxyKind::Socks5.into(),
        host: "2001:db8::1".to_owned(),
        port: 1080,
        username: "us:er".to_owned(),
        password: "p@ss/wörd%".to_owned(),
    };
    let proxy = material::proxy_given(Some(given.clone())).expect("sound");
    assert!(!format!("{proxy:?}").contains("us"));
    let handout = Handout {
        format: Format::Raw,
        data: zeroize::Zeroizing::new(vec![1, 2, 3]),
        api_id: 7,
        device: Device::default(),
        proxy,
        dc_id: 2,
        version: 3,
        environment: crate::domain::session::Environment::new("sandbox"),
    };
    let message = material::handout(handout);
    assert_eq!(message.proxy, Some(given.clone()));
    assert_eq!((message.data.as_slice(), message.api_id), ([1, 2, 3].as_slice(), 7));
    assert_eq!((message.dc_id, message.material_version, message.environment.as_str()), (2, 3, "sandbox"));

    for (broken, field) in [
        (v1::Proxy { kind: v1::ProxyKind::Http.into(), ..given.clone() }, "proxy.kind"),
        (v1::Proxy { host: "a b".to_owned(), ..given.clone() }, "proxy.host"),
        (v1::Proxy { port: 70_000, ..given.clone() }, "proxy.port"),
        (v1::Proxy { password: "x".repeat(300), ..given }, "proxy.username"),
    ] {
        let error = material::proxy_given(Some(broken)).expect_err(field);
        assert_eq!(error.field.map(|(name, _)| name), Some(field));
    }
}

#[test]
fn a_device_keeps_what_is_given_and_fills_the_rest() {
    let given = v1::Device { device_model: "Desk".to_owned(), ..v1::Device::default() };
    let device = material::device_given(Some(given.clone())).expect("sound").expect("given");
    assert_eq!(device, Device { device_model: "Desk".to_owned(), ..Device::default() });
    assert_eq!(material::device_given(None).expect("sound"), None);
    let long = v1::Device { app_version: "x".repeat(65), ..given };
    assert!(material::device_given(Some(long)).is_err());
}

#[test]
fn spans_pages_labels_and_ids_are_bounded() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    assert_eq!(span("ttl", seconds(5)).expect("sound"), Some(Duration::from_secs(5)));
    assert!(span("ttl", seconds(-1)).is_err());
    assert!(span("ttl", Some(prost_types::Duration { seconds: 0, nanos: -1 })).is_err());
    assert!(wait(seconds(601)).is_err());
    assert_eq!(wait(None).expect("none"), Duration::ZERO);
    assert_eq!(page(0, "zz").expect_err("no token").reason, Reason::PageTokenInvalid);
    assert_eq!(page(-1, "").expect_err("negative").reason, Reason::ArgumentInvalid);
    assert_eq!(account("expected_telegram_user_id", 0).expect("any"), None);
    assert!(account("expected_telegram_user_id", -5).is_err());
    assert!(revision("session.revision", -1).is_err());
    let one = |name: &str, value: &str| labels(BTreeMap::from([(name.to_owned(), value.to_owned())]));
    assert!(one("consent.by", "Ann Lee").is_ok());
    assert!(one("Consent", "x").is_err());
    assert!(one("", "x").is_err());
    assert!(one("a", &"x".repeat(257)).is_err());
    assert!(labels((0..65).map(|n| (format!("l{n}"), String::new()))).is_err());
}

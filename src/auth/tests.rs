use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a-secret-of-more-than-32-bytes-for-tests";
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LATER: i64 = 1_800_000_600;

fn authenticator() -> Authenticator {
    let anon = Secret::new("sb_publishable_0123456789");
    let service = Secret::new("sb_secret_0123456789abcdef");
    Authenticator::new(&Secret::new(SECRET), Some(&anon), Some(&service))
}

/// Signs whatever it is given, as an attacker would.
fn token(header: &Value, claims: &str, secret: &str) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn signed(claims: &Value) -> String {
    token(&json!({"alg": "HS256", "typ": "JWT"}), &claims.to_string(), SECRET)
}

fn authenticate(authorization: &str) -> Result<Option<Credential>, Refused> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization.parse().expect("a header"));
    authenticator().authenticate(&headers, NOW)
}

fn credential(claims: &Value) -> Credential {
    authenticate(&format!("Bearer {}", signed(claims))).expect("valid").expect("one")
}

#[test]
fn tokens_of_supabase_work_as_they_are() {
    let legacy =
        credential(&json!({"iss": "supabase", "ref": "x", "role": "service_role", "iat": 1, "exp": LATER}));
    assert_eq!((legacy.role, legacy.subject.as_str()), (Role::ServiceRole, "service_role"));
    assert_eq!(legacy.scopes(), Scope::ALL);

    let user = credential(&json!({
        "iss": "https://ref.supabase.co/auth/v1", "aud": "authenticated", "role": "authenticated", "exp": LATER,
        "sub": "5f0c", "app_metadata": {"tenant_id": "acme", "provider": "email"}, "user_metadata": {"tenant_id": "evil"},
    }));
    assert_eq!(user.tenant.as_ref().map(TenantId::as_str), Some("acme"));
    assert_eq!(user.subject, "user:5f0c");
    assert_eq!(user.scopes(), [Scope::Read, Scope::Login]);

    let anon = credential(&json!({"iss": "supabase", "role": "anon", "exp": LATER}));
    assert_eq!(anon.scopes(), []);
}

#[test]
fn opaque_keys_count_as_their_role() {
    let role = |bearer: &str| authenticate(bearer).map(|found| found.map(|credential| credential.role));
    assert_eq!(role("Bearer sb_secret_0123456789abcdef"), Ok(Some(Role::ServiceRole)));
    assert_eq!(role("bearer sb_publishable_0123456789"), Ok(Some(Role::Anon)));
    assert_eq!(role("Bearer sb_secret_0123456789abcdeg"), Err(Refused::Invalid));
    assert_eq!(role("Bearer sb_secret_0123456789abcde"), Err(Refused::Invalid));
}

#[test]
fn tokens_that_prove_nothing_are_refused() {
    let hs256 = json!({"alg": "HS256"});
    let good = json!({"role": "authenticated", "aud": "authenticated", "exp": LATER, "tenant_id": "acme"});
    assert!(authenticate(&format!("Bearer {}", token(&hs256, &good.to_string(), SECRET))).is_ok());
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        token(&hs256, &claims.to_string(), SECRET)
    };
    let header = |header: Value| token(&header, &good.to_string(), SECRET);
    let unsigned = {
        let signed = header(json!({"alg": "none"}));
        format!("{}.", signed.rsplit_once('.').expect("a signature").0)
    };
    let mut without_exp = good.clone();
    without_exp.as_object_mut().expect("an object").remove("exp");
    let cases: &[(&str, String, Refused)] = &[
        ("expired", with("exp", json!(1_799_999_000)), Refused::Expired),
        ("not yet valid", with("nbf", json!(LATER)), Refused::NotYet),
        ("without expiry", token(&hs256, &without_exp.to_string(), SECRET), Refused::Invalid),
        (
            "another key",
            token(&hs256, &good.to_string(), "another-secret-of-more-than-32-bytes!"),
            Refused::Invalid,
        ),
        ("algorithm none", unsigned, Refused::Invalid),
        ("algorithm none with a signature", header(json!({"alg": "none"})), Refused::Invalid),
        ("RS256 in the header", header(json!({"alg": "RS256"})), Refused::Invalid),
        ("HS512 in the header", header(json!({"alg": "HS512"})), Refused::Invalid),
        ("another audience", with("aud", json!("other")), Refused::Invalid),
        ("an unknown role", with("role", json!("postgres")), Refused::Invalid),
        ("a tenant that cannot be", with("tenant_id", json!("../x")), Refused::Invalid),
        ("a tenant that is no text", with("tenant_id", json!(7)), Refused::Invalid),
        ("two tenants", with("app_metadata", json!({"tenant_id": "other"})), Refused::Invalid),
        (
            "one claim twice",
            token(
                &hs256,
                r#"{"role":"authenticated","exp":1800000600,"tenant_id":"acme","tenant_id":"other"}"#,
                SECRET,
            ),
            Refused::Invalid,
        ),
        ("a subject with a line feed", with("sub", json!("a\nb")), Refused::Invalid),
        ("no token at all", "abc".to_owned(), Refused::Invalid),
    ];
    for (what, token, expected) in cases {
        assert_eq!(authenticate(&format!("Bearer {token}")).err(), Some(*expected), "{what}");
    }
    for header in ["Basic dXNlcjpwdw==", "Bearer", "Bearer ", "token"] {
        assert_eq!(authenticate(header).err(), Some(Refused::Malformed), "{header}");
    }
    let long = "x".repeat(9000);
    assert_eq!(authenticate(&format!("Bearer {long}")).err(), Some(Refused::Malformed));
}

#[test]
fn two_authorization_headers_are_refused() {
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, "Bearer sb_secret_0123456789abcdef".parse().expect("a header"));
    headers.append(AUTHORIZATION, "Bearer sb_publishable_0123456789".parse().expect("a header"));
    assert_eq!(authenticator().authenticate(&headers, NOW).err(), Some(Refused::Malformed));
}

#[test]
fn a_tenant_named_twice_alike_is_one_tenant() {
    let claims = json!({"role": "authenticated", "exp": LATER, "tenant_id": "acme", "app_metadata": {"tenant_id": "acme"}});
    assert_eq!(credential(&claims).tenant.as_ref().map(TenantId::as_str), Some("acme"));
}

#[test]
fn listed_scopes_replace_the_default_and_unknown_ones_grant_nothing() {
    let scopes = |listed: Value| {
        credential(&json!({"role": "authenticated", "exp": LATER, "tenant_id": "a", "app_metadata": {"usm_scopes": listed}}))
            .scopes()
    };
    assert_eq!(scopes(json!(["lease", "read", "lease", "root"])), [Scope::Read, Scope::Lease]);
    assert_eq!(scopes(json!("read admin")), [Scope::Read, Scope::Admin]);
    assert_eq!(scopes(json!([])), []);
}

#[test]
fn issued_tokens_are_accepted_and_say_what_was_ordered() {
    let secret = Secret::new(SECRET);
    let order = Order {
        role: Role::Authenticated,
        tenant: Some(TenantId::parse("acme").expect("sound")),
        scopes: Some(vec![Scope::Lease]),
        subject: Some("worker-7".to_owned()),
        ttl: Duration::from_secs(60),
    };
    let issued = issue(&secret, &order, NOW).expect("issued");
    let credential =
        authenticate(&format!("Bearer {}", issued.expose_secret())).expect("valid").expect("one");
    assert_eq!(credential.subject, "user:worker-7");
    assert_eq!(credential.scopes(), [Scope::Lease]);

    let service =
        Order { role: Role::ServiceRole, tenant: None, scopes: None, subject: None, ..order.clone() };
    assert!(issue(&secret, &service, NOW).is_ok());
    let wrong = |order: Order| issue(&secret, &order, NOW).expect_err("refused");
    assert_eq!(wrong(Order { tenant: None, ..order.clone() }), OrderError::TenantMissing);
    assert_eq!(wrong(Order { tenant: order.tenant.clone(), ..service.clone() }), OrderError::TenantUnused);
    assert_eq!(wrong(Order { ttl: Duration::ZERO, ..service }), OrderError::Lifetime);
}

#[test]
fn a_credential_without_a_tenant_or_the_scope_makes_no_caller() {
    let call = || (NOW, Instant::now() + Duration::from_secs(5), String::new());
    let caller = |credential: Credential, scope| {
        let (now, deadline, trace) = call();
        credential.into_caller(scope, now, deadline, trace)
    };
    let of_tenant = |tenant: Option<&str>| Credential {
        expires: None,
        subject: "user:x".to_owned(),
        role: Role::Authenticated,
        tenant: tenant.map(|tenant| TenantId::parse(tenant).expect("sound")),
        scopes: Some(vec![Scope::Login]),
    };
    let own = caller(of_tenant(Some("acme")), Scope::Login).expect("entitled");
    assert_eq!(own.authority, Authority::Tenant(TenantId::parse("acme").expect("sound")));
    let service = caller(Credential::of_role(Role::ServiceRole), Scope::Admin).expect("entitled");
    assert_eq!(service.authority, Authority::Service);
    for (credential, scope) in [
        (of_tenant(Some("acme")), Scope::Read),
        (of_tenant(None), Scope::Login),
        (Credential::of_role(Role::Anon), Scope::Read),
    ] {
        assert_eq!(caller(credential, scope).expect_err("refused").reason, Reason::PermissionDenied);
    }
}

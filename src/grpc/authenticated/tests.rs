use std::time::Duration;

use super::*;
use crate::{
    auth::Role,
    domain::caller::Scope,
    grpc::policy::{self, TABLE, Who},
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn admit(credential: Option<Credential>, path: &str) -> Result<Authenticated, Error> {
    let row = policy::find(path).expect("listed");
    Authenticated::admit(credential, row, NOW, Instant::now() + Duration::from_secs(5), String::new())
}

fn of_tenant(tenant: Option<&str>, scopes: &[Scope]) -> Option<Credential> {
    Some(Credential {
        expires: None,
        subject: "user:x".to_owned(),
        role: Role::Authenticated,
        tenant: tenant.map(|tenant| TenantId::parse(tenant).expect("sound")),
        scopes: Some(scopes.to_vec()),
    })
}

#[test]
fn each_method_admits_exactly_its_scope() {
    for row in TABLE {
        let Who::Scoped(needed) = row.who else { continue };
        let refusal = |credential| admit(credential, row.path).err().map(|error| error.reason);
        assert_eq!(refusal(None), Some(Reason::Unauthenticated), "{}", row.path);
        assert_eq!(
            refusal(Some(Credential::of_role(Role::Anon))),
            Some(Reason::PermissionDenied),
            "{}",
            row.path
        );
        assert_eq!(refusal(of_tenant(None, &Scope::ALL)), Some(Reason::PermissionDenied), "{}", row.path);
        assert_eq!(refusal(Some(Credential::of_role(Role::ServiceRole))), None, "{}", row.path);
        for scope in Scope::ALL {
            let expected = if scope == needed { None } else { Some(Reason::PermissionDenied) };
            assert_eq!(
                refusal(of_tenant(Some("acme"), &[scope])),
                expected,
                "{} with {}",
                row.path,
                scope.name()
            );
        }
    }
}

const READ: &str = "/usm.v1.SessionService/GetSession";

#[test]
fn another_tenants_session_is_one_that_does_not_exist() {
    let own = || admit(of_tenant(Some("acme"), &[Scope::Read]), READ).expect("admitted");
    let (caller, key) = own().for_session("acme", "bot").expect("own");
    assert_eq!((caller.authority, key.tenant.as_str()), (Authority::Tenant(key.tenant.clone()), "acme"));
    assert_eq!(own().for_session("", "bot").expect("own").1.tenant.as_str(), "acme");
    assert_eq!(own().for_session("other", "bot").expect_err("hidden").reason, Reason::SessionNotFound);
    assert_eq!(own().for_session("acme", "../x").expect_err("malformed").reason, Reason::ArgumentInvalid);

    let service = admit(Some(Credential::of_role(Role::ServiceRole)), READ).expect("admitted");
    assert!(service.clone().for_session("other", "bot").is_ok());
    assert_eq!(service.for_session("", "bot").expect_err("nameless").reason, Reason::ArgumentInvalid);
}

#[test]
fn lists_show_the_callers_own_tenant_and_nothing_of_another() {
    let own = || admit(of_tenant(Some("acme"), &[Scope::Read]), READ).expect("admitted");
    let tenant = |listing: Listing| match listing {
        Listing::Of(_, tenant) => Some(tenant.map(|tenant| tenant.as_str().to_owned())),
        Listing::Nothing => None,
    };
    assert_eq!(tenant(own().for_list("").expect("own")), Some(Some("acme".to_owned())));
    assert_eq!(tenant(own().for_list("acme").expect("own")), Some(Some("acme".to_owned())));
    assert_eq!(tenant(own().for_list("other").expect("empty")), None);
    let service = || admit(Some(Credential::of_role(Role::ServiceRole)), READ).expect("admitted");
    assert_eq!(tenant(service().for_list("").expect("all")), Some(None));
    assert_eq!(tenant(service().for_list("other").expect("one")), Some(Some("other".to_owned())));
}

#[test]
fn no_caller_comes_from_a_method_without_a_scope() {
    let open = admit(None, "/usm.v1.SystemService/GetHealth").expect("admitted");
    assert_eq!(open.clone().for_session("acme", "bot").expect_err("none").reason, Reason::Internal);
    assert!(open.for_service_itself().scopes.is_empty());
}

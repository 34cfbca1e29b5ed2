//! `usm.v1.SessionService`

use futures::stream::BoxStream;
use tonic::{Request, Status, async_trait};
use usm_client::v1::{self, session_service_server::SessionService};
use zeroize::Zeroizing;

use crate::{
    app::{
        App,
        export::Export,
        import::{DryRun, Import, Replace, Way},
        sessions::{EventFilter, SessionFilter, Update},
    },
    domain::{
        error::Error,
        id::{AppId, SessionKey},
        material::Format,
        secret::Secret,
        session::Custody,
    },
    grpc::{
        authenticated::{Authenticated, Listing},
        call::{Answer, admitted, answer, later, leave_empty},
        convert::{self, session::session},
    },
};

/// Requests of one batch.
const BATCH_MAX: usize = 100;

pub(crate) struct Sessions {
    pub(crate) app: App,
}

#[async_trait]
impl SessionService for Sessions {
    async fn get_session(&self, request: Request<v1::GetSessionRequest>) -> Answer<v1::GetSessionResponse> {
        let (call, request) = admitted(request)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let found = self.app.get_session(&caller, &key).await?;
        answer(v1::GetSessionResponse { session: Some(session(&found)) })
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Answer<v1::ListSessionsResponse> {
        let (call, request) = admitted(request)?;
        leave_empty(&[
            ("telegram_user_id", request.telegram_user_id == 0),
            ("fingerprint", request.fingerprint.is_empty()),
        ])?;
        let page = convert::page(request.page_size, &request.page_token)?;
        let Listing::Of(caller, tenant) = call.for_list(&request.tenant_id)? else {
            return answer(v1::ListSessionsResponse::default());
        };
        let filter = SessionFilter {
            tenant,
            states: convert::session::states(&request.states)?,
            custody: convert::session::custody_filter(request.custody)?,
            labels: convert::labels(request.labels)?,
            ..SessionFilter::default()
        };
        let page = self.app.list_sessions(&caller, filter, page).await?;
        let sessions = page.items.iter().map(session).collect();
        answer(v1::ListSessionsResponse { sessions, next_page_token: page.next_token })
    }

    type WatchSessionsStream = BoxStream<'static, Result<v1::WatchSessionsResponse, Status>>;

    async fn watch_sessions(
        &self,
        _request: Request<v1::WatchSessionsRequest>,
    ) -> Answer<Self::WatchSessionsStream> {
        later()
    }

    async fn list_session_events(
        &self,
        request: Request<v1::ListSessionEventsRequest>,
    ) -> Answer<v1::ListSessionEventsResponse> {
        let (call, request) = admitted(request)?;
        leave_empty(&[("after_sequence", request.after_sequence == 0), ("kinds", request.kinds.is_empty())])?;
        let page = convert::page(request.page_size, &request.page_token)?;
        let Listing::Of(caller, tenant) = call.for_list(&request.tenant_id)? else {
            return answer(v1::ListSessionEventsResponse::default());
        };
        let key = match (&tenant, request.app_id.as_str()) {
            (_, "") => None,
            (Some(tenant), app) => Some(SessionKey { tenant: tenant.clone(), app: AppId::parse(app)? }),
            (None, _) => return Err(Error::invalid("tenant_id", "must be given together with app_id").into()),
        };
        let page = self.app.list_session_events(&caller, EventFilter { key, tenant }, page).await?;
        let events = page.items.iter().map(convert::session::event).collect();
        answer(v1::ListSessionEventsResponse { events, next_page_token: page.next_token })
    }

    async fn import_session(
        &self,
        request: Request<v1::ImportSessionRequest>,
    ) -> Answer<v1::ImportSessionResponse> {
        let (call, request) = admitted(request)?;
        answer(self.import(call, request).await?)
    }

    async fn batch_import_sessions(
        &self,
        request: Request<v1::BatchImportSessionsRequest>,
    ) -> Answer<v1::BatchImportSessionsResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        if !(1..=BATCH_MAX).contains(&request.requests.len()) {
            return Err(Error::invalid("requests", "must be 1-100").into());
        }
        if request.requests.iter().any(|request| request.validate || request.mint) {
            let rule = "must not set validate or mint: import such sessions by calls of their own";
            return Err(Error::invalid("requests", rule).into());
        }
        let imports = request.requests.into_iter().map(|request| self.import_of_batch(call.clone(), request));
        let results = futures::future::join_all(imports).await;
        answer(v1::BatchImportSessionsResponse { results })
    }

    async fn export_session(
        &self,
        request: Request<v1::ExportSessionRequest>,
    ) -> Answer<v1::ExportSessionResponse> {
        let (call, mut request) = admitted(request)?;
        let passcode = convert::given(std::mem::take(&mut request.passcode)).map(Secret::new);
        let request_id = convert::request_id(&request.request_id)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let format = convert::material::format_given(request.format)?.unwrap_or(Format::TelethonString);
        let export = Export { key, format, passcode, request_id };
        answer(convert::session::exported(self.app.export_session(&caller, export).await?))
    }

    async fn validate_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> Answer<v1::ValidateSessionResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let validated = self.app.validate_session(&caller, &key).await?;
        answer(convert::session::validated(&validated))
    }

    async fn update_session(
        &self,
        request: Request<v1::UpdateSessionRequest>,
    ) -> Answer<v1::UpdateSessionResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let given = request.session.ok_or_else(|| Error::invalid("session", "must be given"))?;
        let (caller, key) = call.for_session(&given.tenant_id, &given.app_id)?;
        let revision = convert::revision("session.revision", given.revision)?;
        let update = update(given, request.update_mask)?;
        let updated = self.app.update_session(&caller, &key, update, revision).await?;
        answer(v1::UpdateSessionResponse { session: Some(session(&updated)) })
    }

    async fn take_custody(
        &self,
        request: Request<v1::TakeCustodyRequest>,
    ) -> Answer<v1::TakeCustodyResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let revision = convert::revision("expected_revision", request.expected_revision)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let found = convert::given(request.legacy_fingerprint);
        let taken = self.app.take_custody(&caller, &key, revision, found.as_deref()).await?;
        answer(v1::TakeCustodyResponse { session: Some(session(&taken)) })
    }

    async fn give_custody(
        &self,
        request: Request<v1::GiveCustodyRequest>,
    ) -> Answer<v1::GiveCustodyResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        leave_empty(&[("wait", convert::wait(request.wait)?.is_zero())])?;
        let revision = convert::revision("expected_revision", request.expected_revision)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let given = self.app.give_custody(&caller, &key, revision).await?;
        answer(v1::GiveCustodyResponse { session: Some(session(&given)) })
    }

    async fn revoke_session(
        &self,
        request: Request<v1::RevokeSessionRequest>,
    ) -> Answer<v1::RevokeSessionResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let revision = convert::revision("expected_revision", request.expected_revision)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let revoked = self.app.revoke_session(&caller, &key, revision).await?;
        answer(v1::RevokeSessionResponse { session: Some(session(&revoked)) })
    }

    async fn reset_session(
        &self,
        request: Request<v1::ResetSessionRequest>,
    ) -> Answer<v1::ResetSessionResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let revision = convert::revision("expected_revision", request.expected_revision)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let reset = self.app.reset_session(&caller, &key, revision).await?;
        answer(v1::ResetSessionResponse { session: Some(session(&reset)) })
    }

    async fn delete_session(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Answer<v1::DeleteSessionResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let revision = convert::revision("expected_revision", request.expected_revision)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let last = self.app.delete_session(&caller, &key, revision).await?;
        answer(v1::DeleteSessionResponse { session: Some(session(&last)) })
    }
}

impl Sessions {
    async fn import(
        &self,
        call: Authenticated,
        mut request: v1::ImportSessionRequest,
    ) -> Result<v1::ImportSessionResponse, Error> {
        // Wiped with this function, whatever becomes of the call.
        let data = Zeroizing::new(std::mem::take(&mut request.data));
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let imported = self.app.import_session(&caller, import(key, data, request)?).await?;
        Ok(convert::session::imported(&imported))
    }

    async fn import_of_batch(
        &self,
        call: Authenticated,
        request: v1::ImportSessionRequest,
    ) -> v1::BatchImportResult {
        use v1::batch_import_result::Result;
        let result = match self.import(call, request).await {
            Ok(imported) => Result::Imported(imported),
            Err(error) => Result::Status(Status::from(error).details().to_vec()),
        };
        v1::BatchImportResult { result: Some(result) }
    }
}

fn import(
    key: SessionKey,
    data: Zeroizing<Vec<u8>>,
    mut request: v1::ImportSessionRequest,
) -> Result<Import, Error> {
    convert::request_id(&request.request_id)?;
    leave_empty(&[("proxy", request.proxy.is_none())])?;
    let account = usize::try_from(request.account_index)
        .map_err(|_| Error::invalid("account_index", "must not be negative"))?;
    if data.is_empty() {
        return Err(Error::invalid("data", "must hold a session"));
    }
    let password = Zeroizing::new(std::mem::take(&mut request.password));
    let password = (!password.is_empty()).then(|| Secret::new(password.as_str()));
    let passcode = Zeroizing::new(std::mem::take(&mut request.passcode));
    let passcode = (!passcode.is_empty()).then(|| Secret::new(passcode.as_str()));
    Ok(Import {
        key,
        format: convert::material::format_given(request.format)?,
        data,
        passcode,
        account: (account > 0).then_some(account),
        custody: if request.legacy_stopped { Custody::Service } else { Custody::Legacy },
        way: way(&request, password)?,
        replace: if request.replace { Replace::Yes } else { Replace::No },
        dry_run: if request.dry_run { DryRun::Yes } else { DryRun::No },
        api_key_alias: convert::given(request.api_key_alias),
        device: convert::material::device_given(request.device)?,
        labels: convert::labels(request.labels)?,
        legacy_fingerprint: convert::given(request.legacy_fingerprint),
        expected_user: (request.expected_telegram_user_id != 0).then_some(request.expected_telegram_user_id),
        expected_revision: convert::revision("expected_revision", request.expected_revision)?,
    })
}

/// Whether Telegram is asked with the given key. Two connections with one key at the same time end the authorization.
fn way(request: &v1::ImportSessionRequest, password: Option<Secret>) -> Result<Way, Error> {
    match (request.validate, request.mint) {
        (true, true) => {
            Err(Error::invalid("validate", "must not be set with mint, which asks Telegram anyway"))
        }
        (true, false) | (false, true) if !request.legacy_stopped => Err(Error::invalid(
            "legacy_stopped",
            "must be set with validate or mint: the key is used meanwhile, and Telegram ends an authorization that is \
             connected twice",
        )),
        (_, false) if password.is_some() => Err(Error::invalid("password", "is used with mint only")),
        (true, false) => Ok(Way::Validated),
        (false, true) => Ok(Way::Minted { password }),
        (false, false) => Ok(Way::Copy),
    }
}

fn update(given: v1::Session, mask: Option<prost_types::FieldMask>) -> Result<Update, Error> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return Err(Error::invalid("update_mask", "must name what to change"));
    }
    if paths.iter().any(|path| path != "labels" && path != "mirrored") {
        return Err(Error::invalid("update_mask", "must name labels, mirrored and nothing else"));
    }
    let named = |name: &str| paths.iter().any(|path| path == name);
    let labels = if named("labels") { Some(convert::labels(given.labels)?) } else { None };
    Ok(Update { labels, mirrored: named("mirrored").then_some(given.mirrored), ..Update::default() })
}

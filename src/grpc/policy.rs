//! The closed table of methods: who may call each, with what scope, for whom, and for how long.
//!
//! A method that is not listed here is not served, whatever else the server knows of it.

use std::time::Duration;

use crate::domain::caller::Scope;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody's credentials are looked at.
    Open,
    /// Anybody, also without a credential; one that is given must be valid.
    Anyone,
    /// A tenant's caller or a service, with this scope.
    Scoped(Scope),
}

/// How a request says whose object it is about, and so what is checked against the credential's tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Nothing,
    /// `tenant_id` and `app_id`.
    Session,
    /// Requests that each have `tenant_id` and `app_id`; the answer tells of each for itself.
    Sessions,
    /// `tenant_id`, which may be left out.
    Tenant,
    /// `ticket`, whose login has a tenant.
    Ticket,
    /// `lease_id`, whose session has a tenant.
    Lease,
    /// `backup_id`, whose archive has a tenant.
    Backup,
}

/// Whether the answer is one message or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Unary,
    /// Ended by the gate when this replica stops.
    Stream,
    /// Told of the stop, and ends by itself soon after.
    Held,
}

/// Whether this version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    Served,
    Later,
}

/// How long a call may take: without `grpc-timeout`, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub default: Duration,
    pub max: Duration,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `/package.Service/Method`
    pub path: &'static str,
    pub who: Who,
    pub names: Names,
    pub shape: Shape,
    pub allowance: Allowance,
    pub serving: Serving,
}

impl Row {
    /// The name in logs and metrics.
    pub fn method(&self) -> &'static str {
        self.path.strip_prefix('/').unwrap_or(self.path)
    }
}

const fn seconds(default: u64, max: u64) -> Allowance {
    Allowance { default: Duration::from_secs(default), max: Duration::from_secs(max) }
}

const HOUR: u64 = 3600;
const READS: Allowance = seconds(10, 60);
const WRITES: Allowance = seconds(30, 120);
/// Telegram is asked meanwhile.
const ASKS_TELEGRAM: Allowance = seconds(60, 180);
/// May wait for up to ten minutes, as requests of these methods can ask for.
const WAITS: Allowance = seconds(120, 660);
/// Follows something; whoever wants more calls again.
const FOLLOWS: Allowance = seconds(HOUR, 24 * HOUR);

const READ: Who = Who::Scoped(Scope::Read);
const LOGIN: Who = Who::Scoped(Scope::Login);
const LEASE: Who = Who::Scoped(Scope::Lease);
const ADMIN: Who = Who::Scoped(Scope::Admin);

use Serving::{Later, Served};
use Shape::{Held, Stream, Unary};

const fn row(
    path: &'static str,
    who: Who,
    names: Names,
    shape: Shape,
    allowance: Allowance,
    serving: Serving,
) -> Row {
    Row { path, who, names, shape, allowance, serving }
}

/// Every method that has an answer on this port.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row("/usm.v1.SessionService/GetSession", READ, Names::Session, Unary, READS, Served),
    row("/usm.v1.SessionService/ListSessions", READ, Names::Tenant, Unary, READS, Served),
    row("/usm.v1.SessionService/WatchSessions", READ, Names::Tenant, Stream, FOLLOWS, Later),
    row("/usm.v1.SessionService/ListSessionEvents", READ, Names::Tenant, Unary, READS, Served),
    row("/usm.v1.SessionService/ImportSession", ADMIN, Names::Session, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.SessionService/BatchImportSessions", ADMIN, Names::Sessions, Unary, WRITES, Served),
    row("/usm.v1.SessionService/ExportSession", ADMIN, Names::Session, Unary, WRITES, Served),
    row("/usm.v1.SessionService/ValidateSession", ADMIN, Names::Session, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.SessionService/UpdateSession", ADMIN, Names::Session, Unary, WRITES, Served),
    row("/usm.v1.SessionService/TakeCustody", ADMIN, Names::Session, Unary, WRITES, Served),
    row("/usm.v1.SessionService/GiveCustody", ADMIN, Names::Session, Unary, WAITS, Served),
    row("/usm.v1.SessionService/RevokeSession", ADMIN, Names::Session, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.SessionService/ResetSession", ADMIN, Names::Session, Unary, WRITES, Served),
    row("/usm.v1.SessionService/DeleteSession", ADMIN, Names::Session, Unary, WRITES, Served),
    row("/usm.v1.LoginService/StartQrLogin", LOGIN, Names::Session, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.LoginService/StartPhoneLogin", LOGIN, Names::Session, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.LoginService/StartBotLogin", LOGIN, Names::Session, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.LoginService/SubmitCode", LOGIN, Names::Ticket, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.LoginService/ResendCode", LOGIN, Names::Ticket, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.LoginService/SubmitPassword", LOGIN, Names::Ticket, Unary, ASKS_TELEGRAM, Served),
    row("/usm.v1.LoginService/GetLogin", LOGIN, Names::Ticket, Unary, READS, Served),
    row("/usm.v1.LoginService/WatchLogin", LOGIN, Names::Ticket, Stream, FOLLOWS, Served),
    row("/usm.v1.LoginService/FinalizeLogin", LOGIN, Names::Ticket, Unary, WAITS, Served),
    row("/usm.v1.LoginService/CancelLogin", LOGIN, Names::Ticket, Unary, WRITES, Served),
    row("/usm.v1.LeaseService/AcquireLease", LEASE, Names::Session, Unary, WAITS, Served),
    row("/usm.v1.LeaseService/RenewLease", LEASE, Names::Lease, Unary, WRITES, Served),
    row("/usm.v1.LeaseService/ReleaseLease", LEASE, Names::Lease, Unary, WRITES, Served),
    row("/usm.v1.LeaseService/HoldLease", LEASE, Names::Session, Held, FOLLOWS, Served),
    row("/usm.v1.LeaseService/SaveSession", LEASE, Names::Lease, Unary, WRITES, Served),
    row("/usm.v1.LeaseService/ReportSession", LEASE, Names::Lease, Unary, WRITES, Served),
    row("/usm.v1.LeaseService/GetLease", READ, Names::Session, Unary, READS, Served),
    row("/usm.v1.LeaseService/ListLeases", READ, Names::Tenant, Unary, READS, Served),
    row("/usm.v1.LeaseService/EvictLease", ADMIN, Names::Session, Unary, WRITES, Served),
    row("/usm.v1.BackupService/CreateBackup", ADMIN, Names::Tenant, Unary, WAITS, Later),
    row("/usm.v1.BackupService/ListBackups", ADMIN, Names::Tenant, Unary, READS, Later),
    row("/usm.v1.BackupService/RestoreBackup", ADMIN, Names::Backup, Unary, WAITS, Later),
    row("/usm.v1.BackupService/DeleteBackup", ADMIN, Names::Backup, Unary, WRITES, Later),
    row("/usm.v1.SystemService/GetHealth", Who::Anyone, Names::Nothing, Unary, READS, Served),
    row("/usm.v1.SystemService/GetInfo", READ, Names::Nothing, Unary, READS, Served),
    row("/usm.v1.SystemService/SetGrants", ADMIN, Names::Nothing, Unary, WRITES, Served),
    row("/grpc.health.v1.Health/Check", Who::Open, Names::Nothing, Unary, READS, Served),
    row("/grpc.health.v1.Health/Watch", Who::Open, Names::Nothing, Stream, FOLLOWS, Served),
    row("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Who::Open, Names::Nothing, Stream, FOLLOWS, Served),
    row("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Who::Open, Names::Nothing, Stream, FOLLOWS, Served),
];

/// The row of a path; `None` for what is not served.
pub fn find(path: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.path == path)
}

/// The path's name in logs and metrics.
pub fn method_of(path: &str) -> &'static str {
    find(path).map_or("unknown", Row::method)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::{FileDescriptorSet, MethodDescriptorProto};

    use super::*;

    fn contract() -> Vec<(String, MethodDescriptorProto, BTreeSet<String>)> {
        let set = FileDescriptorSet::decode(usm_client::proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let fields = |input: &str| {
            let name = input.rsplit('.').next().unwrap_or_default();
            let files = set.file.iter().filter(|file| file.package() == "usm.v1");
            let message = files.flat_map(|file| &file.message_type).find(|message| message.name() == name);
            message.map(|message| message.field.iter().map(|field| field.name().to_owned()).collect())
        };
        let mut methods = Vec::new();
        for file in set.file.iter().filter(|file| file.package() == "usm.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let fields = fields(method.input_type()).unwrap_or_default();
                    methods.push((path, method.clone(), fields));
                }
            }
        }
        methods
    }

    #[test]
    fn the_table_lists_exactly_the_contracts_methods() {
        let listed: BTreeSet<_> =
            TABLE.iter().map(|row| row.path.to_owned()).filter(|path| path.starts_with("/usm.")).collect();
        let contract: BTreeSet<_> = contract().into_iter().map(|(path, ..)| path).collect();
        assert_eq!(listed, contract);
        assert_eq!(TABLE.len(), listed.len() + 4, "health and reflection have four methods");
    }

    #[test]
    fn shapes_and_names_follow_the_contracts_messages() {
        for (path, method, fields) in contract() {
            let row = find(&path).expect("listed");
            assert_eq!(row.shape != Unary, method.server_streaming(), "{path}");
            let has = |field: &str| fields.contains(field);
            let fits = match row.names {
                Names::Nothing => !has("tenant_id") && !has("ticket") && !has("lease_id"),
                // UpdateSession names it inside the session, HoldLease inside its first step.
                Names::Session => (has("tenant_id") && has("app_id")) || has("session") || has("acquire"),
                Names::Sessions => has("requests"),
                Names::Tenant => has("tenant_id"),
                Names::Ticket => has("ticket"),
                Names::Lease => has("lease_id"),
                Names::Backup => has("backup_id"),
            };
            assert!(fits, "{path} is said to name {:?} but has {fields:?}", row.names);
        }
    }

    #[test]
    fn only_health_and_reflection_can_be_called_without_a_credential() {
        let free: Vec<_> = TABLE
            .iter()
            .filter(|row| match row.who {
                Who::Open | Who::Anyone => true,
                Who::Scoped(_) => false,
            })
            .map(Row::method)
            .collect();
        assert_eq!(
            free,
            [
                "usm.v1.SystemService/GetHealth",
                "grpc.health.v1.Health/Check",
                "grpc.health.v1.Health/Watch",
                "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ]
        );
    }

    #[test]
    fn every_allowance_is_bounded() {
        for row in TABLE {
            assert!(row.allowance.default <= row.allowance.max, "{}", row.path);
            assert!(row.shape != Unary || row.allowance.max <= Duration::from_secs(660), "{}", row.path);
        }
    }

    #[test]
    fn an_unlisted_path_has_no_row_and_no_name_of_its_own() {
        assert!(find("/usm.v1.SessionService/StealSession").is_none());
        assert_eq!(method_of("/usm.v1.SessionService/StealSession"), "unknown");
    }
}

//! `usm.v1.BackupService`

use tonic::{Request, async_trait};
use usm_client::v1::{self, backup_service_server::BackupService};

use crate::grpc::call::{Answer, later};

pub(crate) struct Backups;

#[async_trait]
impl BackupService for Backups {
    async fn create_backup(
        &self,
        _request: Request<v1::CreateBackupRequest>,
    ) -> Answer<v1::CreateBackupResponse> {
        later()
    }

    async fn list_backups(
        &self,
        _request: Request<v1::ListBackupsRequest>,
    ) -> Answer<v1::ListBackupsResponse> {
        later()
    }

    async fn restore_backup(
        &self,
        _request: Request<v1::RestoreBackupRequest>,
    ) -> Answer<v1::RestoreBackupResponse> {
        later()
    }

    async fn delete_backup(
        &self,
        _request: Request<v1::DeleteBackupRequest>,
    ) -> Answer<v1::DeleteBackupResponse> {
        later()
    }
}

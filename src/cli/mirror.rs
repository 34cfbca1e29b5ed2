//! `usm custody mirror`: a current copy of one session as a file.

use clap::Args;
use usm_client::v1;

use super::{
    Done,
    connect::{Key, Target, ask, refused},
    output::{self, Format},
};

#[derive(Debug, Args)]
pub(super) struct Mirror {
    #[command(flatten)]
    key: Key,
    /// Keep it no longer. The file stays; remove it.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    target: Target,
}

impl Mirror {
    pub(super) async fn run(self, format: Format) -> Done {
        let api = self.target.connect().await?;
        let session = v1::Session {
            tenant_id: self.key.tenant_id,
            app_id: self.key.app_id,
            mirrored: !self.off,
            ..Default::default()
        };
        let request = v1::UpdateSessionRequest {
            session: Some(session),
            update_mask: Some(prost_types::FieldMask { paths: vec!["mirrored".to_owned()] }),
            ..Default::default()
        };
        let answer = api.sessions().update_session(ask(request)).await.map_err(|status| refused(&status));
        api.close().await;
        let session = answer?.into_inner().session.unwrap_or_default();
        if session.mirrored {
            output::note("the file is a live key: keep it from everybody but the program that uses it");
        }
        super::session::show(&session, format)
    }
}

//! `usm health`

use clap::Args;
use usm_client::v1;

use super::{
    Done, Failure,
    connect::{Target, ask, refused},
    output::{self, Format},
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  usm health --server http://127.0.0.1:50051")]
pub(super) struct Health {
    #[command(flatten)]
    target: Target,
}

impl Health {
    pub(super) async fn run(self, format: Format) -> Done {
        let api = self.target.connect().await?;
        let answer =
            api.system().get_health(ask(v1::GetHealthRequest {})).await.map_err(|status| refused(&status));
        api.close().await;
        let health = answer?.into_inner().health.unwrap_or_default();
        let down = health.dependencies.iter().any(|dependency| dependency.state() == v1::HealthState::Down);
        match format {
            Format::Json => output::print_document(&output::json("Health", &health)?),
            Format::Table => {
                let rows: Vec<_> = health
                    .dependencies
                    .iter()
                    .map(|dependency| {
                        let latency = dependency.latency.as_ref();
                        let millis =
                            latency.map(|span| span.seconds * 1000 + i64::from(span.nanos) / 1_000_000);
                        vec![
                            dependency.name.clone(),
                            dependency
                                .state()
                                .as_str_name()
                                .trim_start_matches("HEALTH_STATE_")
                                .to_lowercase(),
                            millis.map(|millis| format!("{millis} ms")).unwrap_or_default(),
                            dependency.message.clone(),
                        ]
                    })
                    .collect();
                output::print_table(&["DEPENDENCY", "STATE", "LATENCY", ""], &rows);
            }
        }
        if down {
            Err(Failure::Failed("something the service depends on is down".to_owned()))
        } else {
            Ok(())
        }
    }
}

//! `usm sandbox`: the Telegram sandbox by itself.

use std::path::PathBuf;

use clap::Args;
use usm_sandbox::{Config, Sandbox as Server, Settings};

use super::{Done, Failure, output};
use crate::shutdown::Signals;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  usm sandbox\n  usm sandbox --dcs 1:0,2:0 --admin 8081 --set qr_ttl=5")]
pub(super) struct Sandbox {
    /// Data centres and their ports; port 0 takes any free one.
    #[arg(long, value_name = "LIST", default_value = "1:0,2:0,3:0")]
    dcs: String,
    /// Port of the admin interface.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    admin: u16,
    /// Address of all listeners.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    listen: std::net::IpAddr,
    /// PEM file of the server's RSA private key; made anew without it.
    #[arg(long, value_name = "FILE")]
    rsa: Option<PathBuf>,
    /// Where to write the public key as PEM.
    #[arg(long, value_name = "FILE")]
    r#pub: Option<PathBuf>,
    /// File that keeps accounts and keys over a restart.
    #[arg(long, value_name = "FILE")]
    persist: Option<PathBuf>,
    /// Behaviour, such as qr_ttl=5; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl Sandbox {
    pub(super) async fn run(self) -> Done {
        let mut settings = Settings::default();
        for pair in &self.set {
            settings.set_pair(pair).map_err(|error| Failure::Usage(error.to_string()))?;
        }
        let told = |error: std::io::Error| Failure::Failed(format!("the RSA key cannot be read: {error}"));
        let config = Config {
            listen: self.listen,
            dcs: parse_dcs(&self.dcs)?,
            admin: self.admin,
            rsa_pem: self.rsa.map(std::fs::read_to_string).transpose().map_err(told)?,
            persist: self.persist,
            settings,
        };
        let mut signals = Signals::install()?;
        let server = Server::start(config).await?;
        if let Some(path) = self.r#pub {
            std::fs::write(path, server.public_key_pem())?;
        }
        output::print_line(&server.ready_line());
        signals.next().await;
        server.stop().await;
        Ok(())
    }
}

fn parse_dcs(list: &str) -> Result<Vec<(i32, u16)>, Failure> {
    list.split(',')
        .map(|pair| {
            let (id, port) = pair.split_once(':')?;
            Some((id.trim().parse().ok()?, port.trim().parse().ok()?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| {
            Failure::Usage(format!("--dcs must be a list of number:port such as 1:0,2:0, not {list}"))
        })
}

//! A sandbox on its own: prints the ready line and runs until it is interrupted.
//!
//! `cargo run -p usm-sandbox --example sandbox -- [--dcs 1:0,2:0] [--admin 0] [--rsa FILE] [--persist FILE] [--set name=value]…`

use std::io::Write as _;

use anyhow::{Context as _, bail};
use usm_sandbox::{Config, Sandbox};

fn config() -> anyhow::Result<Config> {
    let mut config = Config::default();
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--dcs" => {
                let pair = |text: &str| -> anyhow::Result<(i32, u16)> {
                    let (dc, port) = text.split_once(':').context("a DC is id:port")?;
                    Ok((dc.parse()?, port.parse()?))
                };
                config.dcs = value.split(',').map(pair).collect::<Result<_, _>>()?;
            }
            "--admin" => config.admin = value.parse()?,
            "--rsa" => config.rsa_pem = Some(std::fs::read_to_string(&value)?),
            "--persist" => config.persist = Some(value.into()),
            "--set" => config.settings.set_pair(&value)?,
            _ => bail!("unknown flag {flag}"),
        }
    }
    Ok(config)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(config()?).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", sandbox.ready_line())?;
    out.flush()?;
    tokio::signal::ctrl_c().await?;
    sandbox.stop().await;
    Ok(())
}

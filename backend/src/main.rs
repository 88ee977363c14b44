//! The command `dalle-server`: see `dalle-server --help`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use dalle_backend::{Config, ModelFolder, Options, serve, shutdown};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    let filter = EnvFilter::try_from_env("DALLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dalle-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let folder = ModelFolder::open(&config.model)?;
    if let Some(site) = &config.site {
        let index = site.join("index.html");
        anyhow::ensure!(
            index.is_file(),
            "{} is missing: is {} the built page?",
            index.display(),
            site.display()
        );
    }
    // Before anything is slow, so that Ctrl-C is obeyed at any time.
    let stop = tokio::spawn(shutdown::signal());
    let Config { host, port, .. } = &config;
    let listener = TcpListener::bind((host.as_str(), *port))
        .await
        .with_context(|| format!("cannot listen on {host}:{port}; choose another --host or --port"))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    let options = Options {
        site: config.site,
        queue: config.queue,
        max_rows: config.max_rows,
        grace: config.grace,
        origins: config.allow_origin,
    };
    let stop = async {
        match stop.await {
            Ok(Ok(())) => {}
            failed => {
                tracing::error!(?failed, "signals cannot be had; stop the server by ending its process");
                std::future::pending::<()>().await;
            }
        }
    };
    let device = config.device;
    serve(listener, options, move || folder.load(device), stop).await?;
    Ok(())
}

//! The command `dalle-server`: see `dalle-server --help`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use dalle_backend::{Config, Listeners, Options, load_model, open_model, serve, shutdown};
use tokio::net::{TcpListener, ToSocketAddrs};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Config::read()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dalle-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr what `DALLE_LOG` selects.
fn start_log() -> anyhow::Result<()> {
    let chosen = std::env::var_os("DALLE_LOG").filter(|chosen| !chosen.is_empty());
    let chosen = chosen.map_or("info".into(), |chosen| chosen.to_string_lossy().into_owned());
    let filter = EnvFilter::try_new(&chosen).map_err(|_| {
        anyhow::anyhow!(
            "DALLE_LOG: expected a filter such as `debug` or `warn,dalle_backend=debug`, got `{chosen}`"
        )
    })?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    start_log()?;
    let folder = open_model(&config.model)?;
    if let Some(site) = &config.site {
        let index = site.join("index.html");
        anyhow::ensure!(
            index.is_file(),
            "{} is missing: is {} the built page?",
            index.display(),
            site.display()
        );
    }
    // Before anything slow, so that Ctrl-C works at any time.
    let stop = tokio::spawn(shutdown::signal());
    let Config { host, port, .. } = &config;
    let public = listen(&format!("{host}:{port}"), (host.as_str(), *port), "--host or --port").await?;
    let admin = match config.admin {
        Some(address) => Some(listen(&address.to_string(), address, "--admin").await?),
        None => None,
    };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{}", public.local_addr()?)?;
    if let Some(admin) = &admin {
        writeln!(stdout, "health and metrics on http://{}", admin.local_addr()?)?;
    }
    stdout.flush()?;
    let stop = async {
        match stop.await {
            Ok(Ok(())) => drop(tokio::spawn(end_at_next_signal())),
            failed => {
                tracing::error!(?failed, "cannot receive signals; kill the process to stop the server");
                std::future::pending::<()>().await;
            }
        }
    };
    let Config { device, dtype, max_rows, .. } = config;
    let load = move || load_model(&folder, device, dtype, max_rows);
    serve(Listeners { public, admin }, Options::from(config), load, stop).await?;
    Ok(())
}

/// Listens on an address. `name` and `option` are for the error message.
async fn listen(name: &str, address: impl ToSocketAddrs, option: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {name}; choose another {option}"))
}

/// Ends the process at the second signal.
async fn end_at_next_signal() {
    if shutdown::signal().await.is_ok() {
        tracing::warn!("stopped before all generations had finished");
        std::process::exit(1);
    }
}

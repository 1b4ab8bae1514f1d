//! Logs of the program itself: to stderr, `POCKETCI_LOG` chooses (`info`, `debug`, `pocketci_server=debug`…).

use tracing_subscriber::EnvFilter;

/// Starts logging; `default` is the filter where the environment says nothing.
pub fn start(default: &str) {
    let filter =
        EnvFilter::try_from_env("POCKETCI_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let json = std::env::var("POCKETCI_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    if json {
        builder.json().init();
    } else {
        builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init();
    }
}

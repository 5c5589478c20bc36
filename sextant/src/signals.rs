//! Signals: SIGTERM and SIGINT stop, SIGHUP reloads.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the returned token at the first SIGTERM or SIGINT.
///
/// # Errors
/// If the runtime cannot install a handler.
pub(crate) fn stop_token() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("received SIGTERM, stopping"),
            _ = interrupt.recv() => tracing::info!("interrupted, stopping"),
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// A stream of SIGHUPs.
///
/// # Errors
/// If the runtime cannot install a handler.
pub(crate) fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

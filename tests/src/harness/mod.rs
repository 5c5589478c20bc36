//! Starts the binary and talks to it.
//!
//! [`binary()`] builds it first, so that no test runs a stale one. A [`Sextant`] is a running process: it is waited for, asked over HTTP, and always
//! ended, by its own process id. Waiting is polling with a deadline, never a fixed sleep.

mod binary;
mod http;
pub mod kube;
mod ports;
mod process;

pub use binary::binary;
pub use http::{Answer, get, post_form};
pub use ports::free_port;
pub use process::{Failed, Sextant, run_to_end};

use std::time::{Duration, Instant};

/// Asks `attempt` until it gives a value; panics with its last error after `limit`.
///
/// # Panics
/// When the limit passes.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => {
                assert!(Instant::now() < deadline, "{what} not within {limit:?}: {error}");
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

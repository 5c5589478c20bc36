//! Room for recursion.
//!
//! A tree may be two hundred levels deep, and reading, planning and evaluating it recurses as often. Callers' threads may have small stacks, so
//! what is done with deeply nested queries is done on a thread with a large one. Its pages cost nothing until they are touched.

use std::io;
use std::panic;
use std::thread;

/// Queries with more brackets and signs than this are taken to be deeply nested.
const SHALLOW_MAX: usize = 24;
/// Enough for the deepest query that the parser accepts, in a build without optimisation.
const DEEP_STACK_BYTES: usize = 64 << 20;

/// Does `work`, which recurses over `query`, where the stack suffices.
///
/// # Errors
/// When the thread that is needed cannot be started.
pub(crate) fn with_room_for<T: Send>(
    query: &str,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let levels = query.bytes().filter(|byte| b"([+-^".contains(byte)).count();
    if levels <= SHALLOW_MAX {
        return Ok(work());
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(DEEP_STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}

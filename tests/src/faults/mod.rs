//! Faults for whole processes: a load that is killed, system calls that fail or kill, disks that are small or read-only.
//!
//! The tools are the kernel's own, through Debian's `strace` and `unshare`; where they are missing or not allowed the tests skip,
//! as they do without peers.

mod copy;
mod run;
mod small_disk;
mod strace;

pub use copy::copy_dir;
pub use run::{Ended, Load, LoadCommand, check_store, leftovers};
pub use small_disk::SmallDisk;
pub use strace::{Strace, calls};

use std::hash::{BuildHasher, RandomState};

use crate::conformance::note;

/// The seed of a run: `$SEXTANT_SEED`, or a new one. It is printed, so that a failure can be looked at again.
///
/// # Panics
/// If `$SEXTANT_SEED` is no number.
#[must_use]
pub fn seed(test: &str) -> u64 {
    let seed = match std::env::var("SEXTANT_SEED") {
        Ok(text) => text.parse().expect("SEXTANT_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0_u8),
    };
    note(&format!("{test}: SEXTANT_SEED={seed}"));
    seed
}

/// A folder for stores that are killed: in memory where there is such a place, since what a killed process had written is there whether it was synced
/// or not, and hundreds of runs with a hundred syncs each would wait for a disk for nothing.
///
/// # Panics
/// If none can be made.
#[must_use]
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary folder can be made")
}

/// How many kills the tests share: `$SEXTANT_KILLS`, or as many as are done before every change.
///
/// # Panics
/// If `$SEXTANT_KILLS` is no number.
#[must_use]
pub fn kills() -> usize {
    std::env::var("SEXTANT_KILLS")
        .map_or(KILLS, |text| text.parse().expect("SEXTANT_KILLS is a number"))
}

const KILLS: usize = 360;

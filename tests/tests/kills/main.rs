//! The store under faults of whole processes: what was acknowledged is there afterwards, what was refused is not, and nobody has to help.
//!
//! `SEXTANT_KILLS` says how many processes are killed in all, `SEXTANT_SEED` repeats a run.

#[cfg(test)]
mod anywhere;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod system_calls;

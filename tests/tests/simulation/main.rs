//! The whole store on a simulated disk: the power goes at every operation, every operation fails, every byte is flipped.
//!
//! [`script`] does everything that a store does within a few hundred operations; [`account`] knows what must come of it, from what was sent
//! and acknowledged alone. `SEXTANT_SEED` repeats a run. By default a bounded part of each sweep is done, spread over the whole of it and
//! another part with another seed; `SEXTANT_SIMULATION=long` does all of it, with more seeds.

#![expect(clippy::unwrap_used, reason = "functions of a test are part of it")]

mod account;
mod errors;
mod flips;
mod power;
mod script;
mod watched;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// As much as before every change.
    Short,
    /// All of it.
    Long,
}

/// `$SEXTANT_SIMULATION`.
fn length() -> Length {
    match std::env::var("SEXTANT_SIMULATION").as_deref() {
        Ok("long") => Length::Long,
        Ok(other) => panic!("SEXTANT_SIMULATION={other}: only `long` is known"),
        Err(_) => Length::Short,
    }
}

//! The binary as its users run it: real processes, real `/proc`, real peers.

mod failures;
mod machine;
mod peers;
mod reload;

//! The binary as its users run it: real processes, real `/proc`, real peers.

#[cfg(test)]
mod api;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod histograms;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod repaired;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod tools;

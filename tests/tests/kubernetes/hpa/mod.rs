//! Our autoscaler in a cluster whose workloads run: kubelets, our metrics server, our controller, and back to the pods.
//!
//! What is asserted is where replicas end, and that nothing that was written on the way was out of bounds; how long it
//! takes depends on the machine.

mod explaining;
mod expressions;
mod fixture;
mod leaders;
mod outages;
mod scaling;
mod shown;
mod steering;
mod writers;

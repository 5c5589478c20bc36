//! Kubernetes on loopback: the harness against the real `kubectl`, and our metrics server in a cluster.

#[cfg(test)]
mod aggregation;
#[cfg(test)]
mod all_in_one;
#[cfg(test)]
mod api_server;
#[cfg(test)]
mod custom;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hpa;
#[cfg(test)]
mod identities;
#[cfg(test)]
mod kubelets;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod series;
#[cfg(test)]
mod top;
#[cfg(test)]
mod versions;
#[cfg(test)]
mod workloads;

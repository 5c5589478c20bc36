//! Where a node's kubelet is asked.
//!
//! The addresses of a node are written by whoever may update node status, which includes the node itself. An address that leads
//! back to this host or to a link-local service (cloud metadata, for one) would have our credentials sent there, so those are refused,
//! both as written and as resolved (CVE-2018-1002102, CVE-2022-3294).

use std::net::{IpAddr, SocketAddr};

use super::KubeletError;

/// The path that kubelets serve resource metrics on.
pub const RESOURCE_METRICS_PATH: &str = "/metrics/resource";
/// The annotation of a node that names another path, where that is allowed.
pub const PATH_ANNOTATION: &str = "metrics.k8s.io/resource-metrics-path";
/// Bytes of a path from an annotation.
const PATH_BYTES_MAX: usize = 1024;

/// How endpoints are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointOptions {
    /// Address types by priority: `Hostname`, `InternalDNS`, `InternalIP`, `ExternalDNS`, `ExternalIP`. Of one type the first address
    /// counts.
    pub address_types: Vec<String>,
    /// The port, unless the node's status says another and may.
    pub port: u16,
    /// Whether the port in the node's status counts.
    pub use_node_status_port: bool,
    /// The path on every node.
    pub path: String,
    /// Whether a node's annotation may name another path.
    pub allow_path_annotation: bool,
    /// Whether loopback addresses are asked.
    pub allow_loopback: bool,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        let types = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"];
        Self {
            address_types: types.map(String::from).to_vec(),
            port: 10250,
            use_node_status_port: false,
            path: String::from(RESOURCE_METRICS_PATH),
            allow_path_annotation: false,
            allow_loopback: false,
        }
    }
}

/// What of a node its endpoint depends on.
#[derive(Clone, Copy, Debug)]
pub struct NodeStatus<'a> {
    /// Type and address, in the order of the node's status.
    pub addresses: &'a [(Box<str>, Box<str>)],
    /// The kubelet's port in the node's status.
    pub kubelet_port: Option<u16>,
    /// The value of [`PATH_ANNOTATION`].
    pub path_annotation: Option<&'a str>,
}

/// Host, port and path of a kubelet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// The path, with its leading slash.
    pub path: Box<str>,
}

impl Endpoint {
    /// The endpoint of a node.
    ///
    /// # Errors
    /// [`KubeletError::NoAddress`] and [`KubeletError::AddressRefused`].
    pub fn of(node: NodeStatus<'_>, options: &EndpointOptions) -> Result<Self, KubeletError> {
        let of_type = |kind: &String| node.addresses.iter().find(|(k, _)| **k == **kind);
        let chosen = options.address_types.iter().find_map(of_type);
        let Some((_, host)) = chosen.filter(|(_, host)| !host.is_empty()) else {
            return Err(KubeletError::NoAddress { types: options.address_types.join(",") });
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            check_address(address, options.allow_loopback)?;
        }
        let status_port =
            node.kubelet_port.filter(|port| options.use_node_status_port && *port > 0);
        let annotation = node.path_annotation.filter(|path| {
            options.allow_path_annotation && !path.is_empty() && path.len() <= PATH_BYTES_MAX
        });
        let path = annotation.unwrap_or(&options.path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.clone(),
            port: status_port.unwrap_or(options.port),
            path: format!("{slash}{path}").into(),
        })
    }

    /// Host and port as they stand in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The addresses behind the host that may be asked.
    ///
    /// # Errors
    /// [`KubeletError::Resolve`], or [`KubeletError::AddressRefused`] if none of them may be asked.
    pub(super) async fn resolve(
        &self,
        allow_loopback: bool,
    ) -> Result<Vec<SocketAddr>, KubeletError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            check_address(address, allow_loopback)?;
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let unresolved = |reason: String| KubeletError::Resolve { host: self.host.clone(), reason };
        let found = tokio::net::lookup_host((&*self.host, self.port))
            .await
            .map_err(|error| unresolved(error.to_string()))?;
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in found {
            match check_address(address.ip(), allow_loopback) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(error)) => Err(error),
            (true, None) => Err(unresolved(String::from("no such host"))),
        }
    }
}

/// Refuses addresses that no node of a cluster has.
fn check_address(address: IpAddr, allow_loopback: bool) -> Result<(), KubeletError> {
    let refused = |reason| Err(KubeletError::AddressRefused { address, reason });
    match address.to_canonical() {
        ip if ip.is_loopback() => {
            if allow_loopback {
                Ok(())
            } else {
                refused("loopback")
            }
        }
        ip if ip.is_unspecified() => refused("unspecified"),
        ip if ip.is_multicast() => refused("multicast"),
        IpAddr::V4(ip) if ip.is_broadcast() => refused("broadcast"),
        IpAddr::V4(ip) if ip.is_link_local() => refused("link-local"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => refused("link-local"),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        pairs.iter().map(|(kind, address)| (Box::from(*kind), Box::from(*address))).collect()
    }

    fn node(addresses: &[(Box<str>, Box<str>)]) -> NodeStatus<'_> {
        NodeStatus { addresses, kubelet_port: Some(10255), path_annotation: Some("custom/path") }
    }

    #[test]
    fn the_first_address_of_the_best_type_is_taken() {
        let all = addresses(&[
            ("InternalIP", "10.0.0.1"),
            ("InternalIP", "fd00::1"),
            ("Hostname", "node-1"),
            ("ExternalIP", "192.0.2.1"),
        ]);
        let options = EndpointOptions::default();
        let endpoint = Endpoint::of(node(&all), &options).unwrap();
        assert_eq!(endpoint.authority(), "node-1:10250");
        assert_eq!(&*endpoint.path, "/metrics/resource");
        let types = ["ExternalDNS", "InternalIP", "Hostname"].map(String::from).to_vec();
        let options = EndpointOptions { address_types: types, ..options };
        assert_eq!(Endpoint::of(node(&all), &options).unwrap().authority(), "10.0.0.1:10250");
        let v6 = addresses(&[("InternalIP", "fd00::1")]);
        assert_eq!(Endpoint::of(node(&v6), &options).unwrap().authority(), "[fd00::1]:10250");
        let none = addresses(&[("ExternalIP", "192.0.2.1")]);
        let error = Endpoint::of(node(&none), &options).unwrap_err();
        assert_eq!(error.to_string(), "no address matched types ExternalDNS,InternalIP,Hostname");
    }

    #[test]
    fn port_and_path_of_the_node_count_only_where_allowed() {
        let all = addresses(&[("Hostname", "n")]);
        let options = EndpointOptions {
            use_node_status_port: true,
            allow_path_annotation: true,
            ..EndpointOptions::default()
        };
        let endpoint = Endpoint::of(node(&all), &options).unwrap();
        assert_eq!((endpoint.port, &*endpoint.path), (10255, "/custom/path"));
        let silent = NodeStatus { kubelet_port: None, path_annotation: None, ..node(&all) };
        let endpoint = Endpoint::of(silent, &options).unwrap();
        assert_eq!((endpoint.port, &*endpoint.path), (10250, "/metrics/resource"));
        let zero = NodeStatus { kubelet_port: Some(0), ..node(&all) };
        assert_eq!(Endpoint::of(zero, &options).unwrap().port, 10250);
    }

    #[test]
    fn addresses_that_no_node_has_are_refused() {
        for (host, allowed, allowed_with_loopback) in [
            ("10.1.2.3", true, true),
            ("fd00::2", true, true),
            ("127.0.0.1", false, true),
            ("127.8.8.8", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
            ("ff02::1", false, false),
            ("255.255.255.255", false, false),
        ] {
            let all = addresses(&[("InternalIP", host)]);
            for (allow_loopback, expected) in [(false, allowed), (true, allowed_with_loopback)] {
                let options = EndpointOptions { allow_loopback, ..EndpointOptions::default() };
                let found = Endpoint::of(node(&all), &options);
                assert_eq!(found.is_ok(), expected, "{host} {allow_loopback}: {found:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_loopback_is_refused() {
        let endpoint = Endpoint { host: "localhost".into(), port: 1, path: "/".into() };
        let error = endpoint.resolve(false).await.unwrap_err();
        assert!(matches!(error, KubeletError::AddressRefused { .. }), "{error}");
        assert!(!endpoint.resolve(true).await.unwrap().is_empty());
    }
}

//! Builds the URL of a target with Go's escaping, so that it reads as Prometheus shows it.

use std::collections::BTreeMap;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// `scheme://host/path?query`; parameters in order of their names.
pub(crate) fn build(
    scheme: &str,
    host: &str,
    path: &str,
    params: &BTreeMap<String, Vec<String>>,
) -> String {
    let mut url = format!("{scheme}://{host}");
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    escape(&mut url, path, |b| b"$&+,/:;=@".contains(&b));
    let pairs = params.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
    for (i, (name, value)) in pairs.enumerate() {
        url.push(if i == 0 { '?' } else { '&' });
        escape(&mut url, name, |b| b == b' ');
        url.push('=');
        escape(&mut url, value, |b| b == b' ');
    }
    url
}

/// Appends `text` with everything but unreserved characters and those that `keep` names in hex. A kept
/// space is a plus sign.
fn escape(url: &mut String, text: &str, keep: impl Fn(u8) -> bool) {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            url.push(char::from(b));
        } else if keep(b) {
            url.push(if b == b' ' { '+' } else { char::from(b) });
        } else {
            url.push('%');
            url.push(char::from(HEX[usize::from(b >> 4)]));
            url.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, params: &[(&str, &[&str])], expected: &str) {
        let params = params
            .iter()
            .map(|(name, values)| {
                (String::from(*name), values.iter().map(|v| String::from(*v)).collect())
            })
            .collect();
        assert_eq!(build("http", "h:1", path, &params), expected);
    }

    #[test]
    fn paths_and_parameters_are_escaped_apart() {
        check("/metrics", &[], "http://h:1/metrics");
        check("metrics", &[], "http://h:1/metrics");
        check("", &[], "http://h:1");
        check("/a b?c=d&e", &[], "http://h:1/a%20b%3Fc=d&e");
        check(
            "/federate",
            &[("match[]", &["{job=\"a b\"}", "up"]), ("a", &["é+/"])],
            "http://h:1/federate?a=%C3%A9%2B%2F&match%5B%5D=%7Bjob%3D%22a+b%22%7D&match%5B%5D=up",
        );
    }
}

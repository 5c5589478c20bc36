//! Resource versions, as far as two of one object can be compared.

/// Whether `a` is older than `b`. Versions of one resource are numbers that grow (Kubernetes 1.35 makes that a promise, etcd always
/// did it); of what is no number nothing is known, and then it is not older.
pub(in crate::controller) fn is_older(a: &str, b: &str) -> bool {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a < b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert!(is_older("9", "10"));
        assert!(!is_older("10", "10"));
        assert!(!is_older("11", "10"));
        assert!(!is_older("a", "10"));
    }
}

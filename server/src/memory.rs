//! How much memory this process can count on: the machine's, or less if its control group has a limit.

use std::fs;

/// Bytes of the machine or of the control group, whichever is smaller.
pub(crate) fn available_bytes() -> u64 {
    let system = rustix::system::sysinfo();
    let machine = system.totalram.saturating_mul(u64::from(system.mem_unit));
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.into_iter().filter_map(|path| fs::read_to_string(path).ok());
    limits.filter_map(|text| parse_limit(&text)).fold(machine, u64::min)
}

/// The bytes that a control group's limit file allows; `None` for no limit.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_control_groups() {
        assert_eq!(parse_limit("536870912\n"), Some(512 << 20));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit(""), None);
    }

    #[test]
    fn there_is_some_memory() {
        assert!(available_bytes() > 1 << 20);
    }
}

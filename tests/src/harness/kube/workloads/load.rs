//! How much work there is, over time.

use std::time::Duration;

/// Demand for CPU of a workload as a whole, in millicores: constant from step to step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// From when on, counted from the moment the load was set; ascending, the first at once.
    steps: Vec<(Duration, u64)>,
}

impl Load {
    /// The same forever.
    #[must_use]
    pub fn constant(millicores: u64) -> Self {
        Self { steps: vec![(Duration::ZERO, millicores)] }
    }

    /// And another from `after` on, counted from the moment the load is set.
    #[must_use]
    pub fn then(mut self, after: Duration, millicores: u64) -> Self {
        self.steps.push((after, millicores));
        self.steps.sort_by_key(|(after, _)| *after);
        self
    }

    /// The demand after `elapsed_ms`, and after how many milliseconds it changes next.
    pub(crate) fn at(&self, elapsed_ms: i64) -> (u64, Option<i64>) {
        let ms = |after: Duration| i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let past = self.steps.iter().rfind(|(after, _)| ms(*after) <= elapsed_ms);
        let next = self.steps.iter().find(|(after, _)| ms(*after) > elapsed_ms);
        (past.map_or(0, |(_, millicores)| *millicores), next.map(|(after, _)| ms(*after)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_until_the_next() {
        let load = Load::constant(100).then(Duration::from_secs(2), 300);
        assert_eq!(load.at(0), (100, Some(2000)));
        assert_eq!(load.at(1999), (100, Some(2000)));
        assert_eq!(load.at(2000), (300, None));
    }
}

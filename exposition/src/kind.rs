//! What a metric measures, as `# TYPE` lines and the metadata API name it.

use std::fmt;

/// The kind of a metric family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// A value that only grows, except that it may restart from zero.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Observations counted in buckets.
    Histogram,
    /// Buckets whose counts go up and down.
    GaugeHistogram,
    /// Observations with quantiles that the source computed.
    Summary,
    /// Constant facts in labels; the value is 1.
    Info,
    /// One series per state, with 1 for the states that hold.
    StateSet,
    /// Not declared.
    #[default]
    Unknown,
}

impl MetricKind {
    /// The name in OpenMetrics and in the metadata API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }

    /// The name in text format 0.0.4, which knows five kinds; the others are written as the kind whose
    /// samples look the same.
    #[must_use]
    pub const fn text_name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info | Self::StateSet => "gauge",
            Self::Histogram | Self::GaugeHistogram => "histogram",
            Self::Summary => "summary",
            Self::Unknown => "untyped",
        }
    }

    /// The kind that a `# TYPE` line of OpenMetrics declares.
    #[must_use]
    pub const fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"counter" => Some(Self::Counter),
            b"gauge" => Some(Self::Gauge),
            b"histogram" => Some(Self::Histogram),
            b"gaugehistogram" => Some(Self::GaugeHistogram),
            b"summary" => Some(Self::Summary),
            b"info" => Some(Self::Info),
            b"stateset" => Some(Self::StateSet),
            b"unknown" => Some(Self::Unknown),
            _ => None,
        }
    }

    /// The kind that a `# TYPE` line of text format 0.0.4 declares, if it is one of the five.
    #[must_use]
    pub const fn from_text_name(name: &[u8]) -> Option<Self> {
        match name {
            b"counter" => Some(Self::Counter),
            b"gauge" => Some(Self::Gauge),
            b"histogram" => Some(Self::Histogram),
            b"summary" => Some(Self::Summary),
            b"untyped" => Some(Self::Unknown),
            _ => None,
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_kinds_are_read_back_from_text() {
        for (name, kind) in [
            ("counter", MetricKind::Counter),
            ("gauge", MetricKind::Gauge),
            ("histogram", MetricKind::Histogram),
            ("summary", MetricKind::Summary),
            ("untyped", MetricKind::Unknown),
        ] {
            assert_eq!(MetricKind::from_text_name(name.as_bytes()), Some(kind));
            assert_eq!(kind.text_name(), name);
        }
        assert_eq!(MetricKind::from_text_name(b"info"), None);
        assert_eq!(MetricKind::Info.text_name(), "gauge");
    }
}

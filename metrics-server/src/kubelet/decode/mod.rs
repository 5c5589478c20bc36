//! Reads a kubelet's `/metrics/resource` while it arrives, into a [`NodeBatch`].
//!
//! Of the families that a kubelet serves seven are of use; other lines are skipped unread. A kubelet writes every family in the
//! same order of containers, so a line is first compared, byte for byte, with the labels that stood at its place in the family
//! before: labels are parsed once per container, not once per line.
//!
//! Rules, which are upstream's unless said otherwise:
//!
//! - A node without CPU or memory, or with either at zero, is left out.
//! - A pod is left out as a whole when one of its containers lacks CPU or memory or has either at zero: a sum over some of its
//!   containers would look like a smaller pod.
//! - A line that cannot be read costs the pod that it names, or nothing if it names none. (Upstream loses the whole node.) If
//!   nothing is left then, the answer is none.
//! - The time of a point is that of its CPU sample, since rates are computed from it. (Upstream takes whichever of CPU and
//!   memory comes last.) Samples without a time get that of the request.
//! - Of two equal series the later counts.

use std::ops::Range;

use exposition::{Entry, Parser, Point as Value};

use crate::store::{NodeBatch, PodPoints, Point};

/// Bytes of a line; longer ones are malformed.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Containers of one node; where the families disagree about their order, one may count once per family. The kubelet's own limit
/// is 110 pods by default.
const CONTAINERS_MAX: usize = 32 << 10;
/// How many places further down the family a line is looked for when it is not at the expected one.
const LOOK_AHEAD: usize = 8;
/// Bytes of a malformed line that are reported.
const QUOTE_BYTES_MAX: usize = 120;

/// Why a body yields nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is none of the families that are of use.
    #[error("no resource metrics in the answer")]
    NoMetrics,
    /// There is nothing else than lines that cannot be read, and what they spoil.
    #[error(
        "no complete node or pod in the answer, {malformed_lines} malformed lines, first: {first:?}"
    )]
    Unreadable {
        /// Lines that could not be read.
        malformed_lines: u64,
        /// The first of them, shortened.
        first: String,
    },
    /// More containers than any node runs.
    #[error("more than {CONTAINERS_MAX} containers in the answer")]
    TooManyContainers,
}

/// What was wrong with a body that yielded something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that could not be read.
    pub malformed_lines: u64,
    /// The first of them, shortened.
    pub first_malformed: Option<String>,
    /// Pods that were left out because a container was incomplete.
    pub incomplete_pods: u64,
    /// Whether the node itself was left out although it was mentioned.
    pub incomplete_node: bool,
}

/// The families that are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    NodeCpu,
    NodeMemory,
    NodeSwap,
    ContainerCpu,
    ContainerMemory,
    ContainerStart,
    ContainerSwap,
}

const CONTAINER_FAMILIES: [(&[u8], Family); 4] = [
    (b"container_cpu_usage_seconds_total", Family::ContainerCpu),
    (b"container_memory_working_set_bytes", Family::ContainerMemory),
    (b"container_start_time_seconds", Family::ContainerStart),
    (b"container_swap_usage_bytes", Family::ContainerSwap),
];

const NODE_FAMILIES: [(&[u8], Family); 3] = [
    (b"node_cpu_usage_seconds_total", Family::NodeCpu),
    (b"node_memory_working_set_bytes", Family::NodeMemory),
    (b"node_swap_usage_bytes", Family::NodeSwap),
];

impl Family {
    /// The family of the sample on `line`, and the length of its name.
    fn of(line: &[u8]) -> Option<(Self, usize)> {
        let families: &[(&[u8], Self)] = match line.first()? {
            b'c' => &CONTAINER_FAMILIES,
            b'n' => &NODE_FAMILIES,
            _ => return None,
        };
        let (name, family) = families.iter().find(|(name, _)| line.starts_with(name))?;
        let ends = matches!(line.get(name.len()), Some(b'{' | b' ' | b'\t') | None);
        ends.then_some((*family, name.len()))
    }
}

/// What is known of a node or container so far.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    cpu_ns: Option<u64>,
    at_ms: Option<i64>,
    memory_bytes: Option<u64>,
    swap_bytes: Option<u64>,
    start_ms: Option<i64>,
    /// A line about it could not be read.
    broken: bool,
}

impl Reading {
    /// Takes the value of a sample; `false` if it is not one that the family can have.
    fn take(&mut self, family: Family, sample: Value) -> bool {
        let Value { value, timestamp } = sample;
        if !value.is_finite() || value < 0.0 {
            return false;
        }
        match family {
            Family::NodeCpu | Family::ContainerCpu => {
                self.cpu_ns = Some(whole(value * 1e9));
                self.at_ms = timestamp;
            }
            Family::NodeMemory | Family::ContainerMemory => self.memory_bytes = Some(whole(value)),
            Family::NodeSwap | Family::ContainerSwap => self.swap_bytes = Some(whole(value)),
            Family::ContainerStart => {
                self.start_ms = i64::try_from(whole(value * 1e3)).ok();
            }
        }
        true
    }

    /// What `later` knows takes the place of what this one knew.
    fn merge(&mut self, later: &Self) {
        if later.cpu_ns.is_some() {
            (self.cpu_ns, self.at_ms) = (later.cpu_ns, later.at_ms);
        }
        self.memory_bytes = later.memory_bytes.or(self.memory_bytes);
        self.swap_bytes = later.swap_bytes.or(self.swap_bytes);
        self.start_ms = later.start_ms.or(self.start_ms);
        self.broken |= later.broken;
    }

    /// The point, if it is complete.
    fn point(&self, request_ms: i64) -> Option<Point> {
        if self.broken {
            return None;
        }
        Some(Point {
            at_ms: self.at_ms.unwrap_or(request_ms),
            start_ms: self.start_ms,
            cpu_ns: self.cpu_ns.filter(|cpu| *cpu > 0)?,
            memory_bytes: self.memory_bytes.filter(|memory| *memory > 0)?,
            swap_bytes: self.swap_bytes,
        })
    }
}

/// The whole part, as upstream converts; what is too large saturates.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the caller has seen that it is not negative; truncating is meant"
    )]
    let whole = value as u64;
    whole
}

/// Positions in the decoder's text.
type Span = Range<usize>;

#[derive(Clone, Debug)]
struct Container {
    /// The labels as they were written, braces included.
    labels: Span,
    namespace: Span,
    pod: Span,
    name: Span,
    reading: Reading,
}

/// Takes a body in pieces.
#[derive(Debug)]
pub struct Decoder {
    request_ms: i64,
    /// The start of a line whose end has not arrived.
    carry: Vec<u8>,
    /// Inside a line that is too long.
    skipping: bool,
    /// All names and labels of this node.
    text: String,
    containers: Vec<Container>,
    /// The family of the line before, and the place in `containers` where the next line of it is expected.
    expected: (Option<Family>, usize),
    node: Option<Reading>,
    report: Report,
    overflow: bool,
}

impl Decoder {
    /// A decoder of the answer to a request that was sent at `request_ms`, milliseconds since the epoch.
    #[must_use]
    pub fn new(request_ms: i64) -> Self {
        Self {
            request_ms,
            carry: Vec::new(),
            skipping: false,
            text: String::new(),
            containers: Vec::new(),
            expected: (None, 0),
            node: None,
            report: Report::default(),
            overflow: false,
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// [`DecodeError::TooManyContainers`]; more of the body changes nothing then.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), DecodeError> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            piece = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.carry.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.carry);
                whole.extend_from_slice(line);
                self.line(&whole);
                whole.clear();
                self.carry = whole;
            }
            if self.overflow {
                return Err(DecodeError::TooManyContainers);
            }
        }
        if !self.skipping {
            self.carry.extend_from_slice(piece);
            if self.carry.len() > LINE_BYTES_MAX {
                let line = std::mem::take(&mut self.carry);
                self.malformed(&line);
                self.skipping = true;
            }
        }
        Ok(())
    }

    /// What the body says, once all of it was taken.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn finish(mut self) -> Result<(NodeBatch, Report), DecodeError> {
        if !self.carry.is_empty() {
            let line = std::mem::take(&mut self.carry);
            self.line(&line);
        }
        if self.overflow {
            return Err(DecodeError::TooManyContainers);
        }
        let is_empty = self.node.is_none() && self.containers.is_empty();
        if is_empty && self.report.malformed_lines == 0 {
            return Err(DecodeError::NoMetrics);
        }
        let node = self.node.and_then(|reading| reading.point(self.request_ms));
        self.report.incomplete_node = self.node.is_some() && node.is_none();
        let pods = self.pods();
        let malformed_lines = self.report.malformed_lines;
        // To store it would say that the node and its pods are gone.
        if node.is_none() && pods.is_empty() && malformed_lines > 0 {
            let first = self.report.first_malformed.unwrap_or_default();
            return Err(DecodeError::Unreadable { malformed_lines, first });
        }
        Ok((NodeBatch { node, pods }, self.report))
    }

    fn line(&mut self, line: &[u8]) {
        let Some((family, name_len)) = Family::of(line) else { return };
        if line.len() > LINE_BYTES_MAX {
            return self.malformed(line);
        }
        match family {
            Family::NodeCpu | Family::NodeMemory | Family::NodeSwap => {
                let node = self.node.get_or_insert_default();
                let sample = parse(line).map(|(_, sample)| sample);
                if !sample.is_some_and(|sample| node.take(family, sample)) {
                    self.malformed(line);
                }
            }
            Family::ContainerCpu
            | Family::ContainerMemory
            | Family::ContainerStart
            | Family::ContainerSwap => self.container_line(family, line, name_len),
        }
    }

    fn container_line(&mut self, family: Family, line: &[u8], name_len: usize) {
        let start = if self.expected.0 == Some(family) { self.expected.1 } else { 0 };
        let known = (start..self.containers.len()).take(LOOK_AHEAD).find_map(|place| {
            let labels = &self.text.as_bytes()[self.containers[place].labels.clone()];
            let len = name_len + labels.len();
            line[name_len..].starts_with(labels).then_some((place, len))
        });
        if let Some((place, len)) = known
            && let Some(sample) = Parser::new(line).sample_after(len)
        {
            self.expected = (Some(family), place + 1);
            if !self.containers[place].reading.take(family, sample) {
                self.containers[place].reading.broken = true;
                self.malformed(line);
            }
            return;
        }
        let mut reading = Reading::default();
        let parsed = parse(line);
        let labels = match parsed {
            Some((series, sample)) if reading.take(family, sample) => series.get(name_len..),
            _ => {
                self.malformed(line);
                reading = Reading { broken: true, ..Reading::default() };
                braces(line)
            }
        };
        // Without labels there is no pod that the line could belong to.
        let Some(labels) = labels else { return };
        let at_end = start >= self.containers.len();
        self.add(labels, reading);
        // What comes next is more likely to follow what was expected here than what was just added.
        self.expected = (Some(family), if at_end { self.containers.len() } else { start });
    }

    /// Adds a container; one that is known already is merged in the end.
    fn add(&mut self, labels: &str, reading: Reading) {
        if self.containers.len() >= CONTAINERS_MAX {
            self.overflow = true;
            return;
        }
        let spelled = format_args!("x{labels} 0").to_string();
        let Some(Ok(Entry::Sample(series, _))) = Parser::new(&spelled).next() else { return };
        let mut pairs = Vec::with_capacity(4);
        series.labels(&mut pairs);
        let mut append = |text: &str| {
            let start = self.text.len();
            self.text.push_str(text);
            start..self.text.len()
        };
        let written = append(labels);
        let [mut namespace, mut pod, mut name] = [const { None }; 3];
        for (label, value) in &pairs {
            match label.as_ref() {
                "namespace" => namespace = Some(append(value)),
                "pod" => pod = Some(append(value)),
                "container" => name = Some(append(value)),
                _ => {}
            }
        }
        let named = |span: &Option<Span>| span.as_ref().is_some_and(|span| !span.is_empty());
        if let (Some(namespace), Some(pod)) = (namespace, pod)
            && !namespace.is_empty()
            && !pod.is_empty()
        {
            // A line without a container's name still tells that the pod is not understood.
            let reading = if named(&name) { reading } else { Reading { broken: true, ..reading } };
            let name = name.unwrap_or(0..0);
            self.containers.push(Container { labels: written, namespace, pod, name, reading });
        } else {
            self.malformed(labels.as_bytes());
        }
    }

    fn malformed(&mut self, line: &[u8]) {
        self.report.malformed_lines += 1;
        if self.report.first_malformed.is_none() {
            let shown = &line[..line.len().min(QUOTE_BYTES_MAX)];
            self.report.first_malformed = Some(String::from_utf8_lossy(shown).into_owned());
        }
    }

    /// The complete pods, sorted by namespace and name, with their containers sorted by name.
    fn pods(&mut self) -> Vec<PodPoints> {
        let Self { text, containers, report, request_ms, .. } = self;
        let of = |span: &Span| &text[span.clone()];
        let key = |c: &Container| (of(&c.namespace), of(&c.pod), of(&c.name));
        // Stable, so that of equal series the later comes later.
        containers.sort_by(|a, b| key(a).cmp(&key(b)));
        containers.dedup_by(|later, earlier| {
            let equal = key(later) == key(earlier);
            if equal {
                earlier.reading.merge(&later.reading);
            }
            equal
        });
        let same_pod = |a: &Container, b: &Container| {
            (of(&a.namespace), of(&a.pod)) == (of(&b.namespace), of(&b.pod))
        };
        let mut pods = Vec::new();
        for pod in containers.chunk_by(same_pod) {
            let points = pod.iter().map(|container| {
                let point = container.reading.point(*request_ms)?;
                Some((Box::from(of(&container.name)), point))
            });
            match points.collect::<Option<Vec<_>>>() {
                Some(containers) => pods.push(PodPoints {
                    namespace: Box::from(of(&pod[0].namespace)),
                    name: Box::from(of(&pod[0].pod)),
                    containers,
                }),
                None => report.incomplete_pods += 1,
            }
        }
        pods
    }
}

/// The series on a line as it is written, and its sample; `None` if the line is not exactly one sample.
fn parse(line: &[u8]) -> Option<(&str, Value)> {
    let mut parser = Parser::new(line);
    match parser.next()? {
        Ok(Entry::Sample(series, sample)) if parser.rest().is_empty() => {
            Some((series.text(), sample))
        }
        _ => None,
    }
}

/// What stands in braces on a line that is malformed after them.
fn braces(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok()?;
    let (start, end) = (text.find('{')?, text.rfind('}')?);
    text.get(start..=end)
}

#[cfg(test)]
mod tests;

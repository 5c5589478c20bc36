//! Tables in kubectl's layout: columns as wide as their widest cell and three blanks, the last one too.

use std::collections::BTreeMap;

use super::usage::{Amounts, Capacity, NodeUsage, PodUsage};
use super::{SortBy, TableFlags};

const PADDING: usize = 3;
const COLUMN_WIDTH_MIN: usize = 6;
const MIB: i64 = 1 << 20;
const UNKNOWN: &str = "<unknown>";

/// Rows of cells, all of the same length.
#[derive(Debug, Default)]
struct Rows(Vec<Vec<String>>);

impl Rows {
    fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.0.push(cells.into_iter().map(Into::into).collect());
    }

    fn print(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            (widest + PADDING).max(COLUMN_WIDTH_MIN)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(&format!("{cell:<width$}"));
            }
            text.push('\n');
        }
        text
    }
}

/// CPU, memory and, if wanted, swap.
fn cells(amounts: Amounts, swap: bool) -> Vec<String> {
    let mut cells =
        vec![format!("{}m", amounts.millicores()), format!("{}Mi", amounts.memory_bytes / MIB)];
    if swap {
        cells.push(format!("{}Mi", amounts.swap_bytes / MIB));
    }
    cells
}

/// What sorts first: the most of a resource, then by name.
fn rank(sort_by: Option<SortBy>, amounts: Amounts) -> i64 {
    match sort_by {
        Some(SortBy::Cpu) => -amounts.millicores(),
        Some(SortBy::Memory) => -amounts.memory_bytes,
        None => 0,
    }
}

/// `kubectl top nodes`
pub(super) struct NodeTable<'a> {
    pub(super) usages: Vec<NodeUsage>,
    pub(super) capacities: Vec<Capacity>,
    pub(super) flags: &'a TableFlags,
}

impl NodeTable<'_> {
    /// Nodes that have no metrics come last.
    pub(super) fn print(mut self) -> String {
        let TableFlags { sort_by, no_headers, show_swap, .. } = *self.flags;
        self.usages
            .sort_by_cached_key(|node| (rank(sort_by, node.amounts()), node.metadata.name.clone()));
        let mut rows = Rows::default();
        if !no_headers {
            let swap = ["SWAP(bytes)", "SWAP(%)"];
            let names = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
            rows.push(names.iter().chain(swap.iter().filter(|_| show_swap)).copied());
        }
        let mut capacities: BTreeMap<_, _> =
            self.capacities.iter().map(|capacity| (&*capacity.node, capacity)).collect();
        for node in &self.usages {
            let capacity = capacities.remove(&*node.metadata.name);
            let mut row = vec![node.metadata.name.clone()];
            row.extend(node_cells(node.amounts(), capacity, show_swap));
            rows.push(row);
        }
        let unknown = vec![UNKNOWN; if show_swap { 6 } else { 4 }];
        for name in capacities.keys() {
            rows.push([*name].into_iter().chain(unknown.iter().copied()));
        }
        rows.print()
    }
}

fn node_cells(used: Amounts, capacity: Option<&Capacity>, swap: bool) -> Vec<String> {
    let of =
        |part: i64, whole: Option<i64>| whole.map_or(UNKNOWN.into(), |whole| percent(part, whole));
    let amounts = cells(used, swap);
    let mut all = vec![
        amounts[0].clone(),
        of(used.millicores(), capacity.and_then(|capacity| capacity.millicores)),
        amounts[1].clone(),
        of(used.memory_bytes, capacity.and_then(|capacity| capacity.memory_bytes)),
    ];
    if swap {
        // Without the node's word on its swap kubectl does not believe the usage either.
        match capacity.and_then(|capacity| capacity.swap_bytes) {
            Some(whole) => all.extend([amounts[2].clone(), percent(used.swap_bytes, whole)]),
            None => all.extend([UNKNOWN, UNKNOWN].map(String::from)),
        }
    }
    all
}

/// Truncated, as kubectl does; nothing of nothing is none of it.
fn percent(part: i64, whole: i64) -> String {
    let percent = if whole == 0 { 0 } else { i128::from(part) * 100 / i128::from(whole) };
    format!("{percent}%")
}

/// `kubectl top pods`
pub(super) struct PodTable<'a> {
    pub(super) usages: Vec<PodUsage>,
    pub(super) with_namespace: bool,
    pub(super) containers: bool,
    pub(super) sum: bool,
    pub(super) flags: &'a TableFlags,
}

impl PodTable<'_> {
    pub(super) fn print(mut self) -> String {
        let TableFlags { sort_by, no_headers, show_swap, .. } = *self.flags;
        self.usages.sort_by_cached_key(|pod| {
            let namespace = self.with_namespace.then(|| pod.metadata.namespace.clone());
            (rank(sort_by, pod.amounts()), namespace, pod.metadata.name.clone())
        });
        let mut names = Vec::new();
        names.extend(self.with_namespace.then_some("NAMESPACE"));
        names.extend(self.containers.then_some("POD"));
        names.extend(["NAME", "CPU(cores)", "MEMORY(bytes)"]);
        names.extend(show_swap.then_some("SWAP(bytes)"));
        let mut rows = Rows::default();
        if !no_headers {
            rows.push(names.iter().copied());
        }
        for pod in &mut self.usages {
            let mut first = Vec::new();
            first.extend(self.with_namespace.then(|| pod.metadata.namespace.clone()));
            first.push(pod.metadata.name.clone());
            if !self.containers {
                rows.push(first.into_iter().chain(cells(pod.amounts(), show_swap)));
                continue;
            }
            let by =
                |c: &super::usage::ContainerUsage| (rank(sort_by, c.amounts()), c.name.clone());
            pod.containers.sort_by_cached_key(by);
            for container in &pod.containers {
                let name = [container.name.clone()];
                rows.push(
                    first.iter().cloned().chain(name).chain(cells(container.amounts(), show_swap)),
                );
            }
        }
        if self.sum {
            let total =
                self.usages.iter().map(PodUsage::amounts).fold(Amounts::default(), Amounts::plus);
            let total = cells(total, show_swap);
            let blank = vec![String::new(); names.len() - total.len()];
            let rule = vec![String::from("________"); total.len()];
            rows.push(blank.iter().cloned().chain(rule));
            rows.push(blank.into_iter().chain(total));
        }
        rows.print()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flags() -> TableFlags {
        TableFlags { selector: None, sort_by: None, no_headers: false, show_swap: false }
    }

    fn node(name: &str, cpu: &str, memory: &str) -> NodeUsage {
        let usage = json!({"cpu": cpu, "memory": memory, "swap": "512Mi"});
        serde_json::from_value(json!({"metadata": {"name": name}, "usage": usage})).unwrap()
    }

    fn capacity(node: &str, swap_bytes: Option<i64>) -> Capacity {
        let memory_bytes = Some(8 << 30);
        Capacity { node: node.into(), millicores: Some(4000), memory_bytes, swap_bytes }
    }

    fn nodes(flags: &TableFlags) -> String {
        let usages = vec![node("b", "250m", "4294967296"), node("a", "1250000001n", "1073741823")];
        let capacities =
            vec![capacity("a", Some(1 << 30)), capacity("b", None), capacity("c", None)];
        NodeTable { usages, capacities, flags }.print()
    }

    #[test]
    fn nodes_are_printed_as_kubectl_does() {
        let expected = "\
NAME   CPU(cores)   CPU(%)      MEMORY(bytes)   MEMORY(%)   
a      1251m        31%         1023Mi          12%         
b      250m         6%          4096Mi          50%         
c      <unknown>    <unknown>   <unknown>       <unknown>   
";
        assert_eq!(nodes(&flags()), expected);
        let swap = TableFlags {
            show_swap: true,
            no_headers: true,
            sort_by: Some(SortBy::Memory),
            ..flags()
        };
        let expected = "\
b     250m        6%          4096Mi      50%         <unknown>   <unknown>   
a     1251m       31%         1023Mi      12%         512Mi       50%         
c     <unknown>   <unknown>   <unknown>   <unknown>   <unknown>   <unknown>   
";
        assert_eq!(nodes(&swap), expected);
    }

    fn pods() -> Vec<PodUsage> {
        let pod = |namespace: &str, name: &str, containers: &[(&str, &str, &str)]| {
            let containers: Vec<_> = containers
                .iter()
                .map(|(name, cpu, memory)| {
                    json!({"name": name, "usage": {"cpu": cpu, "memory": memory}})
                })
                .collect();
            let metadata = json!({"name": name, "namespace": namespace});
            serde_json::from_value(json!({"metadata": metadata, "containers": containers})).unwrap()
        };
        vec![
            pod("z", "web", &[("side", "1n", "1Mi"), ("app", "100m", "64Mi")]),
            pod("a", "zed", &[("app", "2", "1Gi")]),
        ]
    }

    fn print_pods(with_namespace: bool, containers: bool, sum: bool, flags: &TableFlags) -> String {
        PodTable { usages: pods(), with_namespace, containers, sum, flags }.print()
    }

    #[test]
    fn pods_are_printed_as_kubectl_does() {
        let expected = "\
NAME   CPU(cores)   MEMORY(bytes)   
web    101m         65Mi            
zed    2000m        1024Mi          
";
        assert_eq!(print_pods(false, false, false, &flags()), expected);
        let expected = "\
NAMESPACE   POD   NAME   CPU(cores)   MEMORY(bytes)   
a           zed   app    2000m        1024Mi          
z           web   app    100m         64Mi            
z           web   side   1m           1Mi             
                         ________     ________        
                         2101m        1089Mi          
";
        assert_eq!(print_pods(true, true, true, &flags()), expected);
        let sorted = TableFlags { sort_by: Some(SortBy::Cpu), no_headers: true, ..flags() };
        let expected = "\
a           zed   2000m   1024Mi   
z           web   101m    65Mi     
";
        // Without headers the columns are as wide as their values.
        assert_eq!(
            print_pods(true, false, false, &sorted),
            expected.replace("           ", "     ")
        );
    }
}

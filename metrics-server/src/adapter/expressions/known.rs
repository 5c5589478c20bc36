//! What is kept of the expressions, and how much of it at most.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{MatchOp, Matcher};
use promql::ParseOptions;
use promql::ast::ValueType;

use super::object::ExpressionMap;
use super::{
    BYTES_MAX, EXPRESSION_BYTES_MAX, EXPRESSIONS_MAX, Expression, MAPS_MAX, NAMESPACE_BYTES_MAX,
    NAMESPACE_MAPS_MAX, RESTRICTED_BYTES_MAX,
};

/// What an expression takes besides its texts.
const OVERHEAD: usize = 96;

/// The expressions of one object.
#[derive(Debug, Default)]
struct Kept {
    expressions: BTreeMap<String, Expression>,
    bytes: usize,
}

/// The expressions of all objects, within the bounds.
#[derive(Debug, Default)]
pub(super) struct Known {
    namespaces: HashMap<String, BTreeMap<String, Kept>>,
    maps: usize,
    bytes: usize,
    /// Whether an object was left alone for want of room since this was empty.
    has_left_alone: bool,
    /// Whether there has been more room since then.
    has_freed: bool,
}

impl Known {
    /// The objects of `namespace` with this key, by name, and what stands there.
    pub(super) fn get<'a>(
        &'a self,
        namespace: &str,
        metric: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Expression)> {
        let maps = self.namespaces.get(namespace).into_iter().flatten();
        maps.filter_map(move |(name, kept)| Some((name.as_str(), kept.expressions.get(metric)?)))
    }

    /// How many objects there are.
    pub(super) const fn len(&self) -> usize {
        self.maps
    }

    /// Whether an object that was left alone may have its place now. Only a new list tells.
    pub(super) const fn wants_list(&self) -> bool {
        self.has_left_alone && self.has_freed
    }

    /// Takes an object, or what it has become. Without room for it, none of its expressions is known.
    pub(super) fn insert(&mut self, map: &ExpressionMap) {
        let Some((namespace, name)) = map.name() else { return };
        let is_new = self.namespaces.get(namespace).is_none_or(|maps| !maps.contains_key(name));
        // Before its expressions are parsed, which is most of the work.
        if is_new && let Some(bound) = self.full(namespace, 0) {
            self.leave_alone(namespace, name, &bound);
            return;
        }
        let kept = read_all(map, namespace, name);
        if let Some(before) = self.take_out(namespace, name) {
            self.has_freed |= kept.bytes < before;
        }
        if let Some(bound) = self.full(namespace, kept.bytes) {
            self.has_freed |= !is_new;
            self.leave_alone(namespace, name, &bound);
            return;
        }
        self.maps += 1;
        self.bytes += kept.bytes;
        self.namespaces.entry(namespace.to_owned()).or_default().insert(name.to_owned(), kept);
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, map: &ExpressionMap) {
        if let Some((namespace, name)) = map.name() {
            self.has_freed |= self.take_out(namespace, name).is_some();
        }
    }

    /// The bytes that it took; nothing if it was not known.
    fn take_out(&mut self, namespace: &str, name: &str) -> Option<usize> {
        let maps = self.namespaces.get_mut(namespace)?;
        let kept = maps.remove(name)?;
        self.maps -= 1;
        self.bytes -= kept.bytes;
        if maps.is_empty() {
            self.namespaces.remove(namespace);
        }
        Some(kept.bytes)
    }

    /// Which bound stands against one more object of this size.
    fn full(&self, namespace: &str, bytes: usize) -> Option<String> {
        let (maps, used) = self.namespaces.get(namespace).map_or((0, 0), |maps| {
            (maps.len(), maps.values().map(|kept| kept.bytes).sum::<usize>())
        });
        if maps >= NAMESPACE_MAPS_MAX {
            return Some(format!("{NAMESPACE_MAPS_MAX} ConfigMaps of its namespace"));
        }
        if used + bytes > NAMESPACE_BYTES_MAX {
            return Some(format!("{NAMESPACE_BYTES_MAX} bytes of expressions of its namespace"));
        }
        if self.maps >= MAPS_MAX {
            return Some(format!("{MAPS_MAX} ConfigMaps"));
        }
        let is_full = self.bytes + bytes > BYTES_MAX;
        is_full.then(|| format!("{BYTES_MAX} bytes of expressions"))
    }

    fn leave_alone(&mut self, namespace: &str, name: &str, bound: &str) {
        self.has_left_alone = true;
        tracing::warn!(namespace, name, bound, "no room for the expressions of this ConfigMap");
    }
}

fn read_all(map: &ExpressionMap, namespace: &str, name: &str) -> Kept {
    if map.data.is_cut {
        tracing::warn!(
            namespace,
            name,
            "more than {EXPRESSIONS_MAX} expressions: the others are left out"
        );
    }
    let mut kept = Kept::default();
    for (key, text) in &map.data.entries {
        let expression = match text {
            Some(text) => read(text, namespace),
            None => Err(Arc::from(format!("longer than {EXPRESSION_BYTES_MAX} bytes"))),
        };
        let text = match &expression {
            Ok(query) => query,
            Err(why) => {
                tracing::warn!(namespace, name, key, %why, "an expression cannot be asked");
                why
            }
        };
        kept.bytes += OVERHEAD + key.len() + text.len();
        kept.expressions.insert(key.clone(), expression);
        if kept.bytes > NAMESPACE_BYTES_MAX {
            // It will not be taken: no need for the rest.
            break;
        }
    }
    kept
}

/// The expression limited to `namespace`.
fn read(text: &str, namespace: &str) -> Expression {
    // Without experimental functions: info() reads series that no selector names.
    let parsed = promql::parse(text.trim(), &ParseOptions::default());
    let mut expr = parsed.map_err(|error| Arc::<str>::from(error.to_string()))?;
    let kind = expr.value_type();
    if !matches!(kind, ValueType::Vector | ValueType::Scalar) {
        return Err(Arc::from(format!("a {kind} is no metric, an instant vector or a scalar is")));
    }
    let matcher = Matcher::new("namespace", MatchOp::Equal, namespace);
    expr.restrict(&matcher.map_err(|error| Arc::<str>::from(error.to_string()))?);
    let restricted = expr.to_string();
    if restricted.len() > RESTRICTED_BYTES_MAX {
        let why = format!("longer than {RESTRICTED_BYTES_MAX} bytes with its namespace");
        return Err(Arc::from(why));
    }
    Ok(Arc::from(restricted))
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    fn has(known: &Known, namespace: &str, metric: &str) -> bool {
        known.get(namespace, metric).next().is_some()
    }

    /// Expressions of about 16 KiB each.
    fn large(count: usize) -> Vec<(String, String)> {
        let text = format!("up{{a=\"{}\"}}", "x".repeat(EXPRESSION_BYTES_MAX - 16));
        (0..count).map(|n| (format!("m{n}"), text.clone())).collect()
    }

    fn map_of(namespace: &str, name: &str, data: &[(String, String)]) -> ExpressionMap {
        let data: Vec<_> = data.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        map(namespace, name, &data)
    }

    #[test]
    fn a_namespace_has_so_many_objects_and_no_more() {
        let mut known = Known::default();
        for n in 0..=NAMESPACE_MAPS_MAX {
            known.insert(&map("shop", &format!("n{n}"), &[(&format!("m{n}"), "up")]));
        }
        assert_eq!(known.len(), NAMESPACE_MAPS_MAX);
        assert!(!has(&known, "shop", &format!("m{NAMESPACE_MAPS_MAX}")));
        assert!(!known.wants_list());
        // Another namespace is not concerned, and one that is known may still change.
        known.insert(&map("bank", "load", &[("rps", "up")]));
        known.insert(&map("shop", "n0", &[("new", "up")]));
        assert!(has(&known, "bank", "rps") && has(&known, "shop", "new"));
        assert!(!known.wants_list());
        known.remove(&map("shop", "n1", &[]));
        assert!(known.wants_list());
    }

    #[test]
    fn a_namespace_has_so_many_bytes_and_no_more() {
        let mut known = Known::default();
        known.insert(&map_of("shop", "a", &large(60)));
        assert!(has(&known, "shop", "m0"));
        known.insert(&map_of("shop", "b", &large(60)));
        assert_eq!(known.get("shop", "m0").map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
        known.insert(&map_of("bank", "b", &large(60)));
        assert!(has(&known, "bank", "m0"));
        // One that grows beyond them is not known by what it was.
        known.insert(&map_of("shop", "small", &large(1)));
        known.insert(&map_of("shop", "small", &large(10)));
        assert_eq!(known.get("shop", "m0").map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
        known.remove(&map("shop", "a", &[]));
        known.remove(&map("bank", "b", &[]));
        assert_eq!((known.maps, known.bytes, known.namespaces.len()), (0, 0, 0));
    }

    #[test]
    fn all_together_are_bounded() {
        let mut known = Known::default();
        known.insert(&map_of("n0", "load", &large(2)));
        let used = known.bytes;
        // As if others had the rest, with room for one more like it.
        known.bytes = BYTES_MAX - used;
        known.insert(&map_of("n1", "load", &large(2)));
        assert!(has(&known, "n1", "m0") && !known.has_left_alone);
        known.insert(&map_of("n2", "load", &large(2)));
        assert!(!has(&known, "n2", "m0") && known.has_left_alone);

        let mut known = Known::default();
        for n in 0..=MAPS_MAX {
            known.insert(&map(&format!("n{n}"), "load", &[]));
        }
        assert_eq!(known.len(), MAPS_MAX);
    }

    #[test]
    fn an_expression_that_its_namespace_makes_long_is_refused() {
        let text = ["a"; EXPRESSION_BYTES_MAX / 2].join("+");
        let mut known = Known::default();
        known.insert(&map("shop", "load", &[("rps", &text)]));
        let found = known.get("shop", "rps").map(|(_, expression)| expression.clone());
        let why = found.map(Result::unwrap_err).collect::<Vec<_>>();
        assert!(why[0].starts_with("longer than"), "{why:?}");
    }
}

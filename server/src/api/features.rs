//! `features`: what this server does, by Prometheus's names, for clients that ask before they use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use promql::ast::{AggregateOp, BinaryOp};

use super::json;
use crate::state::{Ready, Server};

type Category = BTreeMap<&'static str, bool>;

/// Keywords that are always part of the language.
const KEYWORDS: [&str; 8] =
    ["bool", "by", "group_left", "group_right", "ignoring", "offset", "on", "without"];

/// What stands in selectors, which Prometheus lists among the operators.
const SELECTOR_OPERATORS: [&str; 3] = ["=~", "!~", "@"];

const BINARY_OPERATORS: [BinaryOp; 18] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Mod,
    BinaryOp::Pow,
    BinaryOp::Atan2,
    BinaryOp::Equal,
    BinaryOp::NotEqual,
    BinaryOp::Less,
    BinaryOp::LessOrEqual,
    BinaryOp::Greater,
    BinaryOp::GreaterOrEqual,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Unless,
    BinaryOp::TrimUpper,
    BinaryOp::TrimLower,
];

/// `features`: by category and name, whether it is there.
pub(super) async fn features(State(server): State<Arc<Server>>, _: Ready) -> Response {
    json::data_response(&all(&server))
}

fn all(server: &Server) -> BTreeMap<&'static str, Category> {
    BTreeMap::from([
        (
            "api",
            Category::from([
                ("admin", server.enable_admin_api),
                ("lifecycle", server.reload_requests.is_some()),
                ("label_values_match", true),
                ("query_stats", true),
                ("query_warnings", true),
                ("time_range_labels", true),
                ("time_range_series", true),
                ("exclude_alerts", false),
                ("openapi_3.1", false),
                ("openapi_3.2", false),
                ("otlp_write_receiver", false),
                ("remote_write_receiver", false),
                ("search", false),
            ]),
        ),
        (
            "prometheus",
            Category::from([
                ("agent_mode", false),
                ("auto_reload_config", false),
                ("server_mode", true),
            ]),
        ),
        ("promql", language(server)),
        ("promql_functions", functions(server)),
        ("promql_operators", operators(server)),
        (
            "scrape",
            Category::from([
                ("extra_scrape_metrics", true),
                ("start_timestamp_zero_ingestion", false),
                ("type_and_unit_labels", server.type_and_unit_labels),
            ]),
        ),
        ("service_discovery_providers", Category::from([("http", true), ("static", true)])),
        (
            "tsdb",
            Category::from([
                ("delayed_compaction", false),
                ("exemplar_storage", true),
                ("histograms_st_encoding", false),
                ("isolation", true),
                ("native_histograms", true),
                ("st_storage", false),
                ("use_uncached_io", false),
                ("xor2_encoding", false),
            ]),
        ),
    ])
}

fn language(server: &Server) -> Category {
    let parse = server.parse;
    let mut category = Category::from([
        ("at_modifier", true),
        ("duration_expr", true),
        ("negative_offset", true),
        ("per_query_lookback_delta", true),
        ("subqueries", true),
        ("delayed_name_removal", server.delayed_name_removal),
        ("per_step_stats", server.per_step_stats),
        ("type_and_unit_labels", server.type_and_unit_labels),
        ("anchored", parse.extended_range_selectors),
        ("smoothed", parse.extended_range_selectors),
        ("fill", parse.binop_fill),
        ("fill_left", parse.binop_fill),
        ("fill_right", parse.binop_fill),
    ]);
    category.extend(KEYWORDS.map(|keyword| (keyword, true)));
    category
}

fn functions(server: &Server) -> Category {
    let experimental = server.parse.experimental_functions;
    let functions = promql::parse::functions().iter();
    functions.map(|f| (f.name, !f.experimental || experimental)).collect()
}

fn operators(server: &Server) -> Category {
    let mut category: Category =
        BINARY_OPERATORS.iter().map(|operator| (operator.as_str(), true)).collect();
    category.extend(SELECTOR_OPERATORS.map(|operator| (operator, true)));
    category.extend(AggregateOp::ALL.iter().map(|(operator, name)| {
        let experimental = matches!(operator, AggregateOp::Limitk | AggregateOp::LimitRatio);
        (*name, !experimental || server.parse.experimental_functions)
    }));
    category
}

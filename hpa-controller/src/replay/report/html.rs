//! The report as one page: no script, nothing from elsewhere, light or dark as the reader has it.

use std::fmt::Write;

use super::plot::{Line, Plot, escaped};
use super::rows::Rows;
use super::{Outcome, Report, moment};

/// Most rescales of an autoscaler that the page lists.
const RESCALES_SHOWN: usize = 200;

/// How many lines look different; further ones look like earlier ones.
const STYLES: usize = 6;

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--rule:#d8dee4;--c0:#0072b2;--c1:#d55e00;--c2:#00805c;\
--c3:#a8487e;--c4:#6f5f00;--c5:#5a4fcf;--rec:#6e7781;--mark:#b3261e}\
@media (prefers-color-scheme:dark){:root{--bg:#0f1318;--fg:#e6edf3;--dim:#9aa4af;--rule:#2b333c;--c0:#56b4e9;--c1:#f0883e;\
--c2:#3fc79a;--c3:#e38fc0;--c4:#e3c94b;--c5:#a59bf5;--rec:#8b949e;--mark:#ff7b72}}\
*{box-sizing:border-box}\
body{margin:0 auto;padding:1rem;max-width:72rem;background:var(--bg);color:var(--fg);font:1rem/1.5 system-ui,sans-serif}\
h1{font-size:1.4rem;margin:.2rem 0 .6rem}h2{font-size:1.1rem;margin:2rem 0 .4rem;overflow-wrap:anywhere}\
p,li{margin:.2rem 0}ul{padding-left:1.2rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}\
th:first-child,td:first-child{text-align:left;padding-left:0}td.sub{padding-left:1rem!important;color:var(--dim)}\
td{vertical-align:top}th.text,td.text{text-align:left}td.text{white-space:normal;overflow-wrap:anywhere;min-width:14rem}\
code{font-size:.85em;overflow-wrap:anywhere}\
figure{margin:1.6rem 0}figcaption{font-weight:600}\
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;padding:0;margin:.2rem 0 .8rem;color:var(--dim);font-size:.875rem}\
.legend li{overflow-wrap:anywhere}\
.key{width:1.5rem;height:.4rem;margin-right:.4rem;vertical-align:middle}\
.plot{position:relative;height:15rem;margin:0 .6rem 1.8rem 2.8rem}\
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}\
.x,.y{position:absolute;color:var(--dim);font-size:.75rem;line-height:1;white-space:nowrap}\
.y{right:100%;margin-right:.4rem;transform:translateY(-50%)}.x{top:100%;margin-top:.45rem;transform:translateX(-50%)}.end{transform:translateX(-100%)}\
path{fill:none;vector-effect:non-scaling-stroke;stroke-width:2;stroke-linejoin:round}\
.grid{stroke:var(--rule);stroke-width:1}.mark{stroke:var(--mark);stroke-width:1;stroke-dasharray:3 3}\
.recorded{stroke:var(--rec);stroke-dasharray:5 3;stroke-width:1.5}\
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}\
details{margin:.6rem 0}summary{cursor:pointer}\
@media (max-width:40rem){.odd{display:none}.plot{height:11rem}table{font-size:.85rem}th,td{padding:.2rem .5rem}}";

/// The report as an HTML document.
#[must_use]
pub fn html(report: &Report) -> String {
    let kind = if report.setting.simulated { "Simulation" } else { "Replay" };
    let labels: Vec<&str> = report.outcomes.iter().map(|outcome| outcome.label.as_str()).collect();
    let title = escaped(&format!("{kind}: {}", labels.join(", ")));
    let mut out = String::new();
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for sentence in report.assumptions() {
        let _ = writeln!(out, "<p>{}</p>", escaped(&sentence));
    }
    figures(&mut out, &Rows::of(report));
    for plot in plots(report) {
        plot.write(&mut out, &report.setting);
    }
    for outcome in &report.outcomes {
        details(&mut out, report, outcome);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn figures(out: &mut String, rows: &Rows) {
    out.push_str("<div class=\"wide\"><table>\n<thead><tr><th></th>");
    for column in &rows.columns {
        let _ = write!(out, "<th>{}</th>", escaped(column));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (name, cells) in &rows.rows {
        let class = if name.starts_with(' ') { " class=\"sub\"" } else { "" };
        let _ = write!(out, "<tr><td{class}>{}</td>", escaped(name.trim_start()));
        for cell in cells {
            let _ = write!(out, "<td>{}</td>", escaped(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn class(index: usize) -> String {
    format!("c{}", index % STYLES)
}

fn plots(report: &Report) -> Vec<Plot<'_>> {
    let mut replicas = Vec::new();
    let mut ratios = Vec::new();
    let mut demands: Vec<(Plot<'_>, &Outcome)> = Vec::new();
    for (index, outcome) in report.outcomes.iter().enumerate() {
        if report.shows_recorded(index)
            && let Some(recorded) = &outcome.recorded_replicas
        {
            replicas.push(Line {
                label: "recorded",
                class: String::from("recorded"),
                values: recorded.clone(),
                steps: true,
            });
        }
        let label = outcome.label.as_str();
        let after = outcome.trace.after.iter().copied().map(f64::from).collect();
        replicas.push(Line { label, class: class(index), values: after, steps: true });
        let values = outcome.trace.ratio.clone();
        ratios.push(Line { label, class: class(index), values, steps: false });
        for signal in &outcome.signals {
            let title = match (report.setting.simulated, signal.shared, signal.per_pod) {
                (true, ..) => format!("Demand: {}", signal.name),
                (false, true, true) => format!("Load: {} of all pods", signal.name),
                (false, true, false) => format!("Load: {} times recorded replicas", signal.name),
                (false, false, true) => format!("{}, mean of the pods", signal.name),
                (false, false, false) => signal.name.clone(),
            };
            // What several autoscalers were tried on is shown once.
            if demands.iter().any(|(plot, of)| plot.title == title && of.same_target(outcome)) {
                continue;
            }
            let values = signal.values_milli.iter().map(|value| value / 1000.0).collect();
            let line = Line { label: &outcome.target, class: class(0), values, steps: false };
            demands.push((Plot { title, lines: vec![line], mark: None }, outcome));
        }
    }
    let mut plots = vec![
        Plot { title: String::from("Replicas"), lines: replicas, mark: None },
        Plot {
            title: String::from("Usage as a share of the target, the highest of all metrics"),
            lines: ratios,
            mark: Some(1.0),
        },
    ];
    plots.extend(demands.into_iter().map(|(plot, _)| plot));
    plots
}

fn details(out: &mut String, report: &Report, outcome: &Outcome) {
    let Outcome { label, namespace, name, target, found, notes, trace, .. } = outcome;
    let heading = format!("{label}: {namespace}/{name}, target {target}");
    let _ = writeln!(out, "<h2>{}</h2>", escaped(&heading));
    if !notes.is_empty() || !trace.errors.is_empty() {
        out.push_str("<ul>\n");
        for note in notes {
            let _ = writeln!(out, "<li>{}</li>", escaped(note));
        }
        for (error, times) in &trace.errors {
            let error = escaped(error);
            let _ = writeln!(out, "<li>{times} decisions failed or were partial: {error}</li>");
        }
        out.push_str("</ul>\n");
    }
    if !found.is_empty() {
        out.push_str(
            "<div class=\"wide\"><table>\n<thead><tr><th>History</th><th>Points</th><th class=\"text\">Query</th></tr></thead>\n<tbody>\n",
        );
        for found in found {
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{} of {}</td><td class=\"text\"><code>{}</code></td></tr>",
                escaped(&found.what),
                found.points,
                found.of,
                escaped(&found.query)
            );
        }
        out.push_str("</tbody></table></div>\n");
    }
    if trace.rescales.is_empty() {
        return;
    }
    let shown = trace.rescales.len().min(RESCALES_SHOWN);
    let total = outcome.figures.scale_ups + outcome.figures.scale_downs;
    let of =
        if shown < total { format!("the first {shown} of {total}") } else { total.to_string() };
    let _ = write!(
        out,
        "<details><summary>Rescales: {of}</summary><div class=\"wide\"><table>\n\
         <thead><tr><th>Time</th><th>From</th><th>To</th><th class=\"text\">Reason</th></tr></thead>\n<tbody>\n"
    );
    for rescale in &trace.rescales[..shown] {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
            escaped(&moment(&report.setting, rescale.at)),
            rescale.from,
            rescale.to,
            escaped(&rescale.reason)
        );
    }
    out.push_str("</tbody></table></div></details>\n");
}

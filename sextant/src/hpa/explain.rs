//! `sextant hpa explain`: what an autoscaler decides and why, from files, a cluster, or a running controller.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use hpa_controller::decide::{Written, conclude, decide};
use hpa_controller::explain::objects::{Autoscaler, Objects, TEXT_BYTES_MAX};
use hpa_controller::explain::{Explanation, document};
use hpa_controller::state::Logged;
use hpa_controller::{Constants, Inputs};
use model::{Clock, SystemClock, Timestamp};

use super::SettingsFlags;
use super::live::{self, ClusterFlags, KnownFlags};

pub(super) const EXAMPLES: &str = "\
Examples:
  sextant hpa explain shop/web
      Ask the cluster of the kubeconfig for all that a controller would look at, and decide. Only reads.

  sextant hpa explain shop/web --controller=http://127.0.0.1:9099
      Ask a running controller for its last decision, which knows what it decided before.

  kubectl get -n shop hpa,deployments,pods,podmetrics.metrics.k8s.io -o yaml > shop.yaml
  sextant hpa explain -f shop.yaml
      Decide on what was saved.";

/// `sextant hpa explain`
#[derive(Debug, Args)]
pub(super) struct ExplainFlags {
    /// NAMESPACE/NAME of the autoscaler, or its NAME; with files all that are in them, if not given
    #[arg(value_name = "NAMESPACE/NAME", required_unless_present = "files")]
    autoscaler: Option<Wanted>,
    /// Objects as `kubectl get -o yaml` or `-o json` prints them, instead of a cluster; - is stdin
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Decide as of this time instead of now, such as 2026-11-26T20:00:00Z
    #[arg(long, value_name = "RFC3339", requires = "files", value_parser = time)]
    now: Option<Timestamp>,
    /// What to print
    #[arg(long, short = 'o', value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
    /// Ask the controller at this http:// address for its last decision, which knows what it decided before
    #[arg(long, value_name = "URL", conflicts_with = "files")]
    controller: Option<String>,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    known: KnownFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A story
    Text,
    /// All of it, as docs/hpa.md says
    Json,
}

/// An autoscaler that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    namespace: Option<String>,
    name: String,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text),
        };
        if !is_name(name) || !namespace.as_deref().is_none_or(is_name) {
            return Err(String::from("it is not of the form NAMESPACE/NAME"));
        }
        Ok(Self { namespace, name: name.to_owned() })
    }
}

/// Whether it is made of what names of the API are made of, so that it can stand in a URL.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.bytes().all(allowed)
}

impl Wanted {
    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| String::from("it is not RFC 3339"))?;
    Ok(time.as_millisecond())
}

/// Explains; the result is to be printed.
pub(super) fn run(flags: &ExplainFlags) -> anyhow::Result<String> {
    let explanations = match &flags.autoscaler {
        Some(wanted) if flags.files.is_empty() => vec![live(flags, wanted)?],
        _ => saved(flags)?,
    };
    print(&explanations, flags.output)
}

fn print(explanations: &[Explanation], output: Output) -> anyhow::Result<String> {
    if output == Output::Text {
        let stories: Vec<_> = explanations.iter().map(ToString::to_string).collect();
        return Ok(stories.join("\n"));
    }
    // One is what most ask for, and easier to take fields from.
    let mut text = match explanations {
        [one] => serde_json::to_string_pretty(one),
        all => serde_json::to_string_pretty(all),
    }
    .context("cannot write the explanation as JSON")?;
    text.push('\n');
    Ok(text)
}

/// What a cluster, or a controller of one, says.
fn live(flags: &ExplainFlags, wanted: &Wanted) -> anyhow::Result<Explanation> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        if let Some(url) = &flags.controller {
            return live::of_controller(url, wanted).await;
        }
        let constants = flags.settings.constants();
        let mut collected =
            live::collected(&flags.cluster, &flags.known, wanted, &constants).await?;
        let mut explanation = explain(&collected.inputs, SystemClock.now());
        explanation.notes.append(&mut collected.notes);
        Ok(explanation)
    })
}

/// What was saved to files.
fn saved(flags: &ExplainFlags) -> anyhow::Result<Vec<Explanation>> {
    let mut objects = Objects::default();
    for file in &flags.files {
        let text = read(file)?;
        objects.read(&file.to_string_lossy(), &text)?;
    }
    let now = flags.now.unwrap_or_else(|| SystemClock.now());
    let constants = flags.settings.constants();
    let wanted = |namespace: &str, name: &str| {
        flags.autoscaler.as_ref().is_none_or(|wanted| wanted.is(namespace, name))
    };
    let chosen = objects.autoscalers().filter(|it| wanted(&it.namespace, &it.name));
    let mut explanations: Vec<_> = chosen
        .map(|autoscaler| explain_saved(&objects, autoscaler, &constants, now, flags.now.is_none()))
        .collect();
    let logged = objects.logged().iter();
    let logged = logged.filter(|logged| wanted(&logged.key.namespace, &logged.key.name));
    explanations.extend(logged.map(explain_logged));
    if !explanations.is_empty() {
        return Ok(explanations);
    }
    let files: Vec<_> = flags.files.iter().map(|file| file.display().to_string()).collect();
    let files = files.join(", ");
    match &flags.autoscaler {
        None => bail!("no HorizontalPodAutoscaler in {files}"),
        Some(wanted) => {
            let known: Vec<_> =
                objects.autoscalers().map(|it| format!("{}/{}", it.namespace, it.name)).collect();
            let known = if known.is_empty() { String::from("none") } else { known.join(", ") };
            bail!("no HorizontalPodAutoscaler {wanted} in {files}; there is {known}")
        }
    }
}

fn explain_saved(
    objects: &Objects,
    autoscaler: &Autoscaler,
    constants: &Constants,
    now: Timestamp,
    is_present: bool,
) -> Explanation {
    let (inputs, mut notes) = objects.inputs(autoscaler, constants, now);
    if is_present {
        notes.extend(objects.stale(now));
    }
    let mut explanation = explain(&inputs, now);
    explanation.invalid = autoscaler.invalid(&constants.gates);
    explanation.notes.append(&mut notes);
    explanation
}

/// Decides, taking for granted that what is written arrives.
fn explain(inputs: &Inputs, now: Timestamp) -> Explanation {
    let decision = decide(inputs, now);
    let written = if decision.rescale { Written::Done } else { Written::NotAsked };
    let conclusion = conclude(inputs, &decision, &written, now);
    document(inputs, &decision, &conclusion)
}

/// A decision that a controller made, made again.
fn explain_logged(logged: &Logged) -> Explanation {
    let again = Logged { decision: logged.again(), ..logged.clone() };
    let mut explanation = hpa_controller::explain::logged(&again);
    if again.decision != logged.decision {
        let (before, now) = (logged.decision.desired_replicas, again.decision.desired_replicas);
        explanation.notes.push(if before == now {
            format!("the controller that logged this decided for {before} replicas too, by other numbers on the way")
        } else {
            format!("the controller that logged this decided differently: {before} instead of {now}")
        });
    }
    explanation
}

/// A file, or stdin for `-`.
pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let limit = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot open {name}"))?;
        opened.take(limit).read_to_end(&mut bytes)
    };
    read.with_context(|| format!("cannot read {name}"))?;
    String::from_utf8(bytes).map_err(|_| anyhow!("{name}: it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: ExplainFlags,
    }

    fn parse(arguments: &[&str]) -> Result<ExplainFlags, String> {
        let all = std::iter::once("explain").chain(arguments.iter().copied());
        Cli::try_parse_from(all).map(|cli| cli.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_places() {
        let wanted = |text: &str| text.parse::<Wanted>();
        assert!(wanted("shop/web").unwrap().is("shop", "web"));
        assert!(!wanted("shop/web").unwrap().is("other", "web"));
        assert!(wanted("web").unwrap().is("any", "web"));
        for wrong in ["", "/", "a/", "/b", "a/b/c", "a b", "a?b"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&[]).is_err());
        assert!(parse(&["web", "--now=2026-11-26T20:00:00Z"]).is_err());
        assert!(parse(&["-f", "a", "--controller=http://x"]).is_err());
        let flags = parse(&["-f", "a.yaml", "-f", "-", "--now=1970-01-01T00:00:01Z"]).unwrap();
        assert_eq!((flags.files.len(), flags.now), (2, Some(1000)));
    }

    #[test]
    fn settings_are_those_of_the_controller() {
        assert_eq!(parse(&["web"]).unwrap().settings.constants(), Constants::default());
        let flags = parse(&[
            "web",
            "--horizontal-pod-autoscaler-tolerance=0.2",
            "--horizontal-pod-autoscaler-downscale-stabilization=1m",
            "--horizontal-pod-autoscaler-cpu-initialization-period=2m",
            "--horizontal-pod-autoscaler-initial-readiness-delay=10s",
            "--feature-gates=HPAScaleToZero=true,PodLevelResources=false",
        ]);
        let given = flags.unwrap().settings.constants();
        assert_eq!(given.tolerance, 0.2);
        assert_eq!(given.downscale_stabilization_ms, 60_000);
        assert_eq!(given.cpu_initialization_period_ms, 120_000);
        assert_eq!(given.initial_readiness_delay_ms, 10_000);
        assert!(given.gates.scale_to_zero && !given.gates.pod_level_resources);
        assert!(given.gates.configurable_tolerance);
        assert!(parse(&["web", "--feature-gates=Other=true"]).is_err());
        assert!(parse(&["web", "--horizontal-pod-autoscaler-tolerance=-1"]).is_err());
    }

    /// Files of these contents, explained with these arguments. In place of a file's path stands its name.
    fn explained(files: &[(&str, &str)], arguments: &[&str]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            all.push(format!("--filename={}", path.display()));
        }
        let all: Vec<&str> =
            all.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let folder = format!("{}/", folder.path().display());
        run(&parse(&all)?).map_err(|error| format!("{error:#}").replace(&folder, ""))
    }

    const AUTOSCALER: &str = "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 10
";

    #[test]
    fn bad_files_are_told_by_name_and_document() {
        let second =
            |from: &str, to: &str| format!("{AUTOSCALER}---\n{}", AUTOSCALER.replace(from, to));
        let broken = second("{name: web, ", "{name: [web, ");
        let field = second("maxReplicas: 10", "maxReplicas: [10]");
        let version = second("autoscaling/v2", "autoscaling/v2beta2");
        let two = second("maxReplicas: 10", "maxReplicas: 11");
        for (text, expected) in [
            (broken.as_str(), "a.yaml: document 2: "),
            ("{\"apiVersion\": \"v1\", ", "a.yaml: document 1: EOF while parsing"),
            (&field, "a.yaml: document 2: spec.maxReplicas: invalid type: sequence"),
            (
                &version,
                "a.yaml: document 2: apiVersion: autoscaling/v2beta2 is not a version of autoscalers that Kubernetes serves: autoscaling/v2 and autoscaling/v1 are",
            ),
            (
                &two,
                "a.yaml: document 2: HorizontalPodAutoscaler shop/web is in a.yaml: document 1 too, and differs there",
            ),
            ("a: 1\n", "a.yaml: document 1: kind: there is none"),
            ("apiVersion: v1\nkind: Gadget\n", "no HorizontalPodAutoscaler in a.yaml"),
            ("", "no HorizontalPodAutoscaler in a.yaml"),
        ] {
            let error = explained(&[("a.yaml", text)], &[]).unwrap_err();
            assert!(error.starts_with(expected), "{error}\n{text}");
        }
        let changed = AUTOSCALER.replace("maxReplicas: 10", "maxReplicas: 11");
        let error = explained(&[("a.yaml", AUTOSCALER), ("b.yaml", &changed)], &[]).unwrap_err();
        let expected = "b.yaml: document 1: HorizontalPodAutoscaler shop/web is in a.yaml: document 1 too, and differs there";
        assert_eq!(error, expected);
        let error = explained(&[("a.yaml", AUTOSCALER)], &["other/web"]).unwrap_err();
        assert_eq!(error, "no HorizontalPodAutoscaler other/web in a.yaml; there is shop/web");
        let error = run(&parse(&["-f", "/nonexistent/a.yaml"]).unwrap()).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot open /nonexistent/a.yaml: "), "{error:#}");
    }

    #[test]
    fn all_autoscalers_of_the_files_are_explained_or_the_one_that_is_named() {
        let other = AUTOSCALER.replace("{name: web, ", "{name: api, ");
        let both = [("a.yaml", AUTOSCALER), ("b.yaml", other.as_str())];
        let explained = |arguments: &[&str]| -> serde_json::Value {
            serde_json::from_str(&explained(&both, arguments).unwrap()).unwrap()
        };
        let all = explained(&["-o", "json"]);
        let names: Vec<_> =
            all.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["api", "web"]);
        let one = explained(&["-o", "json", "shop/web"]);
        assert_eq!((one["name"].as_str(), one["desiredReplicas"].as_i64()), (Some("web"), Some(0)));
    }

    #[test]
    fn flags_of_a_live_explanation_need_what_they_are_about() {
        let flags = parse(&["web", "--prometheus-header=a=b"]).unwrap();
        let error = run(&flags).unwrap_err().to_string();
        assert_eq!(error, "--prometheus-header: it needs --prometheus-url");
        for wrong in [
            &["-f", "a", "--prometheus-url=http://x"][..],
            &["web", "--controller=http://x", "--prometheus-url=http://x"],
            &["-f", "a", "--state-config-maps=a/b"],
            &["web", "--state-config-maps=a/b/c"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}

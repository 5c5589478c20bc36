//! `sextant hpa steer`: autoscalers for clusters whose own controller cannot be turned off.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use hpa_controller::steer::{Direction, rewrite};

pub(super) const EXAMPLES: &str = "\
Examples:
  sextant hpa steer -f hpa.yaml | kubectl apply -f -
      From now on the cluster's own controller scales to what `sextant hpa-controller` decides from hpa.yaml. Needs
      `sextant metrics-server --hpa-controller-url` behind external.metrics.k8s.io.

  kubectl get hpa web -o yaml | sextant hpa steer -f - --undo | kubectl apply -f -
      Give it back.";

/// `sextant hpa steer`
#[derive(Debug, Args)]
pub(super) struct SteerFlags {
    /// Manifest with HorizontalPodAutoscalers; - is stdin
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print what the autoscalers were before
    #[arg(long)]
    undo: bool,
}

/// The manifests, rewritten.
pub(super) fn run(flags: &SteerFlags) -> anyhow::Result<String> {
    let direction = if flags.undo { Direction::Unsteer } else { Direction::Steer };
    let mut out = String::new();
    for file in &flags.files {
        let text = super::explain::read(file)?;
        let rewritten = rewrite(&text, direction).with_context(|| format!("{}", file.display()))?;
        if !out.is_empty() {
            out.push_str("---\n");
        }
        out.push_str(&rewritten);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_manifests_are_told_by_name_and_document() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        for (text, expected) in [
            ("", "there is no HorizontalPodAutoscaler in it"),
            ("kind: Gadget\n", "document 1: it is a Gadget, not a HorizontalPodAutoscaler"),
            ("a: [\n", "document 1: "),
            (
                "apiVersion: autoscaling/v3\nkind: HorizontalPodAutoscaler\n",
                "document 1: apiVersion: autoscaling/v3 is not a version of autoscalers",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let flags = SteerFlags { files: vec![path.clone()], undo: false };
            let error = format!("{:#}", run(&flags).unwrap_err());
            let expected = format!("{}: {expected}", path.display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}

//! Which cluster: how commands and daemons come to the configuration of a client.

use std::path::Path;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The current context of the kubeconfig at `path`.
pub(crate) async fn from_file(path: &Path) -> anyhow::Result<kube::Config> {
    of_context(path, &KubeConfigOptions::default()).await
}

/// What a command of a person goes by: the kubeconfig at `path`, else `$KUBECONFIG` or `~/.kube/config`, else the pod's ServiceAccount.
/// `context` is one of the kubeconfig's, its current one if not given.
pub(crate) async fn for_person(
    path: Option<&Path>,
    context: Option<&str>,
) -> anyhow::Result<kube::Config> {
    let options =
        KubeConfigOptions { context: context.map(String::from), ..KubeConfigOptions::default() };
    Ok(match path {
        Some(path) => of_context(path, &options).await?,
        None if context.is_some() => kube::Config::from_kubeconfig(&options).await?,
        None => kube::Config::infer().await?,
    })
}

async fn of_context(path: &Path, options: &KubeConfigOptions) -> anyhow::Result<kube::Config> {
    // It shows its cause, too: with the chain of causes that would be there twice.
    let file = Kubeconfig::read_from(path).map_err(|error| anyhow::anyhow!("{error}"))?;
    let config = kube::Config::from_custom_kubeconfig(file, options).await;
    config.with_context(|| format!("{}", path.display()))
}

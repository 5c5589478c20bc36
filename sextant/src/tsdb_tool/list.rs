//! `sextant tsdb list`

use anyhow::Context;
use tsdb::tools;

use super::{ListFlags, Tool, complain, format};

pub(super) fn run(tool: &mut Tool<'_>, flags: &ListFlags) -> anyhow::Result<bool> {
    let path = &flags.directory.path;
    let (blocks, broken) =
        tools::list(&tool.disk, path).with_context(|| format!("cannot read {}", path.display()))?;
    format::blocks(tool.out, &blocks, flags.human_readable)?;
    broken.iter().for_each(|what| complain(what));
    Ok(broken.is_empty())
}

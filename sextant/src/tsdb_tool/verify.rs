//! `sextant tsdb verify`

use anyhow::Context;
use tsdb::tools;

use super::{Tool, VerifyFlags, complain};
use crate::progress;

pub(super) fn run(tool: &mut Tool<'_>, flags: &VerifyFlags) -> anyhow::Result<bool> {
    let path = &flags.directory.path;
    let bar = progress::bar("verifying", 0);
    let findings = tools::verify(&tool.disk, path, &mut |part, done, total| {
        bar.set_message(part.strip_prefix(path).unwrap_or(part).display().to_string());
        bar.set_length(total);
        bar.set_position(done);
        true
    });
    bar.finish_and_clear();
    let findings = findings.with_context(|| format!("cannot read {}", path.display()))?;
    for finding in &findings {
        writeln!(tool.out, "{}:{}: {}", finding.path, finding.offset, finding.what)?;
    }
    match findings.len() {
        0 => complain(&format!("{}: nothing is damaged", path.display())),
        count => complain(&format!("{}: {count} damaged", path.display())),
    }
    Ok(findings.is_empty())
}

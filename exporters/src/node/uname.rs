//! `uname`: the kernel, by name.

use super::Collector;
use crate::CollectError;
use crate::families::Families;

/// Asks the system.
pub(super) struct Uname;

impl Collector for Uname {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        let uname = rustix::system::uname();
        let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
        families
            .gauge(
                "node_uname_info",
                "Labeled system information as provided by the uname system call.",
            )
            .add(
                &[
                    ("sysname", &text(uname.sysname())),
                    ("release", &text(uname.release())),
                    ("version", &text(uname.version())),
                    ("machine", &text(uname.machine())),
                    ("nodename", &text(uname.nodename())),
                    ("domainname", &text(uname.domainname())),
                ],
                1.0,
            );
        Ok(())
    }
}

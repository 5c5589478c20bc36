//! What the path of a cgroup tells about the container in it.

/// A container as its cgroup's path names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity<'a> {
    /// The runtime's id of the container, 64 hexadecimal digits; empty for other cgroups.
    pub(super) name: &'a str,
}

/// Digits of a container id.
const ID_LEN: usize = 64;

impl<'a> Identity<'a> {
    /// Reads the last part of `path`: the id alone with the cgroupfs driver, `<runtime>-<id>.scope` with systemd's.
    pub(super) fn of(path: &'a str) -> Self {
        let last = path.rsplit('/').next().unwrap_or_default();
        let scope = last.strip_suffix(".scope").unwrap_or(last);
        // `crio-conmon-<id>` watches a container and is none.
        let id = match scope.rsplit_once('-') {
            Some((runtime, id)) if !runtime.ends_with("conmon") => id,
            Some(_) => "",
            None => scope,
        };
        let is_id =
            id.len() == ID_LEN && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        Self { name: if is_id { id } else { "" } }
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn paths_of_the_usual_runtimes() {
        let id = "0123456789abcdef".repeat(4);
        for (path, name) in [
            (format!("/kubepods/burstable/pod1234/{id}"), id.as_str()),
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), &id),
            (format!("/kubepods.slice/crio-{id}.scope"), &id),
            (format!("/system.slice/docker-{id}.scope"), &id),
            (format!("/docker/{id}"), &id),
            (format!("/kubepods.slice/crio-conmon-{id}.scope"), ""),
            (format!("/a/{id}.mount"), ""),
            (String::from("/system.slice/ssh.service"), ""),
            (String::from("/"), ""),
            (id[..63].into(), ""),
        ] {
            assert_eq!(Identity::of(&path).name, name, "{path}");
        }
    }
}

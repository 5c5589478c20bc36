//! Made-up trees of cgroups, with values that are worked out by hand.

use std::fs;
use std::path::Path;

use super::{ContainerOptions, Containers};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path.replace("{ID}", ID));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn collect(root: &Path) -> String {
    let options = ContainerOptions { cgroupfs: root.join("cgroup"), sysfs: root.join("sys") };
    let mut out = Vec::new();
    Containers::new(options).collect(1_700_000_000_999, &mut out);
    String::from_utf8(out).unwrap().replace(ID, "{ID}")
}

fn check(text: &str, present: &[&str], absent: &[&str]) {
    for line in present {
        assert!(text.lines().any(|l| l == *line), "{line} is missing from\n{text}");
    }
    for part in absent {
        assert!(!text.contains(part), "{part} should not be in\n{text}");
    }
}

#[test]
fn version_2() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("sys/dev/block/8:0/uevent", "MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVTYPE=disk\n"),
            ("cgroup/cgroup.controllers", "cpu io memory pids\n"),
            ("cgroup/cgroup.procs", "1\n2\n"),
            ("cgroup/cpu.stat", "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\n"),
            ("cgroup/memory.stat", "anon 1000\nfile 500\ninactive_file 200\n"),
            ("cgroup/pod/{ID}/cgroup.procs", "7\n8\n9\n"),
            (
                "cgroup/pod/{ID}/cpu.stat",
                "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250000\n",
            ),
            ("cgroup/pod/{ID}/cpu.max", "50000 100000\n"),
            ("cgroup/pod/{ID}/cpu.weight", "100\n"),
            (
                "cgroup/pod/{ID}/cpu.pressure",
                "some avg10=0.00 total=2000000\nfull avg10=0.00 total=0\n",
            ),
            ("cgroup/pod/{ID}/memory.pressure", "some total=3000000\nfull total=1000000\n"),
            ("cgroup/pod/{ID}/io.pressure", "some total=4000000\nfull total=500000\n"),
            ("cgroup/pod/{ID}/memory.current", "4096\n"),
            ("cgroup/pod/{ID}/memory.peak", "8192\n"),
            ("cgroup/pod/{ID}/memory.max", "max\n"),
            ("cgroup/pod/{ID}/memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n"),
            (
                "cgroup/pod/{ID}/memory.stat",
                "anon 1024\nfile 2048\nfile_mapped 512\nactive_file 1\ninactive_file 1096\npgfault 5\npgmajfault 2\n",
            ),
            ("cgroup/pod/{ID}/pids.current", "3\n"),
            ("cgroup/pod/{ID}/pids.max", "max\n"),
            ("cgroup/pod/{ID}/io.stat", "8:0 rbytes=4096 wbytes=1 rios=2 wios=1 dbytes=0 dios=0\n"),
        ],
    );
    check(
        &collect(root.path()),
        &[
            r#"container_cpu_usage_seconds_total{cpu="total",id="/"} 5"#,
            r#"container_memory_usage_bytes{id="/"} 1500"#,
            r#"container_memory_working_set_bytes{id="/"} 1300"#,
            r#"container_processes{id="/"} 2"#,
            r#"container_cpu_usage_seconds_total{cpu="total",id="/pod/{ID}",name="{ID}"} 1.5"#,
            r#"container_cpu_system_seconds_total{id="/pod/{ID}",name="{ID}"} 0.5"#,
            r#"container_cpu_cfs_throttled_periods_total{id="/pod/{ID}",name="{ID}"} 4"#,
            r#"container_cpu_cfs_throttled_seconds_total{id="/pod/{ID}",name="{ID}"} 0.25"#,
            r#"container_spec_cpu_quota{id="/pod/{ID}",name="{ID}"} 50000"#,
            r#"container_spec_cpu_shares{id="/pod/{ID}",name="{ID}"} 2597"#,
            r#"container_pressure_cpu_waiting_seconds_total{id="/pod/{ID}",name="{ID}"} 2"#,
            r#"container_pressure_memory_stalled_seconds_total{id="/pod/{ID}",name="{ID}"} 1"#,
            r#"container_pressure_io_waiting_seconds_total{id="/pod/{ID}",name="{ID}"} 4"#,
            r#"container_memory_working_set_bytes{id="/pod/{ID}",name="{ID}"} 3000"#,
            r#"container_memory_rss{id="/pod/{ID}",name="{ID}"} 1024"#,
            r#"container_memory_max_usage_bytes{id="/pod/{ID}",name="{ID}"} 8192"#,
            r#"container_spec_memory_limit_bytes{id="/pod/{ID}",name="{ID}"} 0"#,
            r#"container_oom_events_total{id="/pod/{ID}",name="{ID}"} 1"#,
            r#"container_memory_failures_total{failure_type="pgmajfault",id="/pod/{ID}",name="{ID}",scope="container"} 2"#,
            r#"container_threads{id="/pod/{ID}",name="{ID}"} 3"#,
            r#"container_threads_max{id="/pod/{ID}",name="{ID}"} 0"#,
            r#"container_fs_reads_bytes_total{device="/dev/sda",id="/pod/{ID}",name="{ID}"} 4096"#,
            r#"container_fs_reads_total{device="/dev/sda",id="/pod/{ID}",name="{ID}"} 2"#,
            r#"container_blkio_device_usage_total{device="/dev/sda",id="/pod/{ID}",major="8",minor="0",name="{ID}",operation="Write"} 1"#,
            r#"container_last_seen{id="/pod/{ID}",name="{ID}"} 1.7e+09"#,
        ],
        &["container_memory_failcnt", "container_cpu_cfs_burst", r#"container_memory_swap{"#],
    );
}

#[test]
fn version_1_beside_an_empty_version_2() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("cgroup/unified/cgroup.controllers", "\n"),
            ("cgroup/unified/cgroup.procs", "1\n"),
            ("cgroup/cpu,cpuacct/cgroup.procs", "1\n"),
            ("cgroup/memory/cgroup.procs", "1\n"),
            ("cgroup/pids/cgroup.procs", "1\n"),
            ("cgroup/blkio/cgroup.procs", "1\n"),
            ("cgroup/cpu,cpuacct/docker/{ID}/cgroup.procs", "4\n5\n"),
            ("cgroup/cpu,cpuacct/docker/{ID}/cpuacct.usage", "2500000000\n"),
            ("cgroup/cpu,cpuacct/docker/{ID}/cpuacct.stat", "user 150\nsystem 100\n"),
            ("cgroup/cpu,cpuacct/docker/{ID}/cpu.cfs_quota_us", "-1\n"),
            ("cgroup/cpu,cpuacct/docker/{ID}/cpu.cfs_period_us", "100000\n"),
            ("cgroup/cpu,cpuacct/docker/{ID}/cpu.shares", "1024\n"),
            (
                "cgroup/cpu,cpuacct/docker/{ID}/cpu.stat",
                "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
            ),
            ("cgroup/memory/docker/{ID}/memory.usage_in_bytes", "5000\n"),
            ("cgroup/memory/docker/{ID}/memory.max_usage_in_bytes", "6000\n"),
            ("cgroup/memory/docker/{ID}/memory.failcnt", "0\n"),
            ("cgroup/memory/docker/{ID}/memory.limit_in_bytes", "9223372036854771712\n"),
            (
                "cgroup/memory/docker/{ID}/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
            (
                "cgroup/memory/docker/{ID}/memory.stat",
                "pgfault 1\ntotal_cache 100\ntotal_rss 200\ntotal_mapped_file 50\ntotal_swap 0\ntotal_inactive_file 1000\ntotal_pgfault 9\n",
            ),
            ("cgroup/memory/other/memory.usage_in_bytes", "garbage\n"),
            ("cgroup/pids/docker/{ID}/pids.current", "6\n"),
            ("cgroup/pids/docker/{ID}/pids.max", "100\n"),
            (
                "cgroup/blkio/docker/{ID}/blkio.throttle.io_service_bytes",
                "8:16 Read 10\n8:16 Write 20\n8:16 Sync 30\n8:16 Total 30\nTotal 30\n",
            ),
            ("cgroup/blkio/docker/{ID}/blkio.throttle.io_serviced", "8:16 Read 1\n8:16 Write 2\n"),
        ],
    );
    check(
        &collect(root.path()),
        &[
            r#"container_cpu_usage_seconds_total{cpu="total",id="/docker/{ID}",name="{ID}"} 2.5"#,
            r#"container_cpu_user_seconds_total{id="/docker/{ID}",name="{ID}"} 1.5"#,
            r#"container_spec_cpu_shares{id="/docker/{ID}",name="{ID}"} 1024"#,
            r#"container_memory_working_set_bytes{id="/docker/{ID}",name="{ID}"} 4000"#,
            r#"container_memory_failcnt{id="/docker/{ID}",name="{ID}"} 0"#,
            r#"container_spec_memory_limit_bytes{id="/docker/{ID}",name="{ID}"} 0"#,
            r#"container_oom_events_total{id="/docker/{ID}",name="{ID}"} 2"#,
            r#"container_memory_failures_total{failure_type="pgfault",id="/docker/{ID}",name="{ID}",scope="container"} 1"#,
            r#"container_memory_failures_total{failure_type="pgfault",id="/docker/{ID}",name="{ID}",scope="hierarchy"} 9"#,
            r#"container_threads{id="/docker/{ID}",name="{ID}"} 6"#,
            r#"container_threads_max{id="/docker/{ID}",name="{ID}"} 100"#,
            r#"container_processes{id="/docker/{ID}",name="{ID}"} 2"#,
            r#"container_fs_writes_bytes_total{device="",id="/docker/{ID}",name="{ID}"} 20"#,
            r#"container_fs_reads_total{device="",id="/docker/{ID}",name="{ID}"} 1"#,
            r#"container_blkio_device_usage_total{device="",id="/docker/{ID}",major="8",minor="16",name="{ID}",operation="Sync"} 30"#,
            r#"container_last_seen{id="/other"} 1.7e+09"#,
        ],
        &["cfs_throttled", "container_spec_cpu_quota", r#"usage_bytes{id="/other"}"#],
    );
}

#[test]
fn a_machine_without_cgroups_has_no_containers() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(collect(root.path()), "");
}

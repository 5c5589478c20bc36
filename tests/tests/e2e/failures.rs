//! What cannot work says why in one line, and fails.

use std::net::TcpListener;

use tests::harness::{Failed, Sextant, free_port, run_to_end};

fn check(failed: &Failed, words: &[&str]) {
    assert!(failed.code.is_some_and(|code| code != 0), "{failed:?}");
    let lines: Vec<_> = failed.stderr.lines().collect();
    let [line] = lines.as_slice() else { panic!("not one line: {lines:?}") };
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
}

fn arguments(port: u16, data: &std::path::Path) -> Vec<String> {
    vec![
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={}", data.display()),
    ]
}

#[test]
fn a_port_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let failed = run_to_end(&arguments(port, &folder.path().join("data")));
    check(&failed, &["sextant: ", &format!("127.0.0.1:{port}"), "in use"]);
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let data = file.join("data");
    let failed = run_to_end(&arguments(free_port(), &data));
    check(&failed, &["sextant: ", &data.display().to_string()]);
}

#[test]
fn a_second_instance_on_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Sextant::all_in_one(folder.path());
    let failed = run_to_end(&arguments(free_port(), &folder.path().join("data")));
    check(&failed, &["sextant: ", "data", "another process"]);
    assert_eq!(first.get("/-/ready").status, 200);
}

#[test]
fn a_broken_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("broken.yml");
    std::fs::write(&config, "global:\n  scrape_intervall: 5s\n").unwrap();
    let mut all = vec![String::from("server"), format!("--config.file={}", config.display())];
    all.extend(arguments(free_port(), &folder.path().join("data")));
    let failed = run_to_end(&all);
    check(&failed, &["sextant: ", "broken.yml", "scrape_intervall", "2"]);
    assert!(
        !folder.path().join("data").exists(),
        "nothing is touched before the configuration is read"
    );
    all[1] = format!("--config.file={}", folder.path().join("absent.yml").display());
    check(&run_to_end(&all), &["sextant: ", "absent.yml", "No such file"]);
}

//! The server under test as a child, with a script in its place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thalweg_testkit::thalweg::Thalweg;

/// Prints what the server prints, and lives until it is told to end.
const SCRIPT: &str = r#"#!/bin/sh
[ "$1 $2 $4 $6" = "serve --data --listen --key-file" ] || { echo "arguments: $*" >&2; exit 2; }
echo "starting with MARK=$MARK" >&2
if [ ! -d "$3" ]; then
  mkdir "$3"
  echo "The first start; these are shown once."
  printf 'project   p\ninstance  i\ndomain    thalweg\nuser      admin\n'
  printf 'password  secret\nak        AK\nsk        SK\n'
fi
echo "listening http://$5"
trap 'sleep 0.2; echo ended >&2; exit 0' TERM
while :; do sleep 0.05; done
"#;

fn script(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn it_is_started_killed_restarted_ended_and_leaves_nothing() {
    let server = Thalweg::start_with(&script("serves", SCRIPT), &[], &[("MARK", "7")]).unwrap();
    assert_eq!(server.identity().ak, "AK");
    let (first, url) = (server.pid().unwrap(), server.base_url().to_owned());
    assert!(server.rss_bytes().unwrap().rss > 0);
    server.kill();
    assert_eq!(server.pid(), None);
    assert!(server.rss_bytes().is_err());
    server.restart().unwrap();
    assert_ne!(server.pid().unwrap(), first);
    assert_eq!(server.base_url(), url, "the same port");
    assert!(server.data_dir().is_dir(), "the same data");
    let took = server.terminate().unwrap();
    assert!(took >= Duration::from_millis(150), "{took:?}");
    assert_eq!(server.log_tail().matches("MARK=7").count(), 2);
    assert!(server.log_tail().ends_with("ended"));
    server.restart().unwrap();
    let (last, data) = (server.pid().unwrap(), server.data_dir());
    drop(server);
    assert!(!Path::new(&format!("/proc/{last}")).exists() && !data.exists());
}

#[test]
fn a_failed_start_is_told_with_the_log() {
    let binary = script("fails", "#!/bin/sh\necho 'no such knob' >&2\nexit 3\n");
    let error = format!("{:#}", Thalweg::start(&binary).unwrap_err());
    assert!(
        error.contains("no such knob") && error.contains("exit status: 3"),
        "{error}"
    );
}

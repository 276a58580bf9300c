//! What the project is published as: Debian's packages, and a description for PGXN.

use serde_json::Value;
use std::{fs, path::Path, process::Command};

const META: &str = include_str!("../../../packaging/META.json");

fn meta() -> Value {
    serde_json::from_str(META).expect("META.json is JSON")
}

#[test]
#[ignore = "needs pgxn_meta, which `make test-packages` installs"]
fn meta_json_is_as_pgxn_specifies_it() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("META.json");
    let validate = |meta: &Value| {
        fs::write(&file, meta.to_string()).expect("META.json is written");
        Command::new("pgxn_meta").arg(&file).status().expect("pgxn_meta is on PATH").success()
    };
    let mut meta = meta();
    assert!(validate(&meta));
    meta.as_object_mut().expect("META.json is an object").remove("license");
    assert!(!validate(&meta), "a licence is mandatory");
}

#[test]
fn meta_json_has_the_version_of_the_workspace() {
    let meta = meta();
    for version in ["/version", "/provides/integration_credentials/version"] {
        assert_eq!(meta.pointer(version), Some(&env!("CARGO_PKG_VERSION").into()), "{version}");
    }
}

#[test]
fn meta_json_names_files_that_are_there() {
    let meta = meta();
    for file in ["file", "docfile"] {
        let path = meta["provides"]["integration_credentials"][file].as_str().expect("a path");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
#[ignore = "bootstraps Debian, as root, and takes minutes: `make test-packages`"]
fn packages_of_debian_12_build_work_and_leave_nothing() {
    in_clean_roots("bookworm");
}

#[test]
#[ignore = "bootstraps Debian, as root, and takes minutes: `make test-packages`"]
fn packages_of_debian_13_build_work_and_leave_nothing() {
    in_clean_roots("trixie");
}

fn in_clean_roots(suite: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packages/in-clean-roots");
    let status = Command::new(script).arg(suite).status().expect("the script starts");
    assert!(status.success(), "{suite}: {status}");
}

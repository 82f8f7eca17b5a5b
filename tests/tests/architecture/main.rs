//! The workspace keeps its shape: arrows point one way, the core stays pure.
//!
//! Reads `cargo metadata` of the checkout, so a dependency added in a manifest is seen at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which crates of the workspace each one may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("dynamo-core", &[]),
    ("service-kit", &["dynamo-core"]),
    ("atoll-client", &["dynamo-core"]),
    ("membership-svc", &["dynamo-core", "service-kit"]),
    ("storage-node", &["dynamo-core", "service-kit"]),
    ("request-router", &["dynamo-core", "service-kit"]),
    ("anti-entropy-worker", &["dynamo-core", "service-kit"]),
    ("bench", &["dynamo-core", "atoll-client"]),
    ("atoll-cli", &["*"]),
    ("tests", &["*"]),
];

/// What the core may be built from: values, hashes and encodings. No runtime, clock, entropy, file
/// or socket.
const CORE_DEPENDENCIES: &[&str] = &[
    "base64",
    "bytes",
    "crc32c",
    "hkdf",
    "hmac",
    "md-5",
    "percent-encoding",
    "serde",
    "serde_json",
    "sha2",
    "subtle",
    "thiserror",
    "uuid",
    "xxhash-rust",
];

/// Dependencies that are there to be used: each must appear in the sources of some crate.
const WORKING: &[(&str, &str)] = &[
    ("axum", "axum::"),
    ("hyper", "hyper::"),
    ("reqwest", "reqwest::"),
    ("tokio", "tokio::"),
    ("tower", "tower::"),
    ("serde_json", "serde_json::"),
    ("redb", "redb::"),
    ("prometheus", "prometheus::"),
    ("opentelemetry", "opentelemetry"),
    ("uuid", "uuid::"),
];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata of the workspace")
}

/// Normal dependencies of every package, optional ones left out.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let normal = |package: &cargo_metadata::Package| {
        package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal && !d.optional)
            .map(|d| d.name.to_string())
            .collect()
    };
    metadata.packages.iter().map(|p| (p.name.to_string(), normal(p))).collect()
}

#[test]
fn arrows_point_one_way() {
    let dependencies = dependencies(&workspace());
    let rules: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (package, needs) in &dependencies {
        let Some(allowed) = rules.get(package.as_str()) else {
            wrong.push(format!("{package} has no rule"));
            continue;
        };
        for need in needs.iter().filter(|need| dependencies.contains_key(*need)) {
            if !allowed.contains(&need.as_str()) && !allowed.contains(&"*") {
                wrong.push(format!("{package} -> {need}"));
            }
        }
    }
    for package in rules.keys().filter(|name| !dependencies.contains_key(**name)) {
        wrong.push(format!("{package} is gone"));
    }
    assert!(wrong.is_empty(), "dependencies against the arrows: {wrong:?}");
}

#[test]
fn the_core_is_built_from_values_alone() {
    let dependencies = dependencies(&workspace());
    let core = dependencies.get("dynamo-core").expect("dynamo-core is a member");
    let foreign: Vec<_> =
        core.iter().filter(|name| !CORE_DEPENDENCIES.contains(&name.as_str())).collect();
    assert!(foreign.is_empty(), "not on the core's allow-list: {foreign:?}");
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for package in workspace().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} does not take the workspace lints",
            package.name
        );
    }
}

#[test]
fn required_dependencies_do_real_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    for package in workspace().packages.iter().filter(|p| p.name.as_str() != "tests") {
        let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
        read_sources(&root.join(folder.join("src")), &mut sources);
    }
    for (dependency, mark) in WORKING {
        assert!(sources.contains(mark), "{dependency} is a dependency that nothing uses");
    }
}

#[test]
fn the_core_has_no_hidden_inputs() {
    let banned = [
        "Instant::now",
        "SystemTime",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "thread::",
        "HashMap",
    ];
    let mut sources = String::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../dynamo-core/src"), &mut sources);
    for word in banned {
        let used = sources
            .lines()
            .map(str::trim_start)
            .find(|line| !line.starts_with("//") && line.contains(word));
        assert!(used.is_none(), "dynamo-core mentions {word}: {used:?}");
    }
}

fn read_sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            read_sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("a source file"));
        }
    }
}

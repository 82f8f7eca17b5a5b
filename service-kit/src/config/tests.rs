//! Layering as a table: what is given, and what comes of it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    listen: String,
    workers: u16,
    ratio: f64,
    on: bool,
    seeds: Vec<String>,
    cap: Option<u64>,
    file: Option<PathBuf>,
    key: Secret,
    inner: Inner,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Inner {
    level: String,
    depth: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:1".into(),
            workers: 2,
            ratio: 0.01,
            on: false,
            seeds: Vec::new(),
            cap: None,
            file: None,
            key: Secret::default(),
            inner: Inner::default(),
        }
    }
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), Invalid> {
        if self.workers == 0 {
            return Err(Invalid::new("workers", "must be at least 1"));
        }
        Ok(())
    }
}

fn load_from(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("atoll.toml");
    std::fs::write(&path, file).unwrap();
    let sources = Sources {
        file: Some(path),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        flags: flags.iter().map(|(k, v)| Override::new(*k, *v)).collect(),
    };
    load(&sources).map_err(|error| error.to_string())
}

#[test]
fn later_layers_win() {
    let got = load_from(
        "listen = 'file'\nworkers = 3\nratio = 0.5\n[inner]\nlevel = 'file'\ndepth = 7",
        &[
            ("ATOLL_WORKERS", "4"),
            ("ATOLL_INNER__LEVEL", "env"),
            ("ATOLL_SEEDS", "a, b"),
            ("ATOLL_CAP", "9"),
            ("ATOLL_FILE", "12"),
            ("ATOLL_CONFIG", "ignored"),
            ("ATOLL_LOG", "debug"),
            ("PATH", "/bin"),
            ("ATOLL_ROUTER_SERVICE_HOST", "10.0.0.1"),
            ("ATOLL_ROUTER_PORT", "tcp://10.0.0.1:7700"),
            ("ATOLL_ROUTER_PORT_7700_TCP_PROTO", "tcp"),
        ],
        &[("workers", "5"), ("on", "true"), ("inner.level", "flag")],
    );
    let expected = Settings {
        listen: "file".into(),
        workers: 5,
        ratio: 0.5,
        on: true,
        seeds: vec!["a".into(), "b".into()],
        cap: Some(9),
        file: Some("12".into()),
        key: Secret::default(),
        inner: Inner { level: "flag".into(), depth: 7 },
    };
    assert_eq!(got, Ok(expected));
}

#[test]
fn refusals_are_one_line_with_key_and_source() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], [&'a str; 2]);
    let cases: [Case<'_>; 14] = [
        ("lisen = 'x'", &[], &[], ["lisen (from file", "unknown field"]),
        ("workers = 'x'", &[], &[], ["workers (from file", "invalid type"]),
        ("workers = 70000", &[], &[], ["workers (from file", "u16"]),
        ("[inner]\nlevl = 'x'", &[], &[], ["inner.levl (from file", "unknown field"]),
        ("inner = 3", &[], &[], ["inner (from file", "invalid type"]),
        ("a = = b", &[], &[], ["atoll.toml line 1", ""]),
        ("\n\nworkers = 1\nworkers = 2", &[], &[], ["line 4", "duplicate"]),
        ("", &[("ATOLL_LISEN", "x")], &[], ["variable ATOLL_LISEN", "unknown field"]),
        ("", &[("ATOLL_WORKERS", "many")], &[], ["variable ATOLL_WORKERS", "an integer"]),
        ("", &[("ATOLL_ON", "yes")], &[], ["variable ATOLL_ON", "true or false"]),
        ("", &[("ATOLL_RATIO", "NaN")], &[], ["variable ATOLL_RATIO", "a number"]),
        ("", &[("ATOLL_INNER", "x")], &[], ["variable ATOLL_INNER", "table"]),
        ("", &[], &[("cap", "lots")], ["cap (from flag --cap)", "invalid type"]),
        ("", &[], &[("workers", "0")], ["workers", "at least 1"]),
    ];
    for (file, env, flags, wanted) in cases {
        let error = load_from(file, env, flags).unwrap_err();
        for part in wanted {
            assert!(error.contains(part), "{part:?} missing in {error:?}");
        }
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn a_missing_file_and_a_bad_set_are_refused() {
    let sources = Sources { file: Some("/nonexistent/atoll.toml".into()), ..Sources::default() };
    assert!(load::<Settings>(&sources).unwrap_err().to_string().contains("/nonexistent"));
    assert!(Override::parse_set("novalue").is_err());
    let flag = Override::parse_set("inner.level=c=d").unwrap();
    let sources = Sources { flags: vec![flag], ..Sources::default() };
    assert_eq!(load::<Settings>(&sources).unwrap().inner.level, "c=d");
}

#[test]
fn secrets_are_shown_nowhere() {
    let settings = load_from("key = 'hunter2hunter2'", &[], &[]).unwrap();
    assert_eq!(settings.key.expose(), b"hunter2hunter2");
    let shown = format!("{settings:?} {}", print_effective(&settings).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("<redacted>"), "{shown}");
    let error = load_from("key = 123456789", &[], &[]).unwrap_err();
    assert!(error.contains("key (from file") && !error.contains("123456789"), "{error}");
}

#[test]
fn secret_files_must_be_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let resolve = |inline: &str| Secret::resolve(&Secret::new(inline), Some(&path), "key");
    assert_eq!(resolve("").unwrap_err().key, "key_file");
    std::fs::write(&path, "sesame\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(resolve("").unwrap_err().reason.contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(resolve("").unwrap().expose(), b"sesame");
    assert!(resolve("both").unwrap_err().reason.contains("together"));
    std::fs::write(&path, "\n").unwrap();
    assert!(resolve("").unwrap_err().reason.contains("empty"));
}

#[test]
fn shared_checks_name_the_setting_and_its_range() {
    assert_eq!(checks::within("a.b", 3, 1..=3), Ok(()));
    let refused = checks::within("a.b", 4, 1..=3).unwrap_err().to_string();
    assert_eq!(refused, "a.b: must be 1 to 3");
    for good in ["localhost:1", "10.0.0.1:7720", "[::1]:65535", "agent-0.agents.svc:7720"] {
        assert_eq!(checks::host_port("peer", good), Ok(()), "{good}");
    }
    for bad in
        ["", "host", "host:", ":1", "host:0", "host:65536", "http://host:1", "a b:1", "::1:1"]
    {
        assert_eq!(checks::host_port("peer", bad).unwrap_err().key, "peer", "{bad}");
    }
    assert_eq!(checks::directory("dir", std::path::Path::new("not/there/yet")), Ok(()));
    assert_eq!(checks::directory("dir", std::path::Path::new("")).unwrap_err().key, "dir");
}

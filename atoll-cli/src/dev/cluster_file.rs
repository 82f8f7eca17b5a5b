//! What a data directory is a cluster of: `cluster.json`, whose presence also says that the
//! directory is ours to delete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service_kit::datadir::{create_private_dir, write_atomic};

use crate::dev::args::{ClusterArgs, HOSTS_MAX, PORTS_PER_HOST};
use crate::dev::security;
use crate::exit;
use crate::output::Failure;

/// Name of the file.
const FILE: &str = "cluster.json";

/// Name of the lock that the supervisor holds.
const LOCK: &str = "dev.lock";

/// What the file says it is.
const MARKER: &str = "atoll development cluster";

/// The form that this build reads and writes.
const FORMAT: u32 = 1;

/// Hosts of a new cluster.
const HOSTS_DEFAULT: u16 = 3;

/// Port of the first router of a new cluster.
const BASE_PORT_DEFAULT: u16 = 7700;

/// Partitions of a development ring: enough to balance, few enough to look at.
const PARTITIONS: u32 = 64;

/// Replicas of an object where there are hosts enough.
const SPACING_MAX: u16 = 3;

/// A development cluster as its directory describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// Always [`MARKER`].
    pub kind: String,
    /// Always [`FORMAT`].
    pub format: u32,
    /// The cluster's secret, 64 hexadecimal digits.
    pub secret: String,
    /// Hosts that there are.
    pub hosts: u16,
    /// Hosts that found the cluster: the first ones.
    pub founders: u16,
    /// Port of the first host's router.
    pub base_port: u16,
    /// Partitions of the ring.
    pub partitions: u32,
    /// Replicas that the ring is laid out for.
    pub spacing: u16,
    /// Whether clients and hosts are authenticated.
    #[serde(default)]
    pub secure: bool,
}

/// A data directory that this process alone may use, until it ends.
#[derive(Debug)]
pub struct DataDir {
    /// The directory, absolute.
    pub path: PathBuf,
    /// The cluster in it.
    pub cluster: ClusterFile,
    /// Whether the cluster is new.
    pub is_new: bool,
    _lock: fs::File,
}

impl DataDir {
    /// Opens the directory that `args` names, for this process alone, and creates what is missing.
    ///
    /// # Errors
    /// Where another process uses it, it is not ours, or its cluster is another than asked for.
    pub(crate) fn open(args: &ClusterArgs) -> Result<Self, Failure> {
        let shown = args.data.display();
        let broken = |error: io::Error| config(format!("{shown}: {error}"));
        let is_ours = args.data.join(FILE).is_file();
        if !is_ours && !is_empty(&args.data).map_err(broken)? {
            return Err(config(format!(
                "{shown} is not empty and is no development cluster; choose another --data"
            )));
        }
        create_private_dir(&args.data).map_err(broken)?;
        let path = args.data.canonicalize().map_err(broken)?;
        let lock = lock(&path)?;
        if is_ours && args.fresh {
            read(&path)?;
            clear(&path).map_err(broken)?;
        }
        let existing = path.join(FILE).is_file();
        let cluster = if existing { read(&path)? } else { create(args)? };
        for (name, asked, there) in
            [("hosts", args.hosts, cluster.hosts), ("base-port", args.base_port, cluster.base_port)]
        {
            if let Some(asked) = asked.filter(|asked| *asked != there) {
                return Err(config(format!(
                    "{shown} has a cluster with --{name} {there}, not {asked}; `atoll dev \
                     add-host` adds hosts, --fresh starts anew"
                )));
            }
        }
        if existing && args.secure && !cluster.secure {
            return Err(config(format!(
                "{shown} has a cluster without --secure; --fresh starts anew"
            )));
        }
        let dir = Self { path, cluster, is_new: !existing, _lock: lock };
        if dir.is_new {
            dir.save().map_err(broken)?;
        }
        if dir.cluster.secure {
            security::ensure(&dir.path)?;
        }
        Ok(dir)
    }

    /// Writes the description of the cluster, for its owner's eyes only: it has the secret.
    ///
    /// # Errors
    /// Those of writing.
    pub fn save(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.cluster)?;
        text.push(b'\n');
        write_atomic(&self.path.join(FILE), &text)
    }

    /// Makes room for one more host and returns its number.
    ///
    /// # Errors
    /// Where there are as many as may be, or the file cannot be written.
    pub(crate) fn add_host(&mut self) -> Result<u16, Failure> {
        if self.cluster.hosts >= HOSTS_MAX {
            return Err(Failure::new(exit::FAILURE, format!("at most {HOSTS_MAX} hosts")));
        }
        self.cluster.hosts += 1;
        self.save()?;
        Ok(self.cluster.hosts)
    }
}

fn config(message: String) -> Failure {
    Failure::new(exit::CONFIG, message)
}

fn is_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        // A lock without a cluster is what a start that failed early leaves behind.
        Ok(entries) => {
            for entry in entries {
                if entry?.file_name() != LOCK {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn lock(path: &Path) -> Result<fs::File, Failure> {
    let broken = |error: &dyn std::fmt::Display| config(format!("{}: {error}", path.display()));
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK))
        .map_err(|error| broken(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let message = format!("an `atoll dev` is running on {} already", path.display());
            Err(Failure::new(exit::FAILURE, message))
        }
        Err(fs::TryLockError::Error(error)) => Err(broken(&error)),
    }
}

fn read(path: &Path) -> Result<ClusterFile, Failure> {
    let file = path.join(FILE);
    let invalid = |reason: &dyn std::fmt::Display| config(format!("{}: {reason}", file.display()));
    let text = fs::read(&file).map_err(|error| invalid(&error))?;
    let cluster: ClusterFile = serde_json::from_slice(&text).map_err(|error| invalid(&error))?;
    if cluster.kind != MARKER {
        return Err(invalid(&"not the description of a development cluster"));
    }
    if cluster.format != FORMAT {
        return Err(invalid(&format!("format {} is not known to this version", cluster.format)));
    }
    let hosts_fit =
        (1..=HOSTS_MAX).contains(&cluster.hosts) && (1..=cluster.hosts).contains(&cluster.founders);
    if !hosts_fit || cluster.base_port.checked_add(PORTS_PER_HOST * cluster.hosts).is_none() {
        return Err(invalid(&"hosts or ports are out of range"));
    }
    Ok(cluster)
}

/// Deletes everything but the lock, which this process holds.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK || entry.file_name() == FILE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    // Last, so that a deletion cut short leaves a directory that is still known to be ours.
    fs::remove_file(path.join(FILE))
}

fn create(args: &ClusterArgs) -> Result<ClusterFile, Failure> {
    let mut secret = [0u8; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::new(exit::FAILURE, format!("no entropy: {error}")))?;
    let hosts = args.hosts.unwrap_or(HOSTS_DEFAULT);
    Ok(ClusterFile {
        kind: MARKER.to_owned(),
        format: FORMAT,
        secret: secret.iter().map(|byte| format!("{byte:02x}")).collect(),
        hosts,
        founders: hosts,
        base_port: args.base_port.unwrap_or(BASE_PORT_DEFAULT),
        partitions: PARTITIONS,
        spacing: hosts.min(SPACING_MAX),
        secure: args.secure,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn args(data: &Path) -> ClusterArgs {
        ClusterArgs {
            hosts: None,
            base_port: None,
            data: data.to_owned(),
            fresh: false,
            secure: false,
        }
    }

    #[test]
    fn a_new_directory_gets_a_private_description_with_its_own_secret() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(&args(&root.path().join("a"))).unwrap();
        let second = DataDir::open(&args(&root.path().join("b"))).unwrap();
        assert!(first.is_new);
        assert_eq!((first.cluster.hosts, first.cluster.base_port), (3, 7700));
        assert_eq!(first.cluster.secret.len(), 64);
        assert_ne!(first.cluster.secret, second.cluster.secret);
        let mode = fs::metadata(first.path.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_cluster_comes_back_as_it_was_and_no_other_is_taken_for_it() {
        let root = tempfile::tempdir().unwrap();
        let five = ClusterArgs { hosts: Some(5), base_port: Some(9000), ..args(root.path()) };
        let mut dir = DataDir::open(&five).unwrap();
        assert_eq!(dir.add_host().unwrap(), 6);
        let before = dir.cluster.clone();
        drop(dir);
        let again = DataDir::open(&args(root.path())).unwrap();
        assert!(!again.is_new);
        assert_eq!(again.cluster, before);
        assert_eq!(again.cluster.founders, 5);
        drop(again);
        for other in [
            ClusterArgs { hosts: Some(5), ..args(root.path()) },
            ClusterArgs { base_port: Some(7700), ..args(root.path()) },
        ] {
            let failure = DataDir::open(&other).unwrap_err();
            assert_eq!(failure.exit, exit::CONFIG);
            assert!(failure.message.contains("--fresh"), "{}", failure.message);
        }
    }

    #[test]
    fn only_one_process_uses_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let held = DataDir::open(&args(root.path())).unwrap();
        let failure = DataDir::open(&args(root.path())).unwrap_err();
        assert!(failure.message.contains("already"), "{}", failure.message);
        drop(held);
        assert!(DataDir::open(&args(root.path())).is_ok());
    }

    #[test]
    fn fresh_deletes_a_cluster_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let fresh = ClusterArgs { fresh: true, ..args(root.path()) };
        let secret = DataDir::open(&args(root.path())).unwrap().cluster.secret;
        fs::create_dir(root.path().join("host-1")).unwrap();
        fs::write(root.path().join("host-1/data"), "x").unwrap();
        let dir = DataDir::open(&fresh).unwrap();
        assert!(dir.is_new);
        assert_ne!(dir.cluster.secret, secret);
        assert!(!root.path().join("host-1").exists());
        drop(dir);

        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("thesis.tex"), "x").unwrap();
        let fresh = ClusterArgs { fresh: true, ..args(foreign.path()) };
        assert_eq!(DataDir::open(&fresh).unwrap_err().exit, exit::CONFIG);
        fs::write(foreign.path().join(FILE), "{}").unwrap();
        assert_eq!(DataDir::open(&fresh).unwrap_err().exit, exit::CONFIG);
        assert!(foreign.path().join("thesis.tex").exists());
    }
}

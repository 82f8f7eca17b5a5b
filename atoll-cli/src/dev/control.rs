//! How another `atoll dev` command reaches the supervisor: one JSON line each way over a Unix
//! socket in the data directory, which only its owner can enter.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::dev::args::Service;
use crate::exit;
use crate::output::Failure;

/// Name of the socket.
const SOCKET: &str = "dev.sock";

/// Longest path of a socket that every system takes.
const SOCKET_PATH_MAX: usize = 100;

/// Bytes of one request.
const REQUEST_BYTES_MAX: u64 = 4096;

/// Bytes of one reply.
const REPLY_BYTES_MAX: u64 = 1024 * 1024;

/// Connections that are served at once.
const CONNECTIONS_MAX: usize = 16;

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    Stop { host: u16, service: Option<Service>, kill: bool },
    Start { host: u16, service: Option<Service> },
    Pause { host: u16, service: Option<Service> },
    Resume { host: u16, service: Option<Service> },
    AddHost,
    List,
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Running,
    Paused,
    Stopped,
    Died,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Died => "died",
        }
    }
}

/// One process, as it is listed and as the file `dev.json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessView {
    pub(crate) host: u16,
    pub(crate) service: Service,
    pub(crate) state: State,
    pub(crate) pid: Option<u32>,
    pub(crate) listen: String,
    pub(crate) metrics: String,
    pub(crate) log: PathBuf,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// Done: what happened, and how all processes are now.
    Done { message: String, processes: Vec<ProcessView> },
    /// Not done.
    Refused { reason: String },
}

/// A request with the way back.
pub(crate) type Asked = (Request, oneshot::Sender<Reply>);

/// Path of the socket: where it is too long, by way of an open directory.
fn socket_path(dir: &Path) -> io::Result<(PathBuf, Option<std::fs::File>)> {
    use std::os::fd::AsRawFd;
    let plain = dir.join(SOCKET);
    if plain.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((plain, None));
    }
    let open = std::fs::File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()));
    Ok((short, Some(open)))
}

/// Serves requests until the receiver of `asked` is gone. The caller holds the directory's lock,
/// so a socket that is there is a dead one.
///
/// # Errors
/// Where the socket cannot be made.
pub(crate) fn serve(dir: &Path, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let (path, _open) = socket_path(dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        while !asked.is_closed() {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let asked = asked.clone();
                    tokio::spawn(async move {
                        let _slot = slot;
                        if let Err(error) = converse(stream, asked).await {
                            tracing::debug!(%error, "a control connection failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn converse(mut stream: UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_BYTES_MAX)).read_line(&mut line).await?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Err(error) => Reply::Refused { reason: format!("not a request: {error}") },
        Ok(request) => {
            let (back, answer) = oneshot::channel();
            let sent = asked.send((request, back)).await.is_ok();
            let ending = || Reply::Refused { reason: "the cluster is stopping".to_owned() };
            if sent { answer.await.unwrap_or_else(|_| ending()) } else { ending() }
        }
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Asks the supervisor of the cluster in `dir`.
///
/// # Errors
/// Where none is running there, or it refuses.
pub(crate) async fn ask(
    dir: &Path,
    request: &Request,
) -> Result<(String, Vec<ProcessView>), Failure> {
    let nobody = |error: &dyn std::fmt::Display| {
        let message = format!("no `atoll dev` is running on {}: {error}", dir.display());
        Failure::new(exit::UNAVAILABLE, message)
    };
    let (path, _open) = socket_path(dir).map_err(|error| nobody(&error))?;
    let mut stream = UnixStream::connect(&path).await.map_err(|error| nobody(&error))?;
    let mut text = serde_json::to_vec(request).map_err(|error| nobody(&error))?;
    text.push(b'\n');
    stream.write_all(&text).await.map_err(|error| nobody(&error))?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(REPLY_BYTES_MAX));
    reader.read_line(&mut line).await.map_err(|error| nobody(&error))?;
    match serde_json::from_str(&line).map_err(|error| nobody(&error))? {
        Reply::Done { message, processes } => Ok((message, processes)),
        Reply::Refused { reason } => Err(Failure::new(exit::FAILURE, reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_plain_json() {
        let cases = [
            (Request::List, r#"{"op":"list"}"#),
            (Request::AddHost, r#"{"op":"add-host"}"#),
            (
                Request::Stop { host: 2, service: Some(Service::StorageNode), kill: true },
                r#"{"op":"stop","host":2,"service":"storage-node","kill":true}"#,
            ),
        ];
        for (request, text) in cases {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
    }

    #[tokio::test]
    async fn a_request_gets_its_answer_also_in_a_deep_directory() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        for dir in [root.path(), &deep] {
            let (asked, mut inbox) = mpsc::channel::<Asked>(1);
            serve(dir, asked).unwrap();
            let server = tokio::spawn(async move {
                let (request, back) = inbox.recv().await.unwrap();
                assert_eq!(request, Request::List);
                back.send(Reply::Done { message: "hi".into(), processes: Vec::new() }).unwrap();
            });
            let (message, processes) = ask(dir, &Request::List).await.unwrap();
            assert_eq!((message.as_str(), processes.len()), ("hi", 0));
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_plainly() {
        let root = tempfile::tempdir().unwrap();
        let failure = ask(root.path(), &Request::List).await.unwrap_err();
        assert_eq!(failure.exit, exit::UNAVAILABLE);
        assert!(failure.message.starts_with("no `atoll dev` is running"), "{}", failure.message);
    }
}

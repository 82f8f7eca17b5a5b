//! `atoll dev`: from nothing to a cluster that answers, and back.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::dev::action::process_table;
use crate::dev::args::{ClusterArgs, Service};
use crate::dev::cluster_file::DataDir;
use crate::dev::control::{self, Asked};
use crate::dev::founding::found;
use crate::dev::layout::Place;
use crate::dev::ready::wait_until_ready;
use crate::dev::security::{Access, admin_key_file};
use crate::dev::supervisor::Supervisor;
use crate::exit;
use crate::output::{Done, Failure, Output};

/// Time that the processes of a new cluster have to become ready.
const NEW_PATIENCE: Duration = Duration::from_secs(60);

/// Time that is waited for the processes of an older cluster: one may be broken, or have left.
const RESTART_PATIENCE: Duration = Duration::from_secs(15);

/// Requests of other commands that may wait.
const REQUESTS_MAX: usize = 16;

/// The signals that end a cluster.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let broken = |error| Failure::new(exit::FAILURE, format!("cannot take signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(broken)?,
            terminate: signal(SignalKind::terminate()).map_err(broken)?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

pub(super) async fn run(args: ClusterArgs, output: Output) -> Done {
    let started = Instant::now();
    // Before the first child, so that no signal is missed from then on.
    let mut stop = Stop::listen()?;
    let dir = DataDir::open(&args)?;
    let is_new = dir.is_new;
    let access = if dir.cluster.secure { Access::to(&dir.path)? } else { Access::default() };
    let mut supervisor = Supervisor::new(dir, output);
    let places = supervisor.places();
    supervisor.check_ports(&places)?;
    let (asked, mut requests) = mpsc::channel::<Asked>(REQUESTS_MAX);
    control::serve(&supervisor.dir().path, asked)?;
    if let Err(failure) = supervisor.start_all() {
        supervisor.stop_all(std::future::pending()).await;
        return Err(failure);
    }
    let came_up = {
        let founders = supervisor.dir().cluster.founders;
        let coming_up = come_up(&places, founders, &access, is_new, output);
        tokio::pin!(coming_up);
        loop {
            tokio::select! {
                came_up = &mut coming_up => break Some(came_up),
                // A cluster with data survives the loss of a process, and it has been told.
                end = supervisor.unexpected_end() => if is_new { break Some(Err(end)) },
                () = stop.requested() => break None,
            }
        }
    };
    let Some(came_up) = came_up else {
        supervisor.stop_all(stop.requested()).await;
        return Ok(exit::OK);
    };
    if let Err(reason) = came_up {
        supervisor.stop_all(stop.requested()).await;
        let message = format!("the cluster did not come up: {reason}");
        return Err(Failure::new(exit::UNAVAILABLE, message));
    }
    announce(&supervisor, &places, &access, (is_new, started.elapsed()), output)?;
    supervisor.work(&mut requests, stop.requested()).await;
    output.note("stopping (Ctrl-C again to kill)");
    supervisor.stop_all(stop.requested()).await;
    Ok(exit::OK)
}

/// Waits until a new cluster is founded and all processes are ready. Of an older cluster, whoever
/// is late is named, and does not keep the others from answering.
async fn come_up(
    places: &[Place],
    founders: u16,
    access: &Access,
    is_new: bool,
    output: Output,
) -> Result<(), String> {
    let progress = output.progress(None, "{spinner} {msg} {elapsed}");
    progress.enable_steady_tick(Duration::from_millis(100));
    progress.set_message("starting");
    found(places, founders, access).await?;
    progress.set_message("waiting until ready");
    let patience = if is_new { NEW_PATIENCE } else { RESTART_PATIENCE };
    let ready = wait_until_ready(places, patience).await;
    progress.finish_and_clear();
    match ready {
        Err(late) if !is_new => output.note(format!("not ready yet: {late}")),
        other => return other,
    }
    Ok(())
}

fn announce(
    supervisor: &Supervisor,
    places: &[Place],
    access: &Access,
    (is_new, took): (bool, Duration),
    output: Output,
) -> Result<(), Failure> {
    let views = supervisor.views();
    if output.is_json() {
        output.document(&json!({
            "ready": true,
            "new": is_new,
            "data": supervisor.dir().path,
            "pid": std::process::id(),
            "processes": views,
        }))?;
        return Ok(());
    }
    output.table(&process_table(&views))?;
    let router = places.iter().find(|place| place.service == Service::Router);
    let endpoint = router.map_or("", |place| place.listen.as_str());
    output.line(format!(
        "\nready in {}.{} s; data and logs in {}; Ctrl-C stops it. Try:",
        took.as_secs(),
        took.subsec_millis() / 100,
        supervisor.dir().path.display()
    ))?;
    let root = &supervisor.dir().path;
    let (endpoint, how) = match &access.ca_file {
        Some(ca) => {
            let (ca, key) = (ca.display(), admin_key_file(root));
            let key = key.display();
            let how = format!(" --cacert {ca} -H \"Authorization: Bearer $(cat {key})\"");
            (format!("{}://{endpoint}", access.scheme()), how)
        }
        None => (endpoint.to_owned(), String::new()),
    };
    output.line(format!(
        "  curl -X PUT {endpoint}/v1/kv/carts/alice{how} -H 'Content-Type: application/json' -d \
         '{{\"book\":1}}'\n  curl -i {endpoint}/v1/kv/carts/alice{how}"
    ))?;
    Ok(())
}

//! All processes of the cluster, and what each is doing. One task owns the state; starting,
//! stopping and freezing happen through it alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use service_kit::datadir::write_atomic;
use tokio::sync::{mpsc, oneshot};

use crate::dev::args::Service;
use crate::dev::child::{self, ChildHandle, Ended, Order};
use crate::dev::cluster_file::DataDir;
use crate::dev::control::{Asked, ProcessView, Reply, Request, State};
use crate::dev::layout::Place;
use crate::dev::ready::wait_until_ready;
use crate::exit;
use crate::output::{Failure, Output};

/// File that tells other programs which processes there are.
const PROCESSES_FILE: &str = "dev.json";

/// Time that a started host has to become ready before its start is answered all the same.
const START_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
struct Process {
    place: Place,
    state: State,
    child: Option<ChildHandle>,
    /// Set while it has been told to stop, so that its end is no news.
    stopping: bool,
}

/// The processes of one cluster.
#[derive(Debug)]
pub(crate) struct Supervisor {
    dir: DataDir,
    output: Output,
    processes: BTreeMap<(u16, Service), Process>,
    ended_sender: mpsc::UnboundedSender<Ended>,
    ended: mpsc::UnboundedReceiver<Ended>,
}

/// How an action is answered.
enum Answer {
    Now(Reply),
    /// When these have ended.
    AfterEnd(Vec<oneshot::Receiver<()>>, String),
    /// When these are ready.
    AfterReady(Vec<Place>, String),
}

impl Supervisor {
    pub(crate) fn new(dir: DataDir, output: Output) -> Self {
        // Unbounded, and bounded all the same: one message per child that was started.
        let (ended_sender, ended) = mpsc::unbounded_channel();
        Self { dir, output, processes: BTreeMap::new(), ended_sender, ended }
    }

    pub(crate) fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// All places of the cluster.
    pub(crate) fn places(&self) -> Vec<Place> {
        (1..=self.dir.cluster.hosts).flat_map(|host| self.places_of(host)).collect()
    }

    fn places_of(&self, host: u16) -> Vec<Place> {
        Place::of_host(&self.dir.path, &self.dir.cluster, host)
    }

    /// Refuses where a port of the cluster is taken.
    ///
    /// # Errors
    /// Names the first such port.
    pub(crate) fn check_ports(&self, places: &[Place]) -> Result<(), Failure> {
        for place in places {
            for address in [&place.listen, &place.metrics] {
                if let Err(error) = std::net::TcpListener::bind(address) {
                    return Err(Failure::new(
                        exit::FAILURE,
                        format!(
                            "{address}, for the {} of host {}, cannot be used: {error}; choose \
                             another --base-port",
                            place.service.name(),
                            place.host
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Starts every process that does not run.
    ///
    /// # Errors
    /// Where one cannot be started; those started before run on.
    pub(crate) fn start_all(&mut self) -> Result<(), Failure> {
        for place in self.places() {
            self.start(place)?;
        }
        self.write_processes();
        Ok(())
    }

    fn start(&mut self, place: Place) -> Result<(), Failure> {
        let child = child::start(&place, &self.dir.cluster, self.ended_sender.clone()).map_err(
            |error| {
                let what = format!("{} of host {}", place.service.name(), place.host);
                Failure::new(exit::FAILURE, format!("cannot start the {what}: {error}"))
            },
        )?;
        let key = (place.host, place.service);
        let process = Process { place, state: State::Running, child: Some(child), stopping: false };
        self.processes.insert(key, process);
        Ok(())
    }

    /// Works until `stop` resolves: notes ends, answers requests.
    pub(crate) async fn work(
        &mut self,
        requests: &mut mpsc::Receiver<Asked>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                Some(ended) = self.ended.recv() => self.note_end(&ended),
                Some((request, back)) = requests.recv() => {
                    let answer = self.act(request).await;
                    self.write_processes();
                    self.answer(answer, back);
                }
            }
        }
    }

    /// The next process that ends by itself, while nothing else is to be done.
    pub(crate) async fn unexpected_end(&mut self) -> String {
        loop {
            match self.ended.recv().await {
                Some(ended) => {
                    let log = ended.place.log.clone();
                    let how = ended.how.clone();
                    let name = ended.place.service.name();
                    let host = ended.place.host;
                    self.note_end(&ended);
                    return format!(
                        "the {name} of host {host} ended with {how}; see {}",
                        log.display()
                    );
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Ends everything, in good order, or at once when `hurry` resolves.
    pub(crate) async fn stop_all(mut self, hurry: impl Future<Output = ()>) {
        let mut ends = Vec::new();
        for process in self.processes.values_mut() {
            ends.extend(end(process, false).await);
        }
        let all = async {
            for done in ends {
                // The sender is dropped with the process: the error is the news.
                drop(done.await);
            }
        };
        tokio::select! {
            () = all => {}
            () = hurry => {
                for process in self.processes.values_mut() {
                    if let Some(done) = end(process, true).await {
                        drop(done.await);
                    }
                }
            }
        }
        // A file about processes that are gone would only mislead.
        drop(std::fs::remove_file(self.dir.path.join(PROCESSES_FILE)));
    }

    fn note_end(&mut self, ended: &Ended) {
        let key = (ended.place.host, ended.place.service);
        let Some(process) = self.processes.get_mut(&key) else { return };
        if process.child.as_ref().is_none_or(|child| child.pid != ended.pid) {
            return;
        }
        process.child = None;
        process.state = if process.stopping { State::Stopped } else { State::Died };
        if !process.stopping {
            self.output.note(format!(
                "host {} {} (pid {}) ended with {}; start it again with: atoll dev start {} \
                 --data {}",
                ended.place.host,
                ended.place.service.name(),
                ended.pid,
                ended.how,
                ended.place.host,
                self.dir.path.display()
            ));
        }
        self.write_processes();
    }

    async fn act(&mut self, request: Request) -> Answer {
        match request {
            Request::List => Answer::Now(self.done(String::new())),
            Request::AddHost => self.add_host(),
            Request::Stop { host, service, kill } => self.stop(host, service, kill).await,
            Request::Start { host, service } => self.restart(host, service),
            Request::Pause { host, service } => {
                let from = (State::Running, State::Paused);
                self.freeze(host, service, from, || Order::Pause).await
            }
            Request::Resume { host, service } => {
                let from = (State::Paused, State::Running);
                self.freeze(host, service, from, || Order::Resume).await
            }
        }
    }

    async fn stop(&mut self, host: u16, service: Option<Service>, kill: bool) -> Answer {
        let keys = match self.keys(host, service) {
            Ok(keys) => keys,
            Err(reply) => return Answer::Now(reply),
        };
        let mut ends = Vec::new();
        for key in keys {
            if let Some(process) = self.processes.get_mut(&key) {
                ends.extend(end(process, kill).await);
            }
        }
        if ends.is_empty() {
            return Answer::Now(refused(format!("nothing of host {host} is running")));
        }
        Answer::AfterEnd(ends, format!("stopped {}", named(host, service)))
    }

    fn restart(&mut self, host: u16, service: Option<Service>) -> Answer {
        let keys = match self.keys(host, service) {
            Ok(keys) => keys,
            Err(reply) => return Answer::Now(reply),
        };
        let idle = |process: &Process| process.child.is_none();
        let places: Vec<Place> = keys
            .iter()
            .filter_map(|key| self.processes.get(key))
            .filter(|process| idle(process))
            .map(|process| process.place.clone())
            .collect();
        if places.is_empty() {
            return Answer::Now(refused(format!("{} is running already", named(host, service))));
        }
        if let Err(failure) = self.start_checked(&places) {
            return Answer::Now(refused(failure.message));
        }
        Answer::AfterReady(places, format!("started {}", named(host, service)))
    }

    fn start_checked(&mut self, places: &[Place]) -> Result<(), Failure> {
        self.check_ports(places)?;
        places.iter().try_for_each(|place| self.start(place.clone()))
    }

    async fn freeze(
        &mut self,
        host: u16,
        service: Option<Service>,
        (from, to): (State, State),
        order: impl Fn() -> Order,
    ) -> Answer {
        let keys = match self.keys(host, service) {
            Ok(keys) => keys,
            Err(reply) => return Answer::Now(reply),
        };
        let mut count = 0;
        for key in keys {
            let Some(process) = self.processes.get_mut(&key) else { continue };
            let Some(child) = process.child.as_ref().filter(|_| process.state == from) else {
                continue;
            };
            if child.order(order()).await {
                process.state = to;
                count += 1;
            }
        }
        if count == 0 {
            let reason = format!("nothing of host {host} is {}", from.as_str());
            return Answer::Now(refused(reason));
        }
        Answer::Now(self.done(format!("{} is {}", named(host, service), to.as_str())))
    }

    fn add_host(&mut self) -> Answer {
        let added = self.dir.add_host().and_then(|host| {
            let places = self.places_of(host);
            self.start_checked(&places).map(|()| (host, places))
        });
        match added {
            Err(failure) => Answer::Now(refused(failure.message)),
            Ok((host, places)) => {
                let message = format!(
                    "started host {host} as a candidate; next: atoll stage join host-{host}, \
                     atoll plan, atoll commit"
                );
                // Its storage node and router become ready with the ring that gossip brings.
                Answer::AfterReady(places, message)
            }
        }
    }

    /// The processes that a request means.
    fn keys(&self, host: u16, service: Option<Service>) -> Result<Vec<(u16, Service)>, Reply> {
        if !(1..=self.dir.cluster.hosts).contains(&host) {
            let hosts = self.dir.cluster.hosts;
            return Err(refused(format!("there is no host {host}; hosts are 1 to {hosts}")));
        }
        let wanted = |one: &Service| service.is_none_or(|service| service == *one);
        Ok(Service::ALL.into_iter().filter(wanted).map(|one| (host, one)).collect())
    }

    fn answer(&self, answer: Answer, back: oneshot::Sender<Reply>) {
        // Whoever asked may have gone away; then nobody waits for an answer.
        match answer {
            Answer::Now(reply) => drop(back.send(reply)),
            Answer::AfterEnd(ends, message) => {
                let processes = self.views();
                tokio::spawn(async move {
                    for end in ends {
                        drop(end.await);
                    }
                    drop(back.send(Reply::Done { message, processes }));
                });
            }
            Answer::AfterReady(places, message) => {
                let processes = self.views();
                tokio::spawn(async move {
                    let waiting = wait_until_ready(&places, START_PATIENCE).await;
                    let message = match waiting {
                        Ok(()) => message,
                        Err(late) => format!("{message} (not ready yet: {late})"),
                    };
                    drop(back.send(Reply::Done { message, processes }));
                });
            }
        }
    }

    fn done(&self, message: String) -> Reply {
        Reply::Done { message, processes: self.views() }
    }

    /// What every process is doing.
    pub(crate) fn views(&self) -> Vec<ProcessView> {
        let view = |process: &Process| ProcessView {
            host: process.place.host,
            service: process.place.service,
            state: process.state,
            pid: process.child.as_ref().map(|child| child.pid),
            listen: process.place.listen.clone(),
            metrics: process.place.metrics.clone(),
            log: process.place.log.clone(),
        };
        self.processes.values().map(view).collect()
    }

    /// Tells other programs, for example a benchmark that wants the CPU of all processes.
    fn write_processes(&self) {
        let path: &Path = &self.dir.path.join(PROCESSES_FILE);
        let document = json!({ "pid": std::process::id(), "processes": self.views() });
        let written = serde_json::to_vec_pretty(&document).map_err(std::io::Error::from).and_then(
            |mut text| {
                text.push(b'\n');
                write_atomic(path, &text)
            },
        );
        if let Err(error) = written {
            self.output.note(format!("cannot write {}: {error}", path.display()));
        }
    }
}

/// Tells a process to end; `None` where it has ended.
async fn end(process: &mut Process, kill: bool) -> Option<oneshot::Receiver<()>> {
    let child = process.child.as_ref()?;
    let (done, ended) = oneshot::channel();
    let order = if kill { Order::Kill(done) } else { Order::Stop(done) };
    process.stopping = true;
    child.order(order).await.then_some(ended)
}

fn refused(reason: String) -> Reply {
    Reply::Refused { reason }
}

fn named(host: u16, service: Option<Service>) -> String {
    match service {
        Some(service) => format!("the {} of host {host}", service.name()),
        None => format!("host {host}"),
    }
}

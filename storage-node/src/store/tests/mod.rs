//! The store as a whole: against a model, through crashes, through failing disks, with flipped
//! bits.

mod backend;
mod crash;
mod faults;
mod hints;
mod model;
mod quarantine;
mod rot;
mod space;
mod tree;
mod vanished;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::actor::Actor;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::record::{Content, Record, Value};
use dynamo_core::id::{Incarnation, NodeId, PutId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::{Minted, PutCommand};
use dynamo_core::time::Mono;
use prometheus::Registry;
use service_kit::time::Clock;

use super::aside::Place;
use super::engine::Engine;
use super::put::{PutError, PutProgress, PutRequest};
use super::space::{Room, Space, Volume};
use super::writer::Home;
use super::{Store, TABLES};
use crate::epoch::EpochKeeper;
use crate::metrics::Metrics;
use crate::node_file::{NODE_FILE_FORMAT, NodeFile, write_node_file};

pub(super) const ME: NodeId = NodeId(1);

pub(super) fn object(key: &str) -> ObjectKey {
    ObjectKey::parse("b", key).unwrap()
}

pub(super) fn context(record: &Record) -> CausalContext {
    CausalContext { clock: record.clock().clone(), stamp: record.latest_stamp(), fastest: None }
}

/// The values of a record, sorted.
pub(super) fn texts(record: &Record) -> Vec<String> {
    let mut texts: Vec<String> = record
        .siblings()
        .filter_map(|sibling| match &sibling.content {
            Content::Value(value) => Some(String::from_utf8(value.bytes.to_vec()).unwrap()),
            Content::Tombstone => None,
        })
        .collect();
    texts.sort();
    texts
}

/// A disk without end, and a place that cannot be changed.
#[derive(Debug)]
pub(crate) struct Boundless;

impl Volume for Boundless {
    fn room(&self) -> io::Result<Room> {
        Ok(Room { free: u64::MAX / 2, total: u64::MAX / 2 })
    }

    fn reserved(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        Ok(())
    }

    fn aside(&self) -> io::Result<usize> {
        Ok(0)
    }

    fn remove_aside(&self) -> io::Result<usize> {
        Ok(0)
    }
}

impl Place for Boundless {
    fn set_aside(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A home in which nothing happens.
pub(crate) fn no_home(metrics: &Metrics) -> Home {
    let space = Space::new(Box::new(Boundless), metrics.space.clone(), Mono(0));
    Home { place: Arc::new(Boundless), space: Arc::new(space) }
}

/// A store whose actor is persisted in `dir`.
pub(super) fn store(engine: Arc<dyn Engine>, dir: &Path, actor: Actor) -> (Store, Metrics) {
    store_at(engine, dir, actor, no_home)
}

/// The same, with a home.
pub(super) fn store_at(
    engine: Arc<dyn Engine>,
    dir: &Path,
    actor: Actor,
    home: impl FnOnce(&Metrics) -> Home,
) -> (Store, Metrics) {
    let file = NodeFile {
        format: NODE_FILE_FORMAT,
        cluster_id: None,
        node_id: ME,
        store_id: StoreId(5),
        epoch: actor.id().epoch,
        clean: false,
        incarnation: Incarnation(1),
    };
    write_node_file(dir, &file).unwrap();
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let (epoch, ended) = (metrics.epoch.clone(), metrics.epochs_ended.clone());
    let epochs = Arc::new(EpochKeeper::new(dir, actor, file, epoch, ended));
    let (records, per_file) = (metrics.store.clone(), metrics.records_file.clone());
    let (clock, home) = (Clock::system(), home(&metrics));
    let store = Store::start(engine, home, clock, epochs, records, per_file).unwrap();
    (store, metrics)
}

/// A put of `text`, buffered or not.
pub(super) fn command(id: u128, text: &str, context: Option<CausalContext>) -> PutCommand {
    PutCommand {
        put_id: PutId(id),
        context,
        content: Content::Value(Value {
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            ..Value::default()
        }),
        reconciliation: Reconciliation::Siblings,
    }
}

/// Puts and waits for the end.
pub(super) fn put(
    store: &Store,
    key: &str,
    command: PutCommand,
    durability: Durability,
) -> Result<Minted, PutError> {
    let (sender, receiver) = mpsc::channel();
    let minted = Arc::new(Mutex::new(None));
    let told = Arc::clone(&minted);
    let listener = Box::new(move |progress| match progress {
        PutProgress::Minted(minted) => *told.lock().unwrap() = Some(*minted),
        PutProgress::Done(result) => sender.send(result).unwrap(),
    });
    let request = PutRequest { object: object(key), command, durability, deadline: None };
    store.put(request, listener);
    receiver.recv_timeout(Duration::from_secs(30)).unwrap()?;
    let minted = minted.lock().unwrap().take();
    Ok(minted.expect("a put is minted before it is done"))
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The tables of the main file, for engines made by hand.
pub(super) const MAIN_TABLES: &[&str] = TABLES;

//! The modes in which the client knows the ring (paper section 6.4).
//!
//! | module | noun |
//! |---|---|
//! | [`view`] | the ring as last seen, and when to look again |
//! | [`peer`] | what a storage node wants to know of whoever calls it |
//! | [`coordinated`] | calls sent to a coordinator: partition-aware gets, all puts |
//! | [`client_driven`] | gets coordinated here, over the replicas themselves |
//! | [`replica_call`] | one operation on one replica |
//!
//! Writes are never coordinated here: only a node of the preference list may mint a version.

mod client_driven;
mod coordinated;
mod peer;
mod replica_call;
mod view;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::client::Mode;
use crate::error::Error;
use crate::kv::get::GetResult;
use crate::kv::operation::{GetOperation, PutOperation};
use crate::kv::put::PutResult;
use crate::transport::call::Caller;
use crate::transport::probe::probe_suspects;
use client_driven::ReadDriver;
use peer::Sender;
use view::RingView;

/// A client that knows the ring.
#[derive(Debug)]
pub(crate) struct Direct {
    mode: Mode,
    /// Calls to storage nodes: their addresses, and which of them answer, are another matter than
    /// the routers'.
    nodes: Arc<Caller>,
    view: Arc<RingView>,
    sender: Sender,
    reads: ReadDriver,
}

impl Direct {
    /// Starts looking at the ring in the background, through `routers`. The tasks are to be ended
    /// with the client.
    pub(crate) fn start(
        routers: Arc<Caller>,
        mode: Mode,
        runtime: &Handle,
    ) -> (Self, Vec<AbortHandle>) {
        let nodes = Arc::new(Caller::new(routers.http.clone(), Arc::default()));
        let probes =
            probe_suspects(Arc::downgrade(&nodes.endpoints), nodes.http.clone(), nodes.suspect());
        let view = Arc::new(RingView::new(routers, Arc::clone(&nodes.endpoints)));
        let polling = view::poll(Arc::downgrade(&view), view.wake());
        let tasks =
            vec![runtime.spawn(probes).abort_handle(), runtime.spawn(polling).abort_handle()];
        let sender = Sender::new();
        let reads = ReadDriver::new(sender.node());
        (Self { mode, nodes, view, sender, reads }, tasks)
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) async fn get(&self, operation: GetOperation) -> Result<GetResult, Error> {
        if self.mode == Mode::ClientDriven {
            return self.reads.get(self, &operation).await;
        }
        coordinated::get(self, &operation).await
    }

    pub(crate) async fn put(&self, operation: PutOperation) -> Result<PutResult, Error> {
        coordinated::put(self, &operation).await
    }
}

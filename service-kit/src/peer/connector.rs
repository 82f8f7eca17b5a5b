//! How a connection to a peer is made. A trait, so that a simulated network can take its place.

use std::io;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Makes connections to addresses.
pub trait Connector: Send + Sync + 'static {
    /// What HTTP is spoken over.
    type Stream: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static;

    /// Connects to `address` (`host:port`; a name is resolved anew each time). The caller bounds
    /// the time.
    fn connect(&self, address: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// TCP with `TCP_NODELAY`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    type Stream = TokioIo<TcpStream>;

    async fn connect(&self, address: &str) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

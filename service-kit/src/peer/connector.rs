//! How a connection to a peer is made: TCP, and TLS over it where the cluster speaks that. A trait, so
//! that a simulated network can take its place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::Tls;

/// Makes connections to addresses.
pub trait Connector: Send + Sync + 'static {
    /// What HTTP is spoken over.
    type Stream: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static;

    /// Connects to `address` (`host:port`; a name is resolved anew each time). The caller bounds
    /// the time.
    fn connect(&self, address: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// TCP with `TCP_NODELAY`, in clear unless told otherwise.
#[derive(Debug, Clone, Default)]
pub struct TcpConnector {
    tls: Tls,
}

impl TcpConnector {
    /// Over TLS, where `tls` says that peers speak it.
    #[must_use]
    pub fn secured_by(tls: Tls) -> Self {
        Self { tls }
    }
}

impl Connector for TcpConnector {
    type Stream = TokioIo<PeerStream>;

    async fn connect(&self, address: &str) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some((config, name)) = self.tls.client() else {
            return Ok(TokioIo::new(PeerStream::Clear(stream)));
        };
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(TokioIo::new(PeerStream::Tls(Box::new(stream))))
    }
}

/// A connection to a peer.
#[derive(Debug)]
pub enum PeerStream {
    /// As it is.
    Clear(TcpStream),
    /// Inside TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

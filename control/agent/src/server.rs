//! Connections: how many, from whom, and for how long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::access;
use crate::api;
use crate::socket::ApiSocket;
use crate::switch::Handle;

/// Connections at a time, on each listener; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;

/// How long the headers of a request may take, and so how long one may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the API on the socket, and metrics by TCP where that is wanted.
/// Ends only with an error.
pub async fn serve(socket: &ApiSocket, metrics: Option<SocketAddr>, handle: Handle) -> Result<()> {
    let listener = socket.listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let unix = serve_unix(UnixListener::from_std(listener)?, socket, handle.clone());
    match metrics {
        None => unix.await,
        Some(address) => {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("metrics cannot be served at {address}"))?;
            tracing::info!("metrics at http://{address}/metrics");
            tokio::try_join!(unix, serve_tcp(listener, handle)).map(|_| ())
        }
    }
}

async fn serve_unix(listener: UnixListener, socket: &ApiSocket, handle: Handle) -> Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let peer = stream.peer_cred();
        let router = match peer {
            Ok(peer) if access::is_allowed(&peer, socket.group) => {
                api::router(handle.clone(), Some(peer.uid()))
            }
            Ok(peer) => {
                tracing::warn!("refused: user {} may not use the socket", peer.uid());
                api::refusing()
            }
            Err(_) => api::refusing(),
        };
        tokio::spawn(async move {
            connection(stream, router).await;
            drop(place);
        });
    }
}

async fn serve_tcp(listener: TcpListener, handle: Handle) -> Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await?;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = api::metrics_only(handle.clone());
                tokio::spawn(async move {
                    connection(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Out of file descriptors, say: to try again at once would only burn the core.
async fn pause(error: &std::io::Error) {
    tracing::warn!("a connection cannot be accepted: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = TowerToHyperService::new(router.map_request(|request: Request<Incoming>| request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection ended: {error}");
    }
}

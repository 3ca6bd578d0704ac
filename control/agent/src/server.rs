//! Connections: how many, from whom, and for how long.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
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
use crate::inbox::Handle;
use crate::socket::ApiSocket;

/// Connections at a time, on the socket and by TCP; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
const MAX_TCP_CONNECTIONS: usize = 64;

/// What a connection may hold of what it has read and not worked off, a head in the first place.
const MAX_BUFFER: usize = 64 << 10;

/// How long the headers of a request may take, and so how long one may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may last. An answer that is under way then has as long
/// again, so that nobody keeps a place by not reading.
const LIFETIME: Duration = Duration::from_secs(60);

/// Peers that are told at a time that they may not, and how long that may take.
/// They take no places from those who may; more of them are hung up on.
const MAX_REFUSALS: usize = 8;
const REFUSAL_LIFETIME: Duration = Duration::from_secs(1);

/// Where the daemon is spoken to.
pub struct Listeners {
    pub socket: ApiSocket,
    /// Does not block.
    pub metrics: Option<std::net::TcpListener>,
}

/// Serves the API on the socket, and metrics by TCP where that is wanted.
/// Ends only with an error.
pub async fn serve(listeners: &Listeners, handle: Handle) -> Result<()> {
    let socket = &listeners.socket;
    let unix = UnixListener::from_std(socket.listener.try_clone()?)?;
    let unix = serve_unix(unix, socket, handle.clone());
    match &listeners.metrics {
        None => unix.await,
        Some(listener) => {
            let listener = TcpListener::from_std(listener.try_clone()?)?;
            tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
            tokio::try_join!(unix, serve_tcp(listener, handle)).map(|_| ())
        }
    }
}

async fn serve_unix(listener: UnixListener, socket: &ApiSocket, handle: Handle) -> Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let api = api::Api::new(handle);
    loop {
        let place = places.clone().acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if access::is_allowed(&peer, socket.group) => {
                let router = api.clone().router(peer.uid());
                tokio::spawn(async move {
                    connection(stream, router, LIFETIME).await;
                    drop(place);
                });
            }
            peer => {
                let Ok(refusal) = refusals.clone().try_acquire_owned() else { continue };
                let uid = peer.map_or("unknown".to_string(), |p| p.uid().to_string());
                tracing::warn!("refused: user {uid} may not use the socket");
                tokio::spawn(async move {
                    connection(stream, api::refusing(), REFUSAL_LIFETIME).await;
                    drop(refusal);
                });
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, handle: Handle) -> Result<()> {
    let places = Arc::new(Semaphore::new(MAX_TCP_CONNECTIONS));
    let api = api::Api::new(handle);
    loop {
        let place = places.clone().acquire_owned().await?;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = api.clone().metrics_only();
                tokio::spawn(async move {
                    connection(stream, router, LIFETIME).await;
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

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    lifetime: Duration,
) {
    let service = TowerToHyperService::new(router.map_request(|request: Request<Incoming>| request));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_BUFFER);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = tokio::time::sleep(lifetime) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(lifetime, connection).await {
                Ok(served) => served,
                Err(_) => return tracing::debug!("a connection outlived its time and is cut"),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended: {error}");
    }
}

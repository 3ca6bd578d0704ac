//! Live packets that fit a filter, as lines of JSON while they come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use crossbeam_channel::{TryRecvError, bounded};
use engine::ids::PortIndex;
use engine::packet::Body as PacketBody;
use engine::pipeline::{Fate, Observation};
use engine::time::Ticks;
use engine::verdict::DropReason;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use worker::{MAX_TAPS, TapRequest, Traced, Wanted};

use crate::accounts::Tuple;
use crate::api::Api;
use crate::error::ApiError;
use crate::filter;
use crate::inbox::Handle;
use crate::sight;
use crate::switch::Switch;

/// The most packets of one trace.
const MAX_PACKETS: usize = 100_000;

/// The longest trace, in seconds: as long as a connection to the socket may last.
const MAX_SECONDS: u64 = 60;

/// Bytes of each frame that are kept.
const MAX_HEAD: usize = 9216;

/// Packets that wait to be shown; more are lost.
const QUEUE: usize = 4096;

/// Packets that are put into words at a time.
const CHUNK: usize = 64;

/// How often it is looked whether there are any.
const PAUSE: Duration = Duration::from_millis(20);

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new().route("/v1/trace", get(trace))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TraceQuery {
    packets: Option<usize>,
    seconds: Option<u64>,
    bytes: Option<usize>,
    interface: Option<String>,
    port_name: Option<String>,
    address: Option<String>,
    protocol: Option<u8>,
    port: Option<u16>,
    /// `passed` or `dropped`.
    verdict: Option<String>,
    /// Dropped for this reason.
    reason: Option<String>,
}

impl TraceQuery {
    /// As a test of packets, by the numbers of the policy in force.
    fn wanted(&self, switch: &Switch) -> Result<Wanted, ApiError> {
        let interface = self.interface.as_deref().map(|id| filter::interface(switch, id)).transpose()?;
        let by_port =
            self.port_name.as_deref().map(|name| filter::port(switch, "port_name", name)).transpose()?;
        let block = self.address.as_deref().map(filter::block).transpose()?;
        let reason = match &self.reason {
            None => None,
            Some(label) => {
                let known = DropReason::ALL.iter().copied().find(|reason| reason.label() == label);
                Some(known.ok_or_else(|| {
                    ApiError::invalid(format!("reason: '{label}' is no reason to drop a packet"))
                })?)
            }
        };
        let dropped = match self.verdict.as_deref() {
            None => None,
            Some("dropped") => Some(true),
            Some("passed") => Some(false),
            Some(other) => {
                return Err(ApiError::invalid(format!("verdict: '{other}': expected passed or dropped")));
            }
        };
        let (protocol, port) = (self.protocol, self.port);
        let by_tuple = protocol.is_some() || port.is_some() || block.is_some();
        Ok(Arc::new(move |seen: &Observation, at: PortIndex, fate: Fate| {
            // Whoever judges it tells of it.
            if matches!(fate, Fate::HandedOver(_) | Fate::Waits) {
                return false;
            }
            let is_dropped = matches!(fate, Fate::Dropped(_));
            let fits_tuple = || {
                let Ok(packet) = &seen.packet else { return false };
                let PacketBody::Ip(ip) = &packet.body else { return false };
                let tuple = Tuple::of_ip(ip);
                protocol.is_none_or(|p| p == tuple.protocol)
                    && port.is_none_or(|p| {
                        matches!(tuple.protocol, 6 | 17) && (p == tuple.src_port || p == tuple.dst_port)
                    })
                    && block.is_none_or(|b| b.contains(&tuple.src) || b.contains(&tuple.dst))
            };
            interface.is_none_or(|id| seen.sender == id || seen.receiver == id)
                && by_port.is_none_or(|port| port == at)
                && dropped.is_none_or(|dropped| dropped == is_dropped)
                && reason.is_none_or(|reason| fate == Fate::Dropped(reason))
                && (!by_tuple || fits_tuple())
        }))
    }
}

async fn trace(
    State(api): State<Api>,
    query: Result<Query<TraceQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query?;
    let (packets, seconds) = (query.packets.unwrap_or(100), query.seconds.unwrap_or(10));
    let head = query.bytes.unwrap_or(128);
    if !(1..=MAX_PACKETS).contains(&packets) {
        return Err(ApiError::invalid(format!("packets: expected 1 to {MAX_PACKETS}")));
    }
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(ApiError::invalid(format!("seconds: expected 1 to {MAX_SECONDS}")));
    }
    if head > MAX_HEAD {
        return Err(ApiError::invalid(format!("bytes: expected {MAX_HEAD} at most")));
    }
    let place = api.traces.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_TAPS} traces are under way, the most there may be: try again later");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RequestLimitExceeded", message)
    })?;
    let (reply, traced) = bounded::<Traced>(QUEUE);
    let begin = move |switch: &mut Switch| -> Result<(), ApiError> {
        let wanted = query.wanted(switch)?;
        let until = switch.datapath.now() + Ticks::from_secs(seconds as u32);
        switch.datapath.trace(|| TapRequest {
            wanted: wanted.clone(),
            limit: packets,
            until,
            head,
            reply: reply.clone(),
        });
        Ok(())
    };
    api.handle.run(begin).await??;
    let (lines, stream) = mpsc::channel(CHUNK);
    let handle = api.handle.clone();
    tokio::spawn(async move {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        tell(&handle, &traced, packets, deadline, lines).await;
        drop(place);
    });
    let body = Body::from_stream(ReceiverStream::new(stream));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

type Line = Result<Bytes, std::convert::Infallible>;

/// Shows packets as they come, until there are enough, the time is up, or nobody
/// reads any more. That drops the channel, which ends the trace at the workers.
async fn tell(
    handle: &Handle,
    traced: &crossbeam_channel::Receiver<Traced>,
    mut left: usize,
    deadline: Instant,
    lines: mpsc::Sender<Line>,
) {
    while left > 0 && !lines.is_closed() {
        let mut chunk = Vec::new();
        let mut is_over = false;
        while chunk.len() < CHUNK.min(left) {
            match traced.try_recv() {
                Ok(packet) => chunk.push(packet),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    is_over = true;
                    break;
                }
            }
        }
        if chunk.is_empty() {
            if is_over || Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        left -= chunk.len();
        let shown = handle.run(move |switch| {
            let names = switch.names();
            chunk.iter().map(|packet| sight::shown(switch, &names, packet)).collect::<Vec<_>>()
        });
        let Ok(shown) = shown.await else { return };
        for line in shown {
            if lines.send(Ok(format!("{line}\n").into())).await.is_err() {
                return;
            }
        }
    }
}

//! What the policy in force would do with the packets of a capture: they go, in
//! order, through a pipeline of their own that starts without any connection and
//! judges by the tables that the workers use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use engine::addr::MacAddr;
use engine::conntrack::TableConfig;
use engine::fragment::FragmentOf;
use engine::ids::{PortIndex, WorkerIndex};
use engine::packet::Frame;
use engine::pipeline::{Arrival, Counters, Fate, Outcome, Outcomes, Pipeline, PipelineConfig};
use engine::snapshot::Snapshot;
use engine::time::{TICKS_PER_SECOND, Tick};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::Traced;

use crate::accounts::Names;
use crate::api::Api;
use crate::error::ApiError;
use crate::filter;
use crate::sight;
use crate::switch::Switch;

/// The most packets of a request.
const MAX_PACKETS: usize = 10_000;

/// Connections that they may open.
const MAX_CONNECTIONS: usize = 65_536;

/// Packets that keep the control thread at a time.
const CHUNK: usize = 64;

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new().route("/v1/explain/packets", post(explain))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Request {
    /// The port that all of them come in by. Without it, each comes by the port of
    /// the interface that has its source MAC, by the uplink that it is behind, or else by an uplink.
    #[serde(default)]
    port: Option<String>,
    /// The packets, in order.
    frames: Vec<FrameOf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FrameOf {
    /// Its bytes from the Ethernet header on, in hexadecimal digits.
    data: String,
    /// How long it was, where the capture has not kept all of it.
    #[serde(default)]
    length: Option<u32>,
    /// When it was, in seconds.
    #[serde(default)]
    time: f64,
}

async fn explain(State(api): State<Api>, body: Body) -> Result<Response, ApiError> {
    let (bytes, _place) = api.room.read(body).await?;
    let request: Request = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::invalid(format!("no packets to explain: {error}")))?;
    if request.frames.len() > MAX_PACKETS {
        return Err(ApiError::invalid(format!("Frames: expected {MAX_PACKETS} at most")));
    }
    let mut frames = Vec::with_capacity(request.frames.len());
    for (at, frame) in request.frames.into_iter().enumerate() {
        let data = hex::decode(&frame.data).map_err(|_| {
            ApiError::invalid(format!("Frames[{at}].Data: expected pairs of hexadecimal digits"))
        })?;
        let length = frame.length.unwrap_or(0).max(data.len() as u32);
        let time = if frame.time.is_finite() { frame.time.clamp(0.0, 1e10) } else { 0.0 };
        frames.push(Captured { data, length, time });
    }
    let port = request.port;
    let mut rehearsal = api.handle.run(move |switch| Rehearsal::new(switch, port.as_deref())).await??;
    let mut frames = frames.into_iter().enumerate().peekable();
    while frames.peek().is_some() {
        let chunk: Vec<(usize, Captured)> = frames.by_ref().take(CHUNK).collect();
        rehearsal = api
            .handle
            .run(move |switch| {
                chunk.into_iter().for_each(|(index, frame)| rehearsal.judge(switch, index, frame));
                rehearsal
            })
            .await?;
    }
    let shown = api.handle.run(move |switch| rehearsal.finish(switch)).await?;
    Ok(Json(shown).into_response())
}

struct Captured {
    data: Vec<u8>,
    length: u32,
    time: f64,
}

/// One worker that is none, and what it has said so far.
struct Rehearsal {
    generation: u64,
    snapshot: Snapshot,
    names: Names,
    pipeline: Box<Pipeline>,
    outcomes: Outcomes,
    /// Where all packets come in, if that was said.
    port: Option<PortIndex>,
    /// Where those come in of whose sender it is not known.
    uplink: Option<PortIndex>,
    by_mac: HashMap<MacAddr, PortIndex>,
    /// When the first packet was.
    began: Option<f64>,
    /// Fragments that wait, by their places.
    waiting: HashMap<u16, (usize, PortIndex, Captured)>,
    shown: Vec<(usize, Value)>,
}

impl Rehearsal {
    fn new(switch: &Switch, port: Option<&str>) -> Result<Rehearsal, ApiError> {
        let closed = || ApiError::invalid("there is no policy yet: the switch is closed, nothing passes");
        let current = switch.current.as_ref().ok_or_else(closed)?;
        let port = port.map(|name| filter::port(switch, "Port", name)).transpose()?;
        let snapshot = current.snapshot.clone();
        let hosts = snapshot.vpcs.iter().flat_map(|vpc| vpc.hosts());
        let hosts = hosts.filter_map(|(mac, behind)| Some((mac, behind.uplink()?)));
        let far = snapshot.interfaces.iter().filter_map(|i| Some((i.mac, i.behind?.uplink()?)));
        // What is plugged in here last: the same MAC may be another's in another VPC.
        let here = snapshot.interfaces.iter().filter_map(|i| Some((i.mac, i.port?)));
        let by_mac = hosts.chain(far).chain(here).collect();
        let uplink = snapshot.ports.uplinks().next();
        let slots = snapshot.interfaces.slots();
        let pipeline = Pipeline::new(PipelineConfig {
            worker: WorkerIndex(0),
            workers: 1,
            table: TableConfig { capacity: MAX_CONNECTIONS },
            // Nobody attacks a rehearsal.
            seed: [1, 2, 3, 4],
            interface_slots: slots,
            counters: Arc::new(Counters::new(slots)),
            advise: |_| (),
        });
        Ok(Rehearsal {
            generation: current.generation,
            snapshot,
            names: switch.names(),
            pipeline: Box::new(pipeline),
            outcomes: Outcomes::new(),
            port,
            uplink,
            by_mac,
            began: None,
            waiting: HashMap::new(),
            shown: Vec::new(),
        })
    }

    /// Judges a packet, then those that have waited for it.
    fn judge(&mut self, switch: &Switch, index: usize, frame: Captured) {
        let source = frame.data.get(6..12).and_then(|mac| mac.try_into().ok()).map(MacAddr);
        let by_mac = source.and_then(|mac| self.by_mac.get(&mac).copied());
        // A port beyond all is bound to nothing.
        let port = self.port.or(by_mac).or(self.uplink).unwrap_or(PortIndex(u16::MAX - 1));
        let now = self.tick(frame.time);
        self.pipeline.housekeep(now);
        self.discard(switch);
        self.put(switch, index, port, frame, None);
        while self.pipeline.is_waiting_over() {
            let released: Vec<_> = self.pipeline.released().collect();
            if released.is_empty() {
                self.discard(switch);
                break;
            }
            for (slot, of) in released {
                if let Some((index, port, frame)) = self.waiting.remove(&slot.0) {
                    self.put(switch, index, port, frame, Some(of));
                }
            }
            self.discard(switch);
        }
    }

    fn tick(&mut self, time: f64) -> Tick {
        let since = (time - *self.began.get_or_insert(time)).max(0.0);
        Tick(1 + (since * f64::from(TICKS_PER_SECOND)) as u32)
    }

    fn put(
        &mut self,
        switch: &Switch,
        index: usize,
        port: PortIndex,
        frame: Captured,
        of: Option<FragmentOf>,
    ) {
        let now = self.tick(frame.time);
        let whole = Frame { head: &frame.data, length: frame.length };
        let arrival = Arrival { frame: whole, port, steered: false, of };
        let observation = self.pipeline.observe(&self.snapshot, now, &arrival);
        self.pipeline.run(&self.snapshot, now, &[arrival], &mut (), &mut self.outcomes);
        if let Outcome::Wait(slot) = self.outcomes.get(0) {
            self.waiting.insert(slot.0, (index, port, frame));
            return;
        }
        let deliveries = match self.outcomes.get(0) {
            Outcome::Send(delivery) => std::slice::from_ref(delivery),
            Outcome::Flood(places) => self.outcomes.copies(places),
            _ => &[],
        };
        let traced = Traced {
            deliveries: deliveries.iter().copied().take(8).collect(),
            observation,
            fate: self.outcomes.fate(0),
            ..self.traced(port, frame)
        };
        self.shown.push((index, sight::shown(switch, &self.names, &traced)));
    }

    fn traced(&self, port: PortIndex, frame: Captured) -> Traced {
        let whole = Frame { head: &frame.data, length: frame.length };
        let arrival = Arrival { frame: whole, port, steered: false, of: None };
        Traced {
            at: UNIX_EPOCH + Duration::from_secs_f64(frame.time),
            worker: WorkerIndex(0),
            generation: self.generation,
            port,
            steered: false,
            length: frame.length,
            observation: self.pipeline.observe(&self.snapshot, Tick(1), &arrival),
            fate: Fate::Waits,
            deliveries: Default::default(),
            head: frame.data,
        }
    }

    /// Fragments that have waited too long.
    fn discard(&mut self, switch: &Switch) {
        let discarded: Vec<u16> = self.pipeline.discarded().map(|slot| slot.0).collect();
        self.pipeline.reuse();
        for slot in discarded {
            if let Some((index, port, frame)) = self.waiting.remove(&slot) {
                let reason = engine::verdict::DropReason::FragmentOrphan;
                let traced = Traced { fate: Fate::Dropped(reason), ..self.traced(port, frame) };
                self.shown.push((index, sight::shown(switch, &self.names, &traced)));
            }
        }
    }

    /// What became of each packet, in the order of the capture.
    fn finish(mut self, switch: &Switch) -> Value {
        for (index, port, frame) in std::mem::take(&mut self.waiting).into_values() {
            let traced = self.traced(port, frame);
            self.shown.push((index, sight::shown(switch, &self.names, &traced)));
        }
        self.shown.sort_by_key(|(index, _)| *index);
        let packets = self.shown.into_iter().map(|(index, mut shown)| {
            shown["Number"] = json!(index + 1);
            shown
        });
        json!({ "Generation": self.generation, "Packets": packets.collect::<Vec<_>>() })
    }
}

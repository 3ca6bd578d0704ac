//! What a push would do, before it is done: to rules, verdicts, quotas, and to
//! the flows that live.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use engine::conntrack::Entry;
use engine::ids::WorkerIndex;
use engine::time::Tick;
use policy::{Notice, Plan, Rulebook, plan};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::accounts::{Names, UntrackedFlow};
use crate::api::{Api, etag};
use crate::error::ApiError;
use crate::flows::{MAX_JUDGED, Standing, shown, shown_untracked, standing, untracked_passes};
use crate::push::PushError;
use crate::switch::Switch;

/// Packets that both policies are asked about.
const PACKETS: usize = 20_000;

/// Flows of each kind that an answer lists.
const MAX_LISTED: usize = 1000;

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new().route("/v1/plan", post(answer))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PlanQuery {
    partial: bool,
}

/// Flows that would fare otherwise.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Flows {
    /// Untracked flows of the last minute that pass now and would stop at once,
    /// and connections whose interface goes, or that an end without state refuses.
    cut: List,
    /// Connections that rules let open now and would not then: they go on.
    outlive: List,
    /// Connections that outlive their rule already.
    outlive_already: usize,
    /// Whether all connections were looked at.
    complete: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    count: usize,
    flows: Vec<Value>,
}

impl List {
    fn push(&mut self, flow: impl FnOnce() -> Value) {
        self.count += 1;
        if self.flows.len() < MAX_LISTED {
            self.flows.push(flow());
        }
    }
}

/// What is gathered on the control thread.
struct Gathered {
    generation: u64,
    notices: Vec<Notice>,
    before: Rulebook,
    after: Rulebook,
    names: Names,
    connections: Vec<(WorkerIndex, Tick, Vec<Entry>)>,
    answered: bool,
    untracked: Vec<UntrackedFlow>,
}

async fn answer(
    State(api): State<Api>,
    query: Result<Query<PlanQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, ApiError> {
    let Query(PlanQuery { partial }) = query?;
    let (bytes, place) = api.room.read(body).await?;
    let gathered = api.handle.run(move |switch| gather(switch, &bytes, partial)).await??;
    let generation = gathered.generation;
    let shown = tokio::task::spawn_blocking(move || shown_plan(&gathered)).await;
    drop(place);
    let shown = shown.map_err(ApiError::internal)?;
    Ok(([(header::ETAG, etag(generation))], Json(shown)).into_response())
}

/// Goes the way of a push up to where something would change.
fn gather(switch: &mut Switch, document: &[u8], partial: bool) -> Result<Gathered, PushError> {
    let (after, notices) = switch.prepare(document, partial)?;
    let generation = switch.generation();
    let before = switch.current.as_ref().map(|current| current.book.clone()).unwrap_or_default();
    let connections = switch.datapath.connections(MAX_JUDGED, |_| true);
    Ok(Gathered {
        generation,
        notices,
        before,
        after,
        names: switch.names(),
        answered: connections.len() == switch.datapath.workers().len(),
        connections,
        untracked: switch.accounts.untracked(),
    })
}

fn shown_plan(gathered: &Gathered) -> Value {
    let changes: Plan = plan(&gathered.before, &gathered.after, PACKETS);
    let flows = match changes.is_empty() {
        true => Flows { complete: true, ..Flows::default() },
        false => flows(gathered),
    };
    json!({
        "Generation": gathered.generation,
        "Changes": !changes.is_empty(),
        "Plan": changes,
        "Flows": flows,
        "Notices": gathered.notices,
    })
}

fn flows(gathered: &Gathered) -> Flows {
    let Gathered { before, after, names, connections, answered, untracked, .. } = gathered;
    let complete = *answered && connections.iter().all(|(_, _, entries)| entries.len() < MAX_JUDGED);
    let mut flows = Flows { complete, ..Flows::default() };
    for entry in connections.iter().flat_map(|(_, _, entries)| entries) {
        let now = standing(before, entry, names);
        match standing(after, entry, names) {
            Standing::Allowed => {}
            Standing::Gone | Standing::Cut if matches!(now, Standing::Gone | Standing::Cut) => {}
            Standing::Gone | Standing::Cut => flows.cut.push(|| shown(entry, names)),
            Standing::NotAllowed if now == Standing::Allowed => flows.outlive.push(|| shown(entry, names)),
            Standing::NotAllowed => flows.outlive_already += 1,
        }
    }
    for flow in untracked {
        if untracked_passes(before, flow) && !untracked_passes(after, flow) {
            flows.cut.push(|| shown_untracked(flow));
        }
    }
    flows
}

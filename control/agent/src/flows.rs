//! Connections: listed, ended, and who sends most.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::conntrack::Entry;
use engine::flow::{FlowKey, Side};
use engine::ids::InterfaceId;
use engine::policy::Direction;
use engine::verdict::Judgement;
use ipnet::IpNet;
use policy::{Id, Rulebook, oracle};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::{Accounts, Names, Talker, Tuple, UntrackedFlow};
use crate::api::Api;
use crate::bodies::{MAX_QUESTION, in_time, read};
use crate::error::ApiError;
use crate::filter;
use crate::switch::Switch;

/// The most flows that one answer lists.
const MAX_FLOWS: usize = 100_000;

/// Connections of each worker that are held against rules in one request.
pub const MAX_JUDGED: usize = 1_000_000;

/// How long a measurement may last, in seconds.
const MAX_TOP_SECONDS: u64 = 30;

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/flows", get(list))
        .route("/v1/flows/kill", post(kill))
        .route("/v1/flows/top", get(top))
}

/// Which connections are meant: those that fit all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FlowFilter {
    /// Of this interface.
    pub interface: Option<Id>,
    /// Of this protocol number.
    pub protocol: Option<u8>,
    /// With an end in this block, or at this address.
    pub address: Option<String>,
    /// With this port at either end.
    pub port: Option<u16>,
    /// In this state, by its label.
    pub state: Option<String>,
    /// In this VPC.
    pub vpc: Option<Id>,
}

type Admits = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

impl FlowFilter {
    fn block(&self) -> Result<Option<IpNet>, ApiError> {
        self.address.as_deref().map(filter::block).transpose()
    }

    /// As a test of entries, by the numbers of the policy in force.
    fn admits(&self, switch: &Switch) -> Result<Admits, ApiError> {
        let interface = self.interface.as_deref().map(|id| filter::interface(switch, id)).transpose()?;
        let vpc = self.vpc.as_deref().map(|id| filter::vpc(switch, id)).transpose()?;
        if let Some(state) = &self.state
            && !engine::conntrack::State::ALL.iter().any(|known| known.label() == state)
        {
            let known: Vec<_> = engine::conntrack::State::ALL.iter().map(|state| state.label()).collect();
            return Err(ApiError::invalid(format!(
                "state: '{state}' is none: expected one of {}",
                known.join(", ")
            )));
        }
        let (block, FlowFilter { protocol, port, state, .. }) = (self.block()?, self.clone());
        Ok(Arc::new(move |entry: &Entry| {
            let key = entry.key();
            let ends = || Side::BOTH.into_iter().map(|side| key.endpoint(side));
            protocol.is_none_or(|p| p == key.protocol())
                && interface.is_none_or(|id| Side::BOTH.iter().any(|side| entry.end(*side) == id))
                && vpc.is_none_or(|vpc| vpc == key.vpc())
                && port.is_none_or(|port| ends().any(|(_, p)| p == port))
                && block.is_none_or(|block| ends().any(|(a, _)| block.contains(&IpAddr::from(a))))
                && state.as_ref().is_none_or(|state| entry.state().label() == state)
        }))
    }

    /// The same test for a flow without a connection, which has no state.
    fn admits_untracked(&self, flow: &UntrackedFlow) -> Result<bool, ApiError> {
        let Tuple { protocol, src, dst, src_port, dst_port } = flow.tuple;
        let block = self.block()?;
        Ok(self.state.is_none()
            && self.protocol.is_none_or(|p| p == protocol)
            && self.port.is_none_or(|port| src_port == port || dst_port == port)
            && block.is_none_or(|block| block.contains(&src) || block.contains(&dst))
            && self.vpc.as_ref().is_none_or(|vpc| flow.vpc.as_ref() == Some(vpc))
            && self
                .interface
                .as_ref()
                .is_none_or(|id| [&flow.sender, &flow.receiver].contains(&&Some(id.clone()))))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListQuery {
    limit: Option<usize>,
    /// Untracked flows of the last minute as well.
    untracked: bool,
    interface: Option<Id>,
    protocol: Option<u8>,
    address: Option<String>,
    port: Option<u16>,
    state: Option<String>,
    vpc: Option<Id>,
}

async fn list(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(ListQuery { limit, untracked, interface, protocol, address, port, state, vpc }) = query?;
    let filter = FlowFilter { interface, protocol, address, port, state, vpc };
    let limit = limit.unwrap_or(1000);
    if limit > MAX_FLOWS {
        return Err(ApiError::invalid(format!("limit: expected {MAX_FLOWS} at most")));
    }
    let answer = api.handle.run(move |switch| listed(switch, &filter, limit, untracked)).await??;
    Ok(Json(answer).into_response())
}

fn listed(switch: &Switch, filter: &FlowFilter, limit: usize, untracked: bool) -> Result<Value, ApiError> {
    let admits = filter.admits(switch)?;
    let names = switch.names();
    let answers = switch.datapath.connections(limit, move |entry| admits(entry));
    let complete = answers.len() == switch.datapath.workers().len();
    let mut flows = Vec::new();
    for (worker, now, entries) in answers {
        for entry in entries {
            let ticks = entry.deadline().0.saturating_sub(now.0);
            let mut flow = shown(&entry, &names);
            flow["Worker"] = json!(worker.0);
            flow["ExpiresInSeconds"] = json!(ticks / engine::time::TICKS_PER_SECOND);
            flows.push(flow);
        }
    }
    if untracked {
        for flow in switch.accounts.untracked() {
            if filter.admits_untracked(&flow)? {
                flows.push(shown_untracked(&flow));
            }
        }
    }
    let truncated = flows.len() > limit;
    flows.truncate(limit);
    Ok(
        json!({ "Generation": switch.generation(), "Flows": flows, "Truncated": truncated, "Complete": complete }),
    )
}

/// A connection, as an answer has it.
pub fn shown(entry: &Entry, names: &Names) -> Value {
    let end = |side: Side| {
        let (address, port) = entry.key().endpoint(side);
        json!({
            "Address": IpAddr::from(address).to_string(),
            "Port": port,
            "NetworkInterfaceId": names.interfaces.get(&entry.end(side)),
            "Tracked": entry.is_tracked(side),
        })
    };
    json!({
        "VpcId": names.vpcs.get(&entry.key().vpc()),
        "Protocol": entry.key().protocol(),
        "State": entry.state().label(),
        "Originator": end(entry.originator()),
        "Responder": end(entry.originator().other()),
    })
}

/// A flow that has none.
pub fn shown_untracked(flow: &UntrackedFlow) -> Value {
    let end = |address: IpAddr, port: u16, interface: &Option<Id>| json!({ "Address": address.to_string(), "Port": port, "NetworkInterfaceId": interface, "Tracked": false });
    let Tuple { protocol, src, dst, src_port, dst_port } = flow.tuple;
    json!({
        "VpcId": flow.vpc,
        "Protocol": protocol,
        "State": "untracked",
        "Originator": end(src, src_port, &flow.sender),
        "Responder": end(dst, dst_port, &flow.receiver),
        "Packets": flow.packets,
        "Bytes": flow.bytes,
        "SecondsSinceLast": flow.last.elapsed().as_secs(),
    })
}

/// How a policy stands to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Each end that tracks it is there, and its rules would let it open again.
    Allowed,
    /// Rules of an end that tracks it would not.
    NotAllowed,
    /// Rules of an end that does not track it do not: its packets are dropped.
    Cut,
    /// An end that it has is no longer plugged in under that name.
    Gone,
}

/// How the policy of a rulebook stands to a connection.
pub fn standing(book: &Rulebook, entry: &Entry, names: &Names) -> Standing {
    let tuple = tuple_of(entry);
    let from = entry.originator();
    let ends = [
        (from, Direction::Outbound, tuple.at_sender()),
        (from.other(), Direction::Inbound, tuple.at_receiver()),
    ];
    let mut standing = Standing::Allowed;
    for (side, direction, packet) in ends {
        let id: InterfaceId = entry.end(side);
        if !id.is_some() {
            continue;
        }
        let Some(interface) = names.interfaces.get(&id).and_then(|name| book.served(name)) else {
            return Standing::Gone;
        };
        let own = if side == from { tuple.src } else { tuple.dst };
        let owns = interface.addresses.contains(&own) || interface.prefixes.iter().any(|p| p.contains(&own));
        if !owns && interface.source_dest_check && !is_link_local(own) {
            return Standing::Gone;
        }
        if book.judge(interface, direction, &packet).0 == Judgement::Denied {
            if !entry.is_tracked(side) {
                return Standing::Cut;
            }
            standing = Standing::NotAllowed;
        }
    }
    standing
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The packet that would open a connection like this.
fn tuple_of(entry: &Entry) -> Tuple {
    let key = entry.key();
    let [(src, src_port), (dst, dst_port)] =
        [entry.originator(), entry.originator().other()].map(|side| key.endpoint(side));
    let (src_port, dst_port) = match key.protocol() {
        6 | 17 => (src_port, dst_port),
        // Of a request the other end's port says type and code, of the rest the own one.
        1 | 58 => (0, if dst_port == u16::MAX { src_port } else { dst_port }),
        _ => (0, 0),
    };
    Tuple { protocol: key.protocol(), src: src.into(), dst: dst.into(), src_port, dst_port }
}

/// What a flow without a connection would be judged as: it passes if both ends
/// that are ours let it.
pub fn untracked_passes(book: &Rulebook, flow: &UntrackedFlow) -> bool {
    let ends: [(&Option<Id>, Direction, oracle::Packet); 2] = [
        (&flow.sender, Direction::Outbound, flow.tuple.at_sender()),
        (&flow.receiver, Direction::Inbound, flow.tuple.at_receiver()),
    ];
    ends.into_iter().all(|(name, direction, packet)| {
        let Some(name) = name else { return true };
        let judged = book.served(name).map(|interface| book.judge(interface, direction, &packet).0);
        judged.is_some_and(|judgement| judgement != Judgement::Denied)
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct KillRequest {
    interface: Option<Id>,
    protocol: Option<u8>,
    address: Option<String>,
    port: Option<u16>,
    state: Option<String>,
    vpc: Option<Id>,
    /// Those that rules would not let open any more.
    no_longer_allowed: bool,
    /// Whatever else is said or not.
    all: bool,
}

async fn kill(State(api): State<Api>, body: Body) -> Result<Response, ApiError> {
    let question = in_time(read(body, MAX_QUESTION)).await?;
    let request: KillRequest = serde_json::from_slice(&question)
        .map_err(|error| ApiError::invalid(format!("no connections to end: {error}")))?;
    let KillRequest { interface, protocol, address, port, state, vpc, no_longer_allowed, all } = request;
    let filter = FlowFilter { interface, protocol, address, port, state, vpc };
    if filter == FlowFilter::default() && !no_longer_allowed && !all {
        return Err(ApiError::invalid("which connections? Say it by a filter, or that all are meant"));
    }
    let admits = {
        let filter = filter.clone();
        api.handle.run(move |switch| filter.admits(switch)).await??
    };
    let (admits, found_all) = match no_longer_allowed {
        true => not_allowed(&api, admits).await?,
        false => (admits, true),
    };
    let killed = api
        .handle
        .run(move |switch| {
            let answers = switch.datapath.forget_connections(move |entry| admits(entry));
            let complete = found_all && answers.len() == switch.datapath.workers().len();
            let killed: usize = answers.iter().map(|(_, n)| n).sum();
            tracing::info!("{killed} connections are ended on request");
            json!({ "Killed": killed, "Complete": complete })
        })
        .await?;
    Ok(Json(killed).into_response())
}

/// Those among the admitted that the policy in force would not let open. They are
/// found by their rules off the control thread, which may take long. Also whether
/// all were looked at.
async fn not_allowed(api: &Api, admits: Admits) -> Result<(Admits, bool), ApiError> {
    let gathered = api
        .handle
        .run(move |switch| {
            let book = switch.current.as_ref()?.book.clone();
            let entries = switch.datapath.connections(MAX_JUDGED, move |entry| admits(entry));
            let complete = entries.len() == switch.datapath.workers().len();
            Some((book, switch.names(), entries, complete))
        })
        .await?;
    let Some((book, names, answers, complete)) = gathered else { return Ok((Arc::new(|_| false), true)) };
    let complete = complete && answers.iter().all(|(_, _, entries)| entries.len() < MAX_JUDGED);
    let find = move || -> HashSet<FlowKey> {
        let entries = answers.into_iter().flat_map(|(_, _, entries)| entries);
        let unwanted = entries.filter(|entry| standing(&book, entry, &names) != Standing::Allowed);
        unwanted.map(|entry| *entry.key()).collect()
    };
    let unwanted = tokio::task::spawn_blocking(find).await.map_err(ApiError::internal)?;
    Ok((Arc::new(move |entry: &Entry| unwanted.contains(entry.key())), complete))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TopQuery {
    seconds: Option<u64>,
    limit: Option<usize>,
    by: Option<By>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    #[default]
    Bytes,
    Packets,
    Dropped,
}

/// Work on the accounts that has to wait.
async fn blocking<R: Send + 'static>(
    accounts: &Accounts,
    work: impl FnOnce(&Accounts) -> R + Send + 'static,
) -> Result<R, ApiError> {
    let accounts = accounts.clone();
    tokio::task::spawn_blocking(move || work(&accounts)).await.map_err(ApiError::internal)
}

async fn top(
    State(api): State<Api>,
    query: Result<Query<TopQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(TopQuery { seconds, limit, by }) = query?;
    let (seconds, limit, by) = (seconds.unwrap_or(2), limit.unwrap_or(20), by.unwrap_or_default());
    if !(1..=MAX_TOP_SECONDS).contains(&seconds) {
        return Err(ApiError::invalid(format!("seconds: expected 1 to {MAX_TOP_SECONDS}")));
    }
    if limit > MAX_FLOWS {
        return Err(ApiError::invalid(format!("limit: expected {MAX_FLOWS} at most")));
    }
    let accounts = api.handle.run(|switch| switch.accounts.clone()).await?;
    let lost = accounts.lost();
    let busy = |message| ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RequestLimitExceeded", message);
    // Beginning and ending wait for the workers.
    let begun = blocking(&accounts, Accounts::begin_top).await?;
    let id = begun.map_err(busy)?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    tokio::time::sleep_until(deadline.into()).await;
    let ended = blocking(&accounts, move |accounts| accounts.end_top(id)).await?;
    let answer = ended.ok_or_else(|| ApiError::internal("the measurement was given up"))?;
    let lost = accounts.lost() - lost;
    let mut talkers = answer.talkers;
    let rank = |t: &Talker| match by {
        By::Bytes => t.bytes,
        By::Packets => t.packets,
        By::Dropped => t.dropped,
    };
    talkers.sort_by_key(|talker| std::cmp::Reverse((rank(talker), talker.tuple)));
    let all: HashMap<&str, u64> = HashMap::from([
        ("Packets", talkers.iter().map(|t| t.packets).sum()),
        ("Bytes", talkers.iter().map(|t| t.bytes).sum()),
        ("Dropped", talkers.iter().map(|t| t.dropped).sum()),
    ]);
    let shown = talkers.iter().take(limit).map(|talker| {
        let Tuple { protocol, src, dst, src_port, dst_port } = talker.tuple;
        let end = |address: IpAddr, port, interface: &Option<Id>| {
            json!({ "Address": address.to_string(), "Port": port, "NetworkInterfaceId": interface })
        };
        json!({
            "VpcId": talker.vpc,
            "Protocol": protocol,
            "Source": end(src, src_port, &talker.interfaces[0]),
            "Destination": end(dst, dst_port, &talker.interfaces[1]),
            "Packets": talker.packets,
            "Bytes": talker.bytes,
            "Dropped": talker.dropped,
        })
    });
    Ok(Json(json!({
        "Seconds": answer.lasted.as_secs_f64(),
        "Flows": shown.collect::<Vec<_>>(),
        "FlowsSeen": talkers.len(),
        "Total": all,
        "PacketsOfOtherFlows": answer.others,
        "PacketsNotSeen": lost,
    }))
    .into_response())
}

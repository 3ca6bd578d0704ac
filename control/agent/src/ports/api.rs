//! The routes of ports.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use worker::Spreading;

use super::{Known, PortError, State};
use crate::api::{Api, if_match};
use crate::bodies::{MAX_QUESTION, in_time, read};
use crate::error::ApiError;
use crate::switch::Switch;
use crate::views::roles;

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new().route("/v1/ports", get(list).post(add)).route("/v1/ports/{name}", delete(remove).get(one))
}

async fn list(Shared(api): Shared<Api>) -> Result<Response, ApiError> {
    Ok(Json(api.handle.run(|switch| shown(switch)).await?).into_response())
}

async fn one(
    Shared(api): Shared<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(name) = name?;
    let found = api.handle.run(move |switch| {
        let item = |(name, known)| port(switch, &roles(switch), name, known);
        let found = switch.ports.iter().find(|(n, _)| *n == name).map(item);
        found.ok_or_else(|| PortError::NotFound(format!("there is no port named '{name}'")))
    });
    Ok(Json(found.await??).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct NewPort {
    name: String,
    device: String,
}

async fn add(Shared(api): Shared<Api>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let if_generation = if_match(&headers)?;
    let bytes = in_time(read(body, MAX_QUESTION)).await?;
    let NewPort { name, device } = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::invalid(format!("no port: {error}; expected Name and Device")))?;
    let uid = api.uid;
    let added = api.handle.run(move |switch| {
        switch.is_at(if_generation)?;
        switch.add_port(&name, &device, uid)?;
        let known = &switch.ports.known[&name];
        let answer = port(switch, &roles(switch), &name, known);
        Ok::<Value, PortError>(answer)
    });
    Ok(Json(added.await??).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RemoveQuery {
    force: bool,
}

async fn remove(
    Shared(api): Shared<Api>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<RemoveQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let if_generation = if_match(&headers)?;
    let (Path(name), Query(RemoveQuery { force })) = (name?, query?);
    let uid = api.uid;
    let removed = api.handle.run(move |switch| {
        switch.is_at(if_generation)?;
        switch.remove_port(&name, force, uid)?;
        Ok::<Value, PortError>(json!({ "Name": name, "State": "removed", "Generation": switch.generation() }))
    });
    Ok(Json(removed.await??).into_response())
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> ApiError {
        let bad = |code, message: String| ApiError::new(StatusCode::BAD_REQUEST, code, message);
        match error {
            PortError::Invalid(message) => ApiError::invalid(message),
            PortError::Duplicate(message) => bad("InvalidPort.Duplicate", message),
            PortError::NotFound(message) => bad("InvalidPort.NotFound", message),
            PortError::InUse(message) => bad("DependencyViolation", message),
            PortError::Limit(message) => bad("PortLimitExceeded", message),
            PortError::Device(reason) => {
                let message = format!("the device cannot be opened: {reason}");
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "DeviceFailure", message)
            }
            PortError::Push(error) => error.into(),
        }
    }
}

/// All ports.
fn shown(switch: &Switch) -> Value {
    let roles = roles(switch);
    let ports: Vec<Value> =
        switch.ports.iter().map(|(name, known)| port(switch, &roles, name, known)).collect();
    json!({ "Ports": ports })
}

fn port(
    switch: &Switch,
    roles: &std::collections::HashMap<&str, String>,
    name: &str,
    known: &Known,
) -> Value {
    let (state, fault) = match &known.state {
        State::InService(_) => ("in service", None),
        State::Failed { reason, .. } => ("failed", Some(reason)),
    };
    let view = switch.datapath.port(known.index);
    let link = view.as_ref().and_then(|view| view.link);
    let statistics = view.as_ref().and_then(|view| view.statistics).unwrap_or_default();
    let info = view.as_ref().and_then(|view| view.info.as_ref());
    let extended = view.iter().flat_map(|view| &view.xstats).map(|x| (x.name.clone(), json!(x.value)));
    json!({
        "Name": name,
        "Device": known.device.name(),
        "DeviceArguments": known.device.arguments(),
        "Origin": known.origin.label(),
        "State": state,
        "Fault": fault,
        "Failures": known.failures,
        "LinkLosses": known.link_losses,
        "Driver": info.map(|i| i.driver.clone()),
        "Role": roles.get(name).cloned().unwrap_or_else(|| "unbound".to_string()),
        "LinkUp": link.map(|l| l.up),
        "SpeedMbps": link.and_then(|l| l.speed),
        "RxPackets": statistics.rx_packets,
        "TxPackets": statistics.tx_packets,
        "RxBytes": statistics.rx_bytes,
        "TxBytes": statistics.tx_bytes,
        "RxMissed": statistics.rx_missed,
        "RxErrors": statistics.rx_errors,
        "TxErrors": statistics.tx_errors,
        "RxNoMbuf": statistics.rx_no_mbuf,
        "Spreading": view.as_ref().map(|view| spreading(&view.spreading)),
        "Extended": extended.collect::<Map<_, _>>(),
    })
}

/// How a port's packets come to the workers that own their flows.
fn spreading(spreading: &Spreading) -> Value {
    match spreading {
        Spreading::None => json!({ "By": "nobody" }),
        Spreading::Workers(reason) => json!({ "By": "workers", "Reason": reason }),
        Spreading::Port(deliveries) => json!({
            "By": "port",
            "AsTold": deliveries.are_right(),
            "Checked": deliveries.checked(),
            "Elsewhere": deliveries.elsewhere(),
        }),
    }
}

//! What requests name, found in the switch or refused with the name of the key.

use std::net::IpAddr;

use axum::http::StatusCode;
use engine::ids::{InterfaceId, PortIndex, VpcIndex};
use ipnet::IpNet;

use crate::error::ApiError;
use crate::switch::Switch;

/// The interface of this id.
pub fn interface(switch: &Switch, id: &str) -> Result<InterfaceId, ApiError> {
    switch.compiler.interface_id(id).ok_or_else(|| {
        let message = format!("The networkInterface ID '{id}' does not exist");
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidNetworkInterfaceID.NotFound", message)
    })
}

/// The VPC of this id.
pub fn vpc(switch: &Switch, id: &str) -> Result<VpcIndex, ApiError> {
    let found = switch.compiler.vpc_names().into_iter().find(|(_, name)| name == id);
    found.map(|(index, _)| index).ok_or_else(|| {
        let message = format!("The vpc ID '{id}' does not exist");
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidVpcID.NotFound", message)
    })
}

/// The port of this name, which stands under `key`.
pub fn port(switch: &Switch, key: &str, name: &str) -> Result<PortIndex, ApiError> {
    let missing = || ApiError::invalid(format!("{key}: there is no port '{name}'"));
    switch.ports.index(name).ok_or_else(missing)
}

/// A block, or an address as one.
pub fn block(text: &str) -> Result<IpNet, ApiError> {
    let block = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    block.ok_or_else(|| ApiError::invalid(format!("address: '{text}' is neither an address nor a block")))
}

//! Two programs of different versions: what one does not understand of the
//! other is said as that.

use std::path::Path;

use serde_json::Value;

use crate::EXIT_OTHER;
use crate::client::{Ask, Failure, exchange};
use crate::progress::Step;

/// The version of the API that is spoken here.
const API_VERSION: &str = "v1";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The failure in better words, where it comes from a daemon of another version.
pub async fn explained(socket: &Path, failure: Failure) -> Failure {
    let code = failure.body["errors"][0]["code"].as_str();
    if !matches!(code, Some("InvalidAction" | "UnknownAnswer")) {
        return failure;
    }
    match exchange(socket, Ask::get("/version"), &Step::default()).await {
        Ok(answer) => match difference(&answer) {
            Some(message) => Failure::local(EXIT_OTHER, "VersionMismatch", message),
            None => failure,
        },
        // Nobody there who knows: the failure is all there is to say.
        Err(_) => failure,
    }
}

/// In which way a daemon that says this of itself is another than ours.
fn difference(daemon: &Value) -> Option<String> {
    let version = daemon["Version"].as_str()?;
    let spoken: Vec<&str> = daemon["ApiVersions"].as_array()?.iter().filter_map(Value::as_str).collect();
    let advice = format!(
        "install sgctl {version}; or, where sgswitchd {VERSION} is installed already, systemctl restart sgswitchd"
    );
    if !spoken.contains(&API_VERSION) {
        let spoken = spoken.join(", ");
        return Some(format!(
            "this sgctl {VERSION} speaks {API_VERSION}, the daemon {version} speaks {spoken}: {advice}"
        ));
    }
    (version != VERSION).then(|| {
        format!("the daemon {version} does not know what this sgctl {VERSION} asks, or answers otherwise: {advice}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_another_version_is_a_difference() {
        let of =
            |version: &str, spoken: Value| difference(&json!({ "Version": version, "ApiVersions": spoken }));
        assert_eq!(of(VERSION, json!(["v1"])), None);
        assert_eq!(of(VERSION, json!(["v2", "v1"])), None);
        assert!(of("9.0.0", json!(["v1"])).unwrap().contains("does not know"));
        assert!(
            of("9.0.0", json!(["v2", "v3"])).unwrap().contains("the daemon 9.0.0 speaks v2, v3: install")
        );
        assert_eq!(difference(&json!({})), None);
    }
}

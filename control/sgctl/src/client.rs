//! One request over the daemon's socket.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::cli::Output;
use crate::progress::{self, Step};
use crate::{EXIT_CONFLICT, EXIT_DATAPATH, EXIT_INVALID, EXIT_OTHER, EXIT_QUOTA, output, versions};

/// The largest document that the daemon takes.
const MAX_DOCUMENT: usize = 64 << 20;

/// How long an answer may take: longer than a push of any size.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What went wrong, and the status to exit with.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: u8,
    /// `{errors: [{code, message, path}], not_listed}`.
    pub body: Value,
}

impl Failure {
    /// Words of our own.
    pub fn local(exit: u8, code: &str, message: impl Into<String>) -> Failure {
        let error = json!({ "code": code, "message": message.into(), "path": "" });
        Failure { exit, body: json!({ "errors": [error], "not_listed": 0 }) }
    }

    /// Prints it on standard error, or as a document where that was asked for.
    pub fn print(&self, output: Output) {
        match output {
            Output::Table => anstream::eprint!("{}", output::errors(&self.body)),
            Output::Json | Output::Yaml => output::print_tree(output, &self.body),
        }
    }
}

/// What to ask.
pub struct Ask<'a> {
    pub method: Method,
    pub path: &'a str,
    pub body: Option<&'a Value>,
    pub if_match: Option<u64>,
}

impl<'a> Ask<'a> {
    pub fn get(path: &'a str) -> Ask<'a> {
        Ask { method: Method::GET, path, body: None, if_match: None }
    }
}

/// Asks the daemon and returns its answer.
pub fn ask(socket: &Path, ask: Ask<'_>) -> Result<Value, Failure> {
    let step = Step::default();
    progress::beside(&step, || answer(socket, ask, &step))
}

/// The same without a word for whoever waits: what they see is the caller's.
pub fn ask_silently(socket: &Path, ask: Ask<'_>) -> Result<Value, Failure> {
    answer(socket, ask, &Step::default())
}

fn answer(socket: &Path, ask: Ask<'_>, step: &Step) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::local(EXIT_OTHER, "ClientError", e.to_string()))?;
    let answer = runtime.block_on(async {
        match tokio::time::timeout(TIMEOUT, exchange(socket, ask, step)).await {
            Ok(Err(failure)) => Ok(Err(versions::explained(socket, failure).await)),
            other => other,
        }
    });
    answer.unwrap_or_else(|_: tokio::time::error::Elapsed| {
        let message = format!("the daemon at {} has not answered for {TIMEOUT:?}", socket.display());
        Err(Failure::local(EXIT_OTHER, "RequestExpired", message))
    })
}

/// One request and its answer.
pub async fn exchange(socket: &Path, ask: Ask<'_>, step: &Step) -> Result<Value, Failure> {
    let (response, driver) = send(socket, ask, step).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
    drop(driver);
    understood(status, &bytes)
}

fn broken(error: hyper::Error) -> Failure {
    let message = format!("the daemon has ended the connection: {error}");
    Failure::local(EXIT_OTHER, "ConnectionError", message)
}

type Driver = tokio::task::JoinHandle<hyper::Result<()>>;

/// What the daemon does about a request, for whoever waits.
fn doing(ask: &Ask<'_>) -> &'static str {
    let is_change = ask.method == Method::PUT
        || ["/v1/actions/", "/v1/rollback/"].iter().any(|start| ask.path.starts_with(start));
    match ask.path {
        _ if is_change => "the daemon validates, compiles, checks and publishes it",
        path if path.starts_with("/v1/plan") => "the daemon goes through what a push would change",
        path if path.starts_with("/v1/verify") => "the daemon holds tables against rules",
        path if path.starts_with("/v1/flows/top") => "the daemon measures",
        _ => "the daemon gathers the answer",
    }
}

/// Sends a request; the head of its answer, and what keeps the connection going.
async fn send(socket: &Path, ask: Ask<'_>, step: &Step) -> Result<(Response<Incoming>, Driver), Failure> {
    let body = ask.body.map_or_else(Bytes::new, |b| Bytes::from(b.to_string()));
    if body.len() > MAX_DOCUMENT {
        let message =
            format!("the document has {} bytes; the daemon takes {MAX_DOCUMENT} at most", body.len());
        return Err(Failure::local(EXIT_QUOTA, "RequestLimitExceeded", message));
    }
    let doing = doing(&ask);
    let stream = UnixStream::connect(socket).await.map_err(|error| no_daemon(socket, &error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(ask.method).uri(ask.path).header("host", "sgswitch");
    if ask.body.is_some() {
        request = request.header("content-type", "application/json");
    }
    if let Some(generation) = ask.if_match {
        request = request.header("if-match", format!("\"{generation}\""));
    }
    let request = request
        .body(Full::new(body))
        .map_err(|e| Failure::local(EXIT_OTHER, "ClientError", e.to_string()))?;
    step.set(doing);
    Ok((sender.send_request(request).await.map_err(broken)?, driver))
}

/// An answer that is JSON, or the error that it is.
fn understood(status: StatusCode, bytes: &[u8]) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(bytes).map_err(|_| {
        let message = format!(
            "the daemon answers {status} in words that this sgctl does not know: is it of another version?"
        );
        Failure::local(EXIT_OTHER, "UnknownAnswer", message)
    })?;
    match status.is_success() {
        true => Ok(body),
        false => Err(Failure { exit: exit_status(status.as_u16(), &body), body }),
    }
}

/// The exit status for an answer that is an error.
fn exit_status(status: u16, body: &Value) -> u8 {
    let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let is_quota = |e: &Value| {
        e["code"].as_str().is_some_and(|c| c.ends_with("LimitExceeded") || c == "InsufficientCapacity")
    };
    match status {
        400 | 413 if !errors.is_empty() && errors.iter().all(is_quota) => EXIT_QUOTA,
        400 | 408 | 413 => EXIT_INVALID,
        412 => EXIT_CONFLICT,
        500 | 503 => EXIT_DATAPATH,
        _ => EXIT_OTHER,
    }
}

/// Asks for lines that come one by one, and hands each on as it comes.
pub fn stream(
    socket: &Path,
    path: &str,
    mut line: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::local(EXIT_OTHER, "ClientError", e.to_string()))?;
    runtime.block_on(async {
        let (response, driver) = send(socket, Ask::get(path), &Step::default()).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let bytes = body.collect().await.map_err(broken)?.to_bytes();
            return match understood(status, &bytes) {
                Ok(_) => Ok(()),
                Err(failure) => Err(versions::explained(socket, failure).await),
            };
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let whole: Vec<u8> = rest.drain(..=end).collect();
                line(String::from_utf8_lossy(&whole).trim_end())?;
            }
        }
        drop(driver);
        Ok(())
    })
}

fn no_daemon(socket: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::NotFound => {
            "there is no such socket: is sgswitchd running (systemctl status sgswitchd), and is --socket right?"
        }
        ErrorKind::ConnectionRefused => {
            "nobody listens there: sgswitchd has ended; journalctl -u sgswitchd -e says why, \
             systemctl start sgswitchd starts it again"
        }
        ErrorKind::PermissionDenied => {
            "you may not use it: be root, or a member of the socket's group (usermod -aG sgswitch USER, then log in \
             again)"
        }
        _ => "the connection failed",
    };
    Failure::local(EXIT_OTHER, "NoDaemon", format!("{}: {hint} ({error})", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_as_documented() {
        let body = |codes: &[&str]| json!({ "errors": codes.iter().map(|c| json!({ "code": c })).collect::<Vec<_>>() });
        assert_eq!(exit_status(400, &body(&["InvalidParameterValue"])), EXIT_INVALID);
        assert_eq!(exit_status(400, &body(&["RulesPerSecurityGroupLimitExceeded"])), EXIT_QUOTA);
        assert_eq!(
            exit_status(400, &body(&["RulesPerSecurityGroupLimitExceeded", "InvalidGroup.NotFound"])),
            EXIT_INVALID
        );
        assert_eq!(exit_status(413, &body(&["RequestLimitExceeded"])), EXIT_QUOTA);
        assert_eq!(exit_status(412, &body(&["IncorrectState"])), EXIT_CONFLICT);
        assert_eq!(exit_status(503, &body(&["NotEnforced"])), EXIT_DATAPATH);
        assert_eq!(exit_status(404, &body(&["NoPolicy"])), EXIT_OTHER);
    }

    #[test]
    fn no_daemon_says_what_to_do() {
        let failure = ask(Path::new("/nonexistent/s.sock"), Ask::get("/v1/status")).unwrap_err();
        assert_eq!(failure.exit, EXIT_OTHER);
        assert!(failure.body["errors"][0]["message"].as_str().unwrap().contains("is sgswitchd running"));
    }
}

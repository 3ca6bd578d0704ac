use std::ffi::CStr;

/// What DPDK refused, and why it says so.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// EAL can be started once in the life of a process.
    #[error("EAL is started already: a process has one")]
    AlreadyStarted,
    /// A thread is registered once at a time.
    #[error("the thread is registered with EAL already")]
    AlreadyRegistered,
    /// An argument holds a zero byte.
    #[error("'{0}' holds a zero byte")]
    ZeroByte(String),
    /// EAL did not start.
    #[error("EAL refuses to start: {reason} (its arguments were: {arguments})")]
    Eal {
        /// DPDK's words for the error.
        reason: String,
        /// The arguments as given.
        arguments: String,
    },
    /// No port has this device name.
    #[error("there is no DPDK port named '{0}'")]
    NoPort(String),
    /// There are as many ports as there can be.
    #[error(
        "there is no room for '{0}': {max} devices of DPDK are the most there can be in this build of it",
        max = crate::MAX_PORTS
    )]
    NoRoom(String),
    /// A call failed.
    #[error("{action} failed: {reason}")]
    Call {
        /// What was attempted, and on what.
        action: String,
        /// DPDK's words for the error.
        reason: String,
    },
    /// A port was asked for something it does not offer.
    #[error("port '{port}' {what}")]
    Unsupported {
        /// The port's name.
        port: String,
        /// What it cannot do.
        what: String,
    },
}

impl Error {
    pub(crate) fn call(action: impl Into<String>, code: i32) -> Error {
        Error::Call { action: action.into(), reason: reason(code) }
    }

    /// The same for functions that return null and set `rte_errno`.
    pub(crate) fn last(action: impl Into<String>) -> Error {
        // SAFETY: reads the calling thread's rte_errno.
        Error::call(action, unsafe { dpdk_sys::sgs_errno() })
    }
}

/// DPDK's words for an error number of either sign.
pub(crate) fn reason(code: i32) -> String {
    // SAFETY: rte_strerror returns a string of the calling thread for every number.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(code.abs())) }.to_string_lossy().into_owned()
}

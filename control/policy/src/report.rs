use serde::Serialize;

/// Something wrong in a document: EC2's code, words, and the place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// EC2's error code.
    pub code: &'static str,
    /// What is wrong, and what was expected.
    pub message: String,
    /// The place, such as `SecurityGroups[0].IpPermissions[1].IpRanges[0].CidrIp`.
    pub path: String,
}

/// Something that is not wrong but may not be what was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What was noticed.
    pub message: String,
    /// The place.
    pub path: String,
}

/// The most faults, and the most notices, that an answer lists.
pub const MAX_FAULTS: usize = 1000;

/// All that is wrong: the first [`MAX_FAULTS`] in words, the rest as a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The faults.
    pub errors: Vec<Fault>,
    /// How many more there are.
    pub not_listed: usize,
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults { errors: vec![fault], not_listed: 0 }
    }
}

/// Gathers faults and notices while a document is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub faults: Faults,
    pub notices: Vec<Notice>,
}

impl Report {
    pub fn fault(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        if self.faults.errors.len() < MAX_FAULTS {
            self.faults.errors.push(Fault { code, message: message.into(), path: path.into() });
        } else {
            self.faults.not_listed += 1;
        }
    }

    pub fn notice(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.notices.len() < MAX_FAULTS {
            self.notices.push(Notice { message: message.into(), path: path.into() });
        }
    }
}

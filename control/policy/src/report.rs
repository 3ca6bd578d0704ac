use serde::{Deserialize, Serialize};

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

impl Fault {
    /// Whether a quota is exceeded (D20), and nothing is malformed.
    pub fn is_quota(&self) -> bool {
        self.code.ends_with("LimitExceeded")
    }
}

/// Something that is not wrong but may not be what was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What was noticed.
    pub message: String,
    /// The place.
    pub path: String,
}

/// The most faults, and the most notices, that an answer lists.
pub const MAX_FAULTS: usize = 1000;

/// The most bytes of a message or a path: what is quoted may be of any length.
const MAX_TEXT: usize = 500;

/// All that is wrong: the first [`MAX_FAULTS`] in words, the rest as a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The faults.
    pub errors: Vec<Fault>,
    /// How many more there are.
    pub not_listed: usize,
}

impl Faults {
    /// Whether all that is wrong is that quotas are exceeded.
    pub fn is_quota(&self) -> bool {
        self.errors.iter().all(Fault::is_quota)
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults { errors: vec![fault], not_listed: 0 }
    }
}

/// Gathers faults and notices while a document is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    faults: Faults,
    notices: Vec<Notice>,
    notices_not_listed: usize,
    is_doubtful: bool,
}

/// A notice of an object, wherever in a document that is.
#[derive(Debug)]
pub(crate) struct OwnNotice {
    /// The place within the object.
    path: Box<str>,
    message: Box<str>,
}

/// What is noticed of an object by itself. `None` if it cannot be said again.
pub(crate) type OwnNotices = Option<Box<[OwnNotice]>>;

impl Report {
    pub fn fault(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        if self.faults.errors.len() < MAX_FAULTS {
            self.faults.errors.push(Fault { code, message: clip(message), path: clip(path) });
        } else {
            self.faults.not_listed += 1;
        }
    }

    pub fn notice(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.notices.len() < MAX_FAULTS {
            self.notices.push(Notice { message: clip(message), path: clip(path) });
        } else {
            self.notices_not_listed += 1;
        }
    }

    /// How many notices are listed.
    pub fn noticed(&self) -> usize {
        self.notices.len()
    }

    /// The notices since there were so many, which are of the object at a place.
    pub fn own_notices(&self, since: usize, place: impl Fn() -> String) -> OwnNotices {
        if self.notices_not_listed > 0 {
            return None;
        }
        let own = |notice: &Notice| {
            // What was cut short depends on the place.
            let path = notice.path.strip_prefix(&place()).filter(|_| notice.path.len() <= MAX_TEXT)?;
            Some(OwnNotice { path: path.into(), message: (*notice.message).into() })
        };
        self.notices[since..].iter().map(own).collect()
    }

    /// Says again what was noticed of an object, which is at this place now.
    pub fn notice_again(&mut self, notices: &OwnNotices, place: impl Fn() -> String) {
        for OwnNotice { path, message } in notices.iter().flatten() {
            self.notice(place() + path, &**message);
        }
    }

    /// Notes that something taken over may not be what it would be if it were read.
    pub fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// Whether anything is doubtful, and nothing known to be wrong.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful && self.faults.errors.is_empty()
    }

    /// The notices, or what is wrong.
    pub fn finish(mut self) -> Result<Vec<Notice>, Faults> {
        if !self.faults.errors.is_empty() {
            return Err(self.faults);
        }
        if self.notices_not_listed > 0 {
            let message = format!("{} more notices are not listed", self.notices_not_listed);
            self.notices.push(Notice { message, path: String::new() });
        }
        Ok(self.notices)
    }
}

fn clip(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

//! The document before, and what became of its objects. Of a large document of
//! which little differs from the one before, only what differs is read and
//! validated; what comes of it is the same.
//!
//! What is kept of an object depends on its own bytes and on a few things more, and
//! each of these is looked at: the rules named for a group ([`outline`]), whether
//! descriptions are strict, the subnets, prefix lists, groups and peerings that the
//! object refers to, and quotas. Where such a thing has changed in a way that is not
//! followed, and where anything is wrong, the document is read from the beginning.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::document::{merge, parse};
use crate::model::{Id, NetworkInterface, SecurityGroup, Validated};
use crate::outline::{Outline, outline};
use crate::report::{Faults, Notice, OwnNotices};
use crate::tree::{Arena, Tree};
use crate::validate::{Again, Context, Found, Reference, validate_outline, validate_tree};

/// A document that was validated, and what became of its objects.
///
/// It takes as much memory as the document's bytes, at most [`Precedent::MOST_BYTES`],
/// and about 150 bytes for each group and interface and 110 for each item of
/// `SecurityGroupRules`. The policy's objects are shared with the policy.
#[derive(Debug, Default)]
pub struct Precedent {
    pub(crate) text: Box<str>,
    pub(crate) policy: Arc<Validated>,
    pub(crate) groups: Vec<Known<KnownGroup>>,
    pub(crate) rules: Vec<Known<KnownRule>>,
    pub(crate) interfaces: Vec<Known<KnownInterface>>,
    /// The groups of the policy that the document does not describe.
    pub(crate) undescribed: Vec<Id>,
}

/// What is known of an object, and where it lies in the text.
#[derive(Debug)]
pub(crate) struct Known<T> {
    pub at: Range<usize>,
    pub object: T,
}

/// An object with an id.
pub(crate) trait Object {
    /// The key of its id.
    const ID: &'static str;

    fn id(&self) -> &str;

    /// Whether what it became depends on nothing that is not looked at.
    fn can_be_taken_over(&self) -> bool;
}

/// What a group is by itself.
#[derive(Debug)]
pub(crate) struct ReadGroup {
    pub id: Id,
    pub references: Box<[Reference]>,
    /// Whether it says nothing of what leaves it: that depends on its VPC.
    pub without_egress: bool,
    pub notices: OwnNotices,
}

/// What an item of `SecurityGroupRules` is by itself.
#[derive(Debug)]
pub(crate) struct ReadRule {
    pub id: Id,
    pub group: Id,
    pub notices: OwnNotices,
}

/// What an interface is by itself.
#[derive(Debug)]
pub(crate) struct ReadInterface {
    pub id: Id,
    /// Whether it has no group of its own: then it has the default one of its VPC.
    pub without_groups: bool,
    pub notices: OwnNotices,
}

/// What became of a group.
#[derive(Debug)]
pub(crate) struct KnownGroup {
    pub read: Arc<ReadGroup>,
    pub group: Arc<SecurityGroup>,
    /// Whether any of its references is stale, which is noticed each time.
    pub is_stale: bool,
}

/// What became of an item of `SecurityGroupRules` is in its group.
#[derive(Debug)]
pub(crate) struct KnownRule {
    pub read: Arc<ReadRule>,
    /// Whether the document describes the group.
    pub is_of_described: bool,
}

/// What became of an interface.
#[derive(Debug)]
pub(crate) struct KnownInterface {
    pub read: Arc<ReadInterface>,
    pub interface: Arc<NetworkInterface>,
}

impl Object for KnownGroup {
    const ID: &'static str = "GroupId";

    fn id(&self) -> &str {
        &self.read.id
    }

    fn can_be_taken_over(&self) -> bool {
        self.read.notices.is_some() && !self.read.without_egress
    }
}

impl Object for KnownRule {
    const ID: &'static str = "SecurityGroupRuleId";

    fn id(&self) -> &str {
        &self.read.id
    }

    fn can_be_taken_over(&self) -> bool {
        self.read.notices.is_some() && self.is_of_described
    }
}

impl Object for KnownInterface {
    const ID: &'static str = "NetworkInterfaceId";

    fn id(&self) -> &str {
        &self.read.id
    }

    fn can_be_taken_over(&self) -> bool {
        self.read.notices.is_some() && !self.read.without_groups
    }
}

/// A document as it was read.
#[derive(Debug)]
pub struct Document<'d> {
    before: &'d Precedent,
    arena: &'d Arena,
    file: &'d str,
    bytes: &'d [u8],
    content: Content<'d>,
}

#[derive(Debug)]
enum Content<'d> {
    Outline(Outline<'d>),
    Whole(Tree<'d>),
}

/// What the next document can take over of one that was validated.
#[derive(Debug, Default)]
pub struct Learned(Option<Lists>);

#[derive(Debug)]
struct Lists {
    found: Found,
    at: [Vec<Range<usize>>; 3],
}

impl Precedent {
    /// The most bytes of a document that is kept.
    pub const MOST_BYTES: usize = 32 << 20;

    /// Reads a document: [`parse`] and [`merge`], but of objects that are as they
    /// were no more than is needed to see that.
    ///
    /// # Errors
    /// As of those two.
    pub fn read<'d>(
        &'d self,
        arena: &'d Arena,
        file: &'d str,
        bytes: &'d [u8],
    ) -> Result<Document<'d>, Faults> {
        let outline = text(bytes).and_then(|text| outline(arena, text, self));
        let content = match outline {
            Some(outline) => Content::Outline(outline),
            None => Content::Whole(whole(arena, file, bytes)?),
        };
        Ok(Document { before: self, arena, file, bytes, content })
    }
}

impl Document<'_> {
    /// Validates the document, as [`validate_tree`] would.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(self, context: &Context<'_>) -> Result<(Validated, Vec<Notice>, Learned), Faults> {
        let Document { before, arena, file, bytes, content } = self;
        let whole = match content {
            Content::Whole(tree) => tree,
            Content::Outline(outline) => match validate_outline(&outline, context, before) {
                Ok((policy, notices, found)) => return Ok((policy, notices, Learned::of(outline, found))),
                // Of a document that may be right, everything is read, to be remembered anew.
                Err(Again::Doubtful) if !before.text.is_empty() => {
                    let none = Precedent::default();
                    return none.read(arena, file, bytes)?.validate(context);
                }
                // What is wrong is told by who knows no precedents.
                Err(_) => whole(arena, file, bytes)?,
            },
        };
        validate_tree(&whole, context).map(|(policy, notices)| (policy, notices, Learned(None)))
    }
}

fn whole<'d>(arena: &'d Arena, file: &str, bytes: &'d [u8]) -> Result<Tree<'d>, Faults> {
    parse(arena, file, bytes).and_then(|parts| merge(arena, parts))
}

/// The text of a document of which a precedent can be made.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| text.len() <= Precedent::MOST_BYTES)
}

impl Learned {
    fn of(outline: Outline<'_>, found: Found) -> Learned {
        let at = [outline.groups.at, outline.rules.at, outline.interfaces.at];
        // A group whose place a default group has taken is not what it became.
        Learned((!found.is_any_replaced).then_some(Lists { found, at }))
    }

    /// Makes a precedent of the document and of the policy that it became, which may
    /// have been shared with others since. `None` for documents whose like are
    /// read as a whole.
    pub fn precedent(self, bytes: &[u8], policy: &Arc<Validated>) -> Option<Precedent> {
        let Lists { found, at: [groups_at, rules_at, interfaces_at] } = self.0?;
        let text = text(bytes)?.into();
        let mut groups: HashMap<&str, &Arc<SecurityGroup>> = policy.groups.shared().collect();
        let group = |(read, at): (Arc<ReadGroup>, _)| {
            let group = groups.remove(&*read.id)?.clone();
            let is_stale =
                read.references.iter().any(|r| r.peer(&group).is_some_and(|(_, is_stale)| is_stale));
            Some(Known { at, object: KnownGroup { read, group, is_stale } })
        };
        let known_groups = found.groups.into_iter().zip(groups_at).map(group).collect::<Option<_>>()?;
        let undescribed: Vec<Id> = groups.into_keys().map(Id::from).collect();
        let interfaces: HashMap<&str, &Arc<NetworkInterface>> = policy.interfaces.shared().collect();
        let interface = |(read, at): (Arc<ReadInterface>, _)| {
            let interface = Arc::clone(interfaces.get(&*read.id)?);
            Some(Known { at, object: KnownInterface { read, interface } })
        };
        let rule = |(read, at): (Arc<ReadRule>, _)| {
            let is_of_described = !undescribed.contains(&read.group);
            Known { at, object: KnownRule { read, is_of_described } }
        };
        Some(Precedent {
            text,
            policy: policy.clone(),
            groups: known_groups,
            rules: found.rules.into_iter().zip(rules_at).map(rule).collect(),
            interfaces: found
                .interfaces
                .into_iter()
                .zip(interfaces_at)
                .map(interface)
                .collect::<Option<_>>()?,
            undescribed,
        })
    }
}

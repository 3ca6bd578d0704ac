//! A document as its long lists and the rest. Objects that lie in it byte for byte
//! as in a document before are found without being read.
//!
//! This follows no more of JSON than two levels of brackets; values are read by
//! `serde_json`. Whatever it does not expect, and all that is wrong, it leaves to
//! who reads the whole.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::de::{DeserializeSeed, IgnoredAny};
use serde_json::Deserializer;

use crate::precedent::{Known, Object, Precedent};
use crate::tree::{Arena, Reader, Tree};

/// A document with its long lists apart.
#[derive(Debug)]
pub(crate) struct Outline<'d> {
    /// All but the long lists: an object.
    pub rest: Tree<'d>,
    /// `SecurityGroups`
    pub groups: List<'d>,
    /// `SecurityGroupRules`
    pub rules: List<'d>,
    /// `NetworkInterfaces`
    pub interfaces: List<'d>,
    /// Whether any of what was read has to be searched for denials and deep nesting.
    pub is_any_odd: bool,
}

/// The objects of a long list, and where each lies in the text.
#[derive(Debug, Default)]
pub(crate) struct List<'d> {
    pub items: Vec<Item<'d>>,
    pub at: Vec<Range<usize>>,
}

/// An object of a long list.
#[derive(Debug)]
pub(crate) enum Item<'d> {
    /// The one at this place of the document before, which is no other's.
    Same(usize),
    /// One that has been read.
    New(Tree<'d>),
}

/// Reads a text as one object whose long lists hold objects. An object of a group
/// is the same only where all that names the group's rules is: else both are read.
/// `None` if anything is wrong or unusual.
pub(crate) fn outline<'d>(arena: &'d Arena, text: &'d str, before: &Precedent) -> Option<Outline<'d>> {
    let mut walk = Walk { text, at: 0, reader: Reader::new(arena) };
    let (mut groups, mut rules, mut interfaces) = Default::default();
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    walk.expect(b'{')?;
    let mut more = !walk.take(b'}');
    while more {
        let (_, key) = walk.value()?;
        let key = key.as_str()?;
        walk.expect(b':')?;
        if !seen.insert(key) {
            return None;
        }
        match key {
            "SecurityGroups" => groups = walk.list(before, &before.groups)?,
            "SecurityGroupRules" => rules = walk.list(before, &before.rules)?,
            "NetworkInterfaces" => interfaces = walk.list(before, &before.interfaces)?,
            key => {
                let (_, value) = walk.value()?;
                // The CLI writes nulls into every output: they say nothing.
                if !value.is_null() {
                    entries.push((key, value));
                }
            }
        }
        more = walk.take(b',');
        if !more {
            walk.expect(b'}')?;
        }
    }
    walk.space();
    if walk.at != text.len() {
        return None;
    }
    let mut outline = Outline { rest: arena.object(entries), groups, rules, interfaces, is_any_odd: false };
    walk.read_what_is_touched(&mut outline, before)?;
    outline.is_any_odd = walk.reader.is_any_odd();
    Some(outline)
}

/// A place in a text.
struct Walk<'d> {
    text: &'d str,
    at: usize,
    reader: Reader<'d>,
}

impl<'d> Walk<'d> {
    fn left(&self) -> &'d [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn space(&mut self) {
        self.at += self.left().iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
    }

    /// Whether this comes next; then it is passed.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.left().first() == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// The value that comes next, and where it lies.
    fn value(&mut self) -> Option<(Range<usize>, Tree<'d>)> {
        self.space();
        let mut deserializer = Deserializer::from_str(self.text.get(self.at..)?);
        let value = self.reader.deserialize(&mut deserializer).ok()?;
        // Only an iterator over what follows tells where it has come to.
        let length = deserializer.into_iter::<IgnoredAny>().byte_offset();
        let at = self.at..self.at + length;
        self.at = at.end;
        Some((at, value))
    }

    /// A list of objects, those of the list before found in it.
    fn list<T: Object>(&mut self, before: &Precedent, known: &[Known<T>]) -> Option<List<'d>> {
        let mut list = List::default();
        let mut finder = Finder { before, known, used: vec![false; known.len()], next: 0, places: None };
        self.expect(b'[')?;
        let mut more = !self.take(b']');
        while more {
            self.space();
            if let Some(place) = finder.at(finder.next, self.left()) {
                let at = self.at..self.at + known[place].at.len();
                self.at = at.end;
                list.items.push(Item::Same(place));
                list.at.push(at);
            } else {
                let (at, value) = self.value()?;
                value.as_object()?;
                // It may be the same and lie elsewhere: then no more is lost than its reading.
                let place = finder.place_of(&value);
                let same = place.and_then(|place| finder.at(place, self.text[at.clone()].as_bytes()));
                if same.is_none() {
                    finder.next = place.map_or(finder.next, |place| place + 1);
                }
                list.items.push(same.map_or(Item::New(value), Item::Same));
                list.at.push(at);
            }
            more = self.take(b',');
            if !more {
                self.expect(b']')?;
            }
        }
        Some(list)
    }

    /// Reads the groups of which anything that names rules has changed, and all that
    /// names rules of groups that are read.
    fn read_what_is_touched(&mut self, outline: &mut Outline<'d>, before: &Precedent) -> Option<()> {
        if before.rules.is_empty() && outline.rules.items.is_empty() {
            return Some(());
        }
        let mut touched: HashSet<&str> = HashSet::new();
        for (list, key) in [(&outline.groups, "GroupId"), (&outline.rules, "GroupId")] {
            touched.extend(list.news().filter_map(|(_, value)| value.get(key)?.as_str()));
        }
        touched.extend(outline.groups.gone(&before.groups).map(|known| known.id()));
        touched.extend(outline.rules.gone(&before.rules).map(|rule| &*rule.read.group));
        if touched.is_empty() {
            return Some(());
        }
        self.read_some(&mut outline.groups, |place| touched.contains(before.groups[place].object.id()))?;
        self.read_some(&mut outline.rules, |place| touched.contains(&*before.rules[place].object.read.group))
    }

    /// Reads those of the same that are wanted.
    fn read_some(&mut self, list: &mut List<'d>, wanted: impl Fn(usize) -> bool) -> Option<()> {
        for (item, at) in list.items.iter_mut().zip(&list.at) {
            if matches!(item, Item::Same(place) if wanted(*place)) {
                self.at = at.start;
                let (_, value) = self.value()?;
                *item = Item::New(value);
            }
        }
        Some(())
    }
}

impl<'d> List<'d> {
    /// Whether any object is the same as before.
    pub fn has_same(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Same(_)))
    }

    /// What has been read, and where in the list it is.
    pub fn news(&self) -> impl Iterator<Item = (usize, &Tree<'d>)> {
        self.items.iter().enumerate().filter_map(|(n, item)| match item {
            Item::Same(_) => None,
            Item::New(value) => Some((n, value)),
        })
    }

    /// Those of the list before that are not in this one as they were.
    pub fn gone<'k, T>(&self, before: &'k [Known<T>]) -> impl Iterator<Item = &'k T> + use<'k, 'd, T> {
        let mut is_here = vec![false; before.len()];
        for item in &self.items {
            if let Item::Same(place) = item {
                is_here[*place] = true;
            }
        }
        before.iter().zip(is_here).filter(|(_, is_here)| !is_here).map(|(known, _)| &known.object)
    }
}

/// Finds objects of a list before, mostly one after the other.
struct Finder<'k, T> {
    before: &'k Precedent,
    known: &'k [Known<T>],
    /// Those that were found. One that is there again is another, and an error.
    used: Vec<bool>,
    /// The one that is to come.
    next: usize,
    /// Made when something comes that was not to.
    places: Option<HashMap<&'k str, usize>>,
}

impl<T: Object> Finder<'_, T> {
    /// The object of this place, if the text begins with it.
    fn at(&mut self, place: usize, text: &[u8]) -> Option<usize> {
        let known = self.known.get(place)?;
        // An object ends where it ends, whatever follows.
        let is_it = !self.used[place]
            && known.object.can_be_taken_over()
            && text.starts_with(self.before.text[known.at.clone()].as_bytes());
        if is_it {
            self.used[place] = true;
            self.next = place + 1;
        }
        is_it.then_some(place)
    }

    /// Where the object of the same id lies.
    fn place_of(&mut self, value: &Tree<'_>) -> Option<usize> {
        let id = value.get(T::ID)?.as_str()?;
        if self.known.get(self.next).is_some_and(|known| known.object.id() == id) {
            return Some(self.next);
        }
        let places = self
            .places
            .get_or_insert_with(|| self.known.iter().map(|known| known.object.id()).zip(0..).collect());
        places.get(id).copied()
    }
}

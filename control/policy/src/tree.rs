//! The values of a document as they are read: they borrow from its bytes and lie
//! in one arena, so that a hundred thousand of them take a few allocations and
//! go all at once.

use std::cell::{Cell, RefCell};
use std::fmt;

use bumpalo::Bump;
use hashbrown::HashSet;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::{Number, Value};

use crate::reader::may_deny;

/// Where the values of documents lie.
#[derive(Debug, Default)]
pub struct Arena(Bump);

/// A value of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree<'d> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(&'d str),
    /// A list.
    List(&'d [Tree<'d>]),
    /// An object.
    Object(Object<'d>),
}

/// Keys, each once and in order, and their values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Object<'d>(&'d [(&'d str, Tree<'d>)]);

/// Of so few keys one is found by looking at each.
const FEW: usize = 16;

impl Arena {
    /// A copy of bytes, for as long as the arena is there.
    pub fn keep(&self, bytes: &[u8]) -> &[u8] {
        self.0.alloc_slice_copy(bytes)
    }

    /// A value that is there already.
    pub fn tree<'d>(&'d self, value: &'d Value) -> Tree<'d> {
        match value {
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(*value),
            Value::Number(number) => Tree::Number(number.clone()),
            Value::String(text) => Tree::String(text),
            Value::Array(items) => self.list(items.iter().map(|item| self.tree(item))),
            Value::Object(object) => {
                let entries: Vec<_> = object.iter().map(|(key, value)| (&**key, self.tree(value))).collect();
                self.object(entries)
            }
        }
    }

    pub(crate) fn list<'d, I>(&'d self, items: I) -> Tree<'d>
    where
        I: IntoIterator<Item = Tree<'d>, IntoIter: ExactSizeIterator>,
    {
        Tree::List(self.0.alloc_slice_fill_iter(items))
    }

    /// Of keys that are there once, in any order.
    pub(crate) fn object<'d>(&'d self, mut entries: Vec<(&'d str, Tree<'d>)>) -> Tree<'d> {
        entries.sort_unstable_by_key(|(key, _)| *key);
        Tree::Object(Object(self.0.alloc_slice_fill_iter(entries)))
    }
}

impl<'d> Tree<'d> {
    /// The value under a key of an object.
    pub fn get(&self, key: &str) -> Option<&'d Tree<'d>> {
        self.as_object()?.get(key)
    }

    /// The string that this is.
    pub fn as_str(&self) -> Option<&'d str> {
        if let Tree::String(text) = self { Some(text) } else { None }
    }

    /// The items of the list that this is.
    pub fn as_list(&self) -> Option<&'d [Tree<'d>]> {
        if let Tree::List(items) = self { Some(items) } else { None }
    }

    /// The object that this is.
    pub fn as_object(&self) -> Option<Object<'d>> {
        if let Tree::Object(object) = self { Some(*object) } else { None }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self, Tree::Null)
    }

    /// What kind of value this is, in a document's words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "null",
            Tree::Bool(_) => "true or false",
            Tree::Number(_) => "a number",
            Tree::String(_) => "a string",
            Tree::List(_) => "a list",
            Tree::Object(_) => "an object",
        }
    }
}

impl<'d> Object<'d> {
    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&'d Tree<'d>> {
        let at = match self.0.len() {
            0..=FEW => self.0.iter().position(|(known, _)| *known == key)?,
            _ => self.0.binary_search_by_key(&key, |(known, _)| known).ok()?,
        };
        Some(&self.0[at].1)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&'d str, &'d Tree<'d>)> + use<'d> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.0.iter().map(|(key, _)| *key)
    }
}

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Null => serializer.serialize_unit(),
            Tree::Bool(value) => serializer.serialize_bool(*value),
            Tree::Number(number) => number.serialize(serializer),
            Tree::String(text) => serializer.serialize_str(text),
            Tree::List(items) => serializer.collect_seq(*items),
            Tree::Object(object) => serializer.collect_map(object.iter()),
        }
    }
}

/// As JSON.
impl fmt::Display for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Reads values into an arena. None of their objects has a key twice.
pub(crate) struct Reader<'d> {
    arena: &'d Arena,
    /// Items and entries of what is not read to its end yet, the innermost last.
    items: RefCell<Vec<Tree<'d>>>,
    entries: RefCell<Vec<(&'d str, Tree<'d>)>>,
    /// How many lists and objects what is read now lies in.
    depth: Cell<usize>,
    is_any_odd: Cell<bool>,
}

/// Values that nest deeper are odd.
const ODD_DEPTH: usize = 16;

impl<'d> Reader<'d> {
    pub fn new(arena: &'d Arena) -> Reader<'d> {
        let (items, entries) = (RefCell::default(), RefCell::default());
        Reader { arena, items, entries, depth: Cell::new(0), is_any_odd: Cell::new(false) }
    }

    /// Whether anything that was read nests deeply, or has a key that may deny something.
    /// Nothing else has to be looked at for that.
    pub fn is_any_odd(&self) -> bool {
        self.is_any_odd.get()
    }

    /// Goes into a list or an object; the number of those around it.
    fn enter(&self) -> usize {
        let outer = self.depth.get();
        self.depth.set(outer + 1);
        if outer >= ODD_DEPTH {
            self.is_any_odd.set(true);
        }
        outer
    }

    /// Whether the object whose entries begin at `start` has a key already. Once they
    /// are more than a few, `many` has the keys, this one from now on included.
    fn has(&self, key: &'d str, start: usize, many: &mut HashSet<&'d str>) -> bool {
        let own = &self.entries.borrow()[start..];
        if own.len() < FEW {
            return own.iter().any(|(known, _)| *known == key);
        }
        if many.is_empty() {
            many.extend(own.iter().map(|(known, _)| *known));
        }
        !many.insert(key)
    }
}

impl<'d> DeserializeSeed<'d> for &Reader<'d> {
    type Value = Tree<'d>;

    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<Tree<'d>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for &Reader<'d> {
    type Value = Tree<'d>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree<'d>, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree<'d>, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree<'d>, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree<'d>, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree<'d>, E> {
        Ok(Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'d str) -> Result<Tree<'d>, E> {
        Ok(Tree::String(value))
    }

    /// One with escapes in it.
    fn visit_str<E>(self, value: &str) -> Result<Tree<'d>, E> {
        Ok(Tree::String(self.arena.0.alloc_str(value)))
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut items: A) -> Result<Tree<'d>, A::Error> {
        let outer = self.enter();
        let start = self.items.borrow().len();
        while let Some(item) = items.next_element_seed(self)? {
            self.items.borrow_mut().push(item);
        }
        self.depth.set(outer);
        Ok(self.arena.list(self.items.borrow_mut().drain(start..)))
    }

    fn visit_map<A: MapAccess<'d>>(self, mut entries: A) -> Result<Tree<'d>, A::Error> {
        let outer = self.enter();
        let start = self.entries.borrow().len();
        let mut many = HashSet::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let Tree::String(key) = key else { return Err(Error::custom("a key is no string")) };
            if self.has(key, start, &mut many) {
                return Err(Error::custom(format!("the key '{key}' is there twice")));
            }
            if may_deny(key) {
                self.is_any_odd.set(true);
            }
            let value = entries.next_value_seed(self)?;
            self.entries.borrow_mut().push((key, value));
        }
        self.depth.set(outer);
        let mut entries = self.entries.borrow_mut();
        entries[start..].sort_unstable_by_key(|(key, _)| *key);
        Ok(Tree::Object(Object(self.arena.0.alloc_slice_fill_iter(entries.drain(start..)))))
    }
}

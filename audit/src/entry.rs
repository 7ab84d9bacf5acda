//! One entry, before it has a place and a time.

use serde_json::{Map, Value};

use crate::persons::{Person, Who};

/// An event and its fields. Never put identifiers, row values, tokens or query text into one.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub(crate) event: &'static str,
    pub(crate) fields: Map<String, Value>,
    pub(crate) closes: bool,
    pub(crate) person: Option<Person>,
}

impl Entry {
    /// An entry for `event`, for example `query.opened`.
    #[must_use]
    pub fn new(event: &'static str) -> Self {
        Self { event, fields: Map::new(), closes: false, person: None }
    }

    /// Says that this closes what another entry opened: it is taken on a full disk too, in space that is kept for it.
    #[must_use]
    pub fn closes(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Says who it is about, and by which token: a caller's `issuer` stands in the log, and their subject and the token's id only as the
    /// commitments `person` and `token`.
    #[must_use]
    pub fn by(self, issuer: &str, subject: &str, token: Option<&str>) -> Self {
        let who = Who { issuer: issuer.to_owned(), subject: subject.to_owned() };
        Self { person: Some(Person { who, token: token.map(str::to_owned) }), ..self.field("issuer", issuer) }
    }

    /// Adds the query id.
    #[must_use]
    pub fn query(self, id: &str) -> Self {
        self.field("query_id", id)
    }

    /// A field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// Adds a field. The names `entry`, `time`, `event` and `salt` belong to the log and are not taken.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        if !matches!(name, "entry" | "time" | "event" | "salt") {
            self.fields.insert(name.to_owned(), value.into());
        }
        self
    }
}

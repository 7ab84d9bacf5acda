//! Which entries are asked for. A plain reading of a log and its index select the same: both go by [`Facts`].

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::types::Value;

use crate::facts::{Facts, Names};

/// Who read entries, or the receipt of a query, of which it names the id.
pub const READ: &str = "log.read";

/// The longest text of a filter, in bytes.
pub const MAX_TEXT: usize = 256;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Answered, explained as permitted, or released.
    Permit,
    /// Refused, for whatever reason.
    Deny,
}

impl Ruling {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
        }
    }
}

/// How much of a commitment is enough to be one person's, in characters.
pub const SHORT: usize = 12;

/// The beginning of a commitment, long enough to be one person's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment(String);

impl Commitment {
    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Commitment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex || !(SHORT..=64).contains(&text.len()) {
            return Err("a commitment is 64 hexadecimal digits, of which 12 or more are enough".into());
        }
        Ok(Self(text.to_owned()))
    }
}

/// What is asked for: all that is named must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before this time. An entry without a time is taken, so that nothing is left out.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
    /// The caller's organisation.
    pub organisation: Option<String>,
    /// The caller's commitment, or its beginning.
    pub person: Option<Commitment>,
    /// A department whose data or rule it is about.
    pub department: Option<String>,
    /// A dataset.
    pub dataset: Option<String>,
    /// The stated purpose.
    pub purpose: Option<String>,
    /// What was decided.
    pub decision: Option<Ruling>,
    /// The kind of entry.
    pub event: Option<String>,
    /// Of one query. What it did and what became of it: who read of it later ([`READ`]) is taken only where `event` asks for that.
    pub query_id: Option<String>,
}

/// Why a filter is none. Names the field, never what stood in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {expected}")]
pub struct FilterError {
    /// Which field.
    pub field: String,
    /// What it must be.
    pub expected: &'static str,
}

impl Filter {
    /// Reads fields and their texts; an empty one asks for nothing.
    ///
    /// # Errors
    /// The first field that is not what it must be, or none of a filter.
    pub fn parse<'t>(texts: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            let wrong = |expected| FilterError { field: field.to_owned(), expected };
            if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                return Err(wrong("a text of at most 256 bytes without control characters"));
            }
            let time = || DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(|_| wrong("a time as 2027-04-01T00:00:00Z"));
            let own = || Some(text.to_owned());
            match field {
                "from" => filter.from = Some(time()?),
                "to" => filter.to = Some(time()?),
                "organisation" => filter.organisation = own(),
                "person" => filter.person = Some(text.parse().map_err(|_| wrong("12 to 64 hexadecimal digits"))?),
                "department" => filter.department = own(),
                "dataset" => filter.dataset = own(),
                "purpose" => filter.purpose = own(),
                "decision" => {
                    let ruling = [Ruling::Permit, Ruling::Deny].into_iter().find(|ruling| ruling.as_str() == text);
                    filter.decision = Some(ruling.ok_or_else(|| wrong("permit or deny"))?);
                }
                "event" => filter.event = own(),
                "query_id" => filter.query_id = own(),
                _ => return Err(wrong("no field of a filter")),
            }
        }
        Ok(filter)
    }

    /// The fields that are asked for, with their texts: what [`Filter::parse`] reads.
    #[must_use]
    pub fn texts(&self) -> Vec<(&'static str, String)> {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let texts = [
            ("from", self.from.map(time)),
            ("to", self.to.map(time)),
            ("organisation", self.organisation.clone()),
            ("person", self.person.as_ref().map(|person| person.0.clone())),
            ("department", self.department.clone()),
            ("dataset", self.dataset.clone()),
            ("purpose", self.purpose.clone()),
            ("decision", self.decision.map(|ruling| ruling.as_str().to_owned())),
            ("event", self.event.clone()),
            ("query_id", self.query_id.clone()),
        ];
        texts.into_iter().filter_map(|(field, text)| Some((field, text?))).collect()
    }

    /// Which fields are asked for: what may stand in a log.
    #[must_use]
    pub fn shape(&self) -> Vec<&'static str> {
        self.texts().into_iter().map(|(field, _)| field).collect()
    }

    /// Whether an entry of these facts is asked for.
    #[must_use]
    pub fn takes(&self, facts: &Facts) -> bool {
        let is = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        let person = facts.asker.person.as_deref();
        let left_out = self.leaves_readings() && facts.event.as_deref() == Some(READ);
        facts.time.is_none_or(|time| {
            self.from.is_none_or(|from| from.timestamp_micros() <= time) && self.to.is_none_or(|to| time < to.timestamp_micros())
        }) && is(&self.organisation, &facts.asker.organisation)
            && self.person.as_ref().is_none_or(|wanted| person.is_some_and(|person| person.starts_with(&wanted.0)))
            && is(&self.purpose, &facts.asker.purpose)
            && is(&self.event, &facts.event)
            && is(&self.query_id, &facts.query_id)
            && !left_out
            && self.department.as_deref().is_none_or(|wanted| facts.departments.contain(wanted))
            && self.dataset.as_deref().is_none_or(|wanted| facts.datasets.contain(wanted))
            && self.decision.is_none_or(|wanted| facts.decision == Some(wanted))
    }

    /// The same as conditions on the index's columns, which all must hold, with the value of each.
    pub(crate) fn conditions(&self) -> Vec<(&'static str, Value)> {
        let mut conditions = Vec::new();
        let mut add = |condition: &'static str, value: Option<Value>| conditions.extend(value.map(|value| (condition, value)));
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        let marked = |name: &Option<String>| name.as_deref().map(|name| Value::Text(Names::marked(name)));
        add("(time IS NULL OR time >= ?)", self.from.map(|from| Value::Integer(from.timestamp_micros())));
        add("(time IS NULL OR time < ?)", self.to.map(|to| Value::Integer(to.timestamp_micros())));
        add("organisation = ?", text(&self.organisation));
        // A commitment has only hexadecimal digits.
        add("person GLOB ?", self.person.as_ref().map(|person| Value::Text(format!("{}*", person.0))));
        add("instr(departments, ?) > 0", marked(&self.department));
        add("instr(datasets, ?) > 0", marked(&self.dataset));
        add("purpose = ?", text(&self.purpose));
        add("decision = ?", self.decision.map(|ruling| Value::Text(ruling.as_str().to_owned())));
        add("event = ?", text(&self.event));
        add("query_id = ?", text(&self.query_id));
        add("(event IS NULL OR event <> ?)", self.leaves_readings().then(|| Value::Text(READ.to_owned())));
        conditions
    }

    /// Everybody who may have a query's receipt adds a reading with each: those would hide the query among themselves.
    fn leaves_readings(&self) -> bool {
        self.query_id.is_some() && self.event.is_none()
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RIGHT: [(&str, &str); 10] = [
        ("from", "2027-01-01T00:00:00Z"),
        ("to", "2027-01-01T00:00:00.001Z"),
        ("organisation", "unit"),
        ("person", "5f0c1b8a9d3e"),
        ("department", "dfe"),
        ("dataset", "dfe.attainment"),
        ("purpose", "p"),
        ("decision", "permit"),
        ("event", "query.closed"),
        ("query_id", "q"),
    ];
    const WRONG: [(&str, &str); 10] = [
        ("from", "2027-01-01T00:00:00.001Z"),
        ("to", "2027-01-01T00:00:00Z"),
        ("organisation", "units"),
        ("person", "0123456789ab"),
        ("department", "df"),
        ("dataset", "attainment"),
        ("purpose", "p.narrower"),
        ("decision", "deny"),
        ("event", "query.opened"),
        ("query_id", "Q"),
    ];

    #[test]
    fn each_field_takes_and_leaves() {
        let facts = Facts::of(&json!({
            "entry": 1, "time": "2027-01-01T00:00:00Z", "event": "query.closed", "query_id": "q", "organisation": "unit", "purpose": "p",
            "person": "5f0c1b8a9d3e5f0c", "facts": { "sources": [{ "department": "dfe", "dataset": "attainment" }] },
        }));
        for (right, wrong) in RIGHT.into_iter().zip(WRONG) {
            assert!(Filter::parse([right]).unwrap().takes(&facts), "{right:?}");
            assert!(!Filter::parse([wrong]).unwrap().takes(&facts), "{wrong:?}");
        }
        let all = Filter::parse(RIGHT).unwrap();
        assert!(all.takes(&facts) && Filter::default().takes(&Facts::default()));
        assert_eq!(all.shape(), RIGHT.map(|(field, _)| field));
        assert_eq!(Filter::parse(all.texts().iter().map(|(field, text)| (*field, text.as_str()))), Ok(all));
    }

    #[test]
    fn a_reading_is_no_part_of_the_query_that_it_names() {
        let read = Facts::of(&json!({ "event": "log.read", "query_id": "q" }));
        let takes = |texts: &[(&str, &str)]| Filter::parse(texts.iter().copied()).unwrap().takes(&read);
        assert!(!takes(&[("query_id", "q")]));
        assert!(takes(&[]) && takes(&[("event", "log.read")]) && takes(&[("query_id", "q"), ("event", "log.read")]));
        assert!(Filter::parse([("query_id", "q")]).unwrap().takes(&Facts::of(&json!({ "query_id": "q" }))), "not what says no event");
    }

    #[test]
    fn what_is_no_filter_is_refused_by_its_field() {
        let long = "x".repeat(MAX_TEXT + 1);
        for (field, text) in [
            ("from", "yesterday"),
            ("to", "2026-12-31"),
            ("person", "5f0c"),
            ("person", "5F0C1B8A9D3E"),
            ("decision", "Permit"),
            ("event", "a\u{1f}b"),
            ("purpose", long.as_str()),
            ("rows", "7"),
        ] {
            let refused = Filter::parse([(field, text)]).unwrap_err();
            assert!(refused.field == field && !refused.to_string().contains(text), "{refused}");
        }
        assert_eq!(Filter::parse([("from", ""), ("rows", "")]), Ok(Filter::default()));
    }

    #[test]
    fn a_commitment_is_long_enough_to_be_one_persons() {
        let whole = "5f0c1b8a9d3e0000000000000000000000000000000000000000000000000000";
        for (text, is_one) in [("5f0c1b8a9d3e", true), (whole, true), ("5f0c1b8a9d3", false), ("5F0C1B8A9D3E", false), ("", false)] {
            assert_eq!(text.parse::<Commitment>().is_ok(), is_one, "{text}");
        }
    }
}

//! A filter of log entries on the wire: fields by their names, which those who look through logs give their meaning.

use crate::v1::LogFilter;

impl LogFilter {
    /// Each field's name and text; an empty one asks for nothing.
    #[must_use]
    pub fn texts(&self) -> [(&'static str, &str); 10] {
        [
            ("from", &self.from),
            ("to", &self.to),
            ("organisation", &self.organisation),
            ("person", &self.person),
            ("department", &self.department),
            ("dataset", &self.dataset),
            ("purpose", &self.purpose),
            ("decision", &self.decision),
            ("event", &self.event),
            ("query_id", &self.query_id),
        ]
    }

    /// Of names and texts; a name that no field has is passed over.
    #[must_use]
    pub fn of(texts: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut filter = Self::default();
        for (name, text) in texts {
            let field = match name {
                "from" => &mut filter.from,
                "to" => &mut filter.to,
                "organisation" => &mut filter.organisation,
                "person" => &mut filter.person,
                "department" => &mut filter.department,
                "dataset" => &mut filter.dataset,
                "purpose" => &mut filter.purpose,
                "decision" => &mut filter.decision,
                "event" => &mut filter.event,
                "query_id" => &mut filter.query_id,
                _ => continue,
            };
            *field = text;
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_goes_there_and_back() {
        let filter = LogFilter::of(LogFilter::default().texts().map(|(name, _)| (name, format!("of {name}"))));
        assert!(filter.texts().iter().all(|(name, text)| *text == format!("of {name}")), "{filter:?}");
        assert_eq!(LogFilter::of([("rows", "7".to_owned())]), LogFilter::default());
    }
}

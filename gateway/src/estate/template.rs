//! Views with parameters. A template is the SELECT, written once; a view names it and says with which values.
//!
//! ```text
//! views/claims_of_region.sql               views/claims_of_london.sql
//! -- mission: opportunity                  -- mission: opportunity
//! -- title: Claims in a region             -- title: Claims in London
//! -- parameter: region text                -- of: claims_of_region
//! SELECT … WHERE a.region = $region        -- with: region = 'London'
//! ```
//!
//! The values go into the parsed statement as literals, as parameters of callers do, when the estate is read: what is registered, shown,
//! judged and measured is an ordinary view. A template itself is no view: it is listed, and never answered.

use std::collections::BTreeMap;
use std::path::Path;

use concordat_policy::{Name, Problem};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::{Estate, View, headers};
use crate::plan;

/// A SELECT with parameters.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its name, from the file's name.
    pub name: String,
    /// Its mission.
    pub mission: Name,
    /// Its parameters, by name: `text`, `integer`, `number`, `boolean` or `date`.
    pub parameters: BTreeMap<String, String>,
    /// The views that are made of it.
    pub views: Vec<String>,
    sql: String,
}

impl Template {
    /// Whether a file of `views/` is one.
    pub(super) fn is(text: &str) -> bool {
        headers(text, "parameter").next().is_some()
    }

    /// Reads one: the lines of a view, and a line `-- parameter: NAME TYPE` for each `$NAME` in its statement.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let View { name, mission, sql, .. } = View::parse(path, text)?;
        let mut parameters = BTreeMap::new();
        for line in headers(text, "parameter") {
            let parsed = line.split_once(' ').map(|(name, kind)| (name, kind.trim()));
            let parsed = parsed.filter(|(name, kind)| concordat_policy::agreement::column_name_ok(name) && data_type(kind).is_some());
            let Some((name, kind)) = parsed else {
                return Err(Problem::at(
                    &line,
                    format!("'{line}' states no parameter"),
                    "write NAME and text, integer, number, boolean or date",
                ));
            };
            if parameters.insert(name.to_owned(), kind.to_owned()).is_some() {
                return Err(Problem::at(&line, format!("the parameter '{name}' is stated twice"), "keep one of the two"));
            }
        }
        let named = plan::placeholders(&sql).map_err(|refusal| Problem::at("SELECT", refusal.message, "a template is one SELECT"))?;
        if let Some(unknown) = named.iter().find(|named| !parameters.keys().any(|name| **named == format!("${name}"))) {
            return Err(undeclared(unknown));
        }
        if let Some(unused) = parameters.keys().find(|name| !named.contains(&format!("${name}"))) {
            let cause = format!("the parameter '{unused}' is nowhere in the statement");
            return Err(Problem::at(unused, cause, "write it with a '$' where its value belongs, or leave its line out"));
        }
        Ok(Self { name, mission, parameters, views: Vec::new(), sql })
    }

    /// Its statement with the values of a view's `-- with: NAME = VALUE` lines.
    fn bound(&self, text: &str) -> Result<String, Problem> {
        let mut values = BTreeMap::new();
        for line in headers(text, "with") {
            let stated = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
            let kind = |name: &str| self.parameters.get(name).map(String::as_str);
            let Some((name, value, kind)) = stated.and_then(|(name, value)| Some((name, value, kind(name)?))) else {
                let known: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
                let cause = format!("'{line}' gives no parameter of the template '{}' a value", self.name);
                return Err(Problem::at(&line, cause, format!("write NAME = VALUE; it has {}", known.join(", "))));
            };
            let read = literal(value, kind).ok_or_else(|| {
                let remedy = "texts and dates stand in single quotes, as 'North' and '2026-12-31'";
                Problem::at(&line, format!("the value of '{name}' cannot be read as {kind}"), remedy)
            })?;
            if values.insert(name.to_owned(), read).is_some() {
                return Err(Problem::at(&line, format!("'{name}' has two values"), "keep one of the two"));
            }
        }
        if let Some(lacking) = self.parameters.keys().find(|name| !values.contains_key(*name)) {
            let cause = format!("the parameter '{lacking}' of the template '{}' has no value", self.name);
            return Err(Problem::at("", cause, format!("add a line `-- with: {lacking} = …`")));
        }
        plan::bound(&self.sql, &values).map_err(|refusal| Problem::at("", refusal.message, "correct the value, or the template"))
    }
}

impl Estate {
    /// A view as it is registered: one that names a template gets its statement, with the values in their places.
    pub(super) fn written_out(&mut self, view: View) -> Result<View, Problem> {
        let own = plan::placeholders(&view.sql).unwrap_or_default();
        let of = headers(&view.sql, "of").next();
        let Some(of) = of else {
            if let Some(line) = headers(&view.sql, "with").next() {
                let cause = format!("'{line}' gives a parameter of a template a value, and the view is of none");
                return Err(Problem::at(&line, cause, "add `-- of: TEMPLATE`, or leave the line out"));
            }
            return own.first().map_or(Ok(view), |unknown| Err(undeclared(unknown)));
        };
        if let Some(second) = headers(&view.sql, "of").nth(1) {
            return Err(Problem::at(&second, format!("the view is of the template '{of}', and of '{second}' too"), "keep one of the two"));
        }
        let is_header = |line: &str| line.trim().is_empty() || line.starts_with("--");
        if let Some(line) = view.sql.lines().find(|line| !is_header(line)) {
            return Err(Problem::at(
                line,
                format!("the view is of the template '{of}' and has a statement of its own"),
                "leave one of them out",
            ));
        }
        let Some(template) = self.templates.iter_mut().find(|one| one.mission == view.mission && one.name == of) else {
            let cause = format!("the mission '{}' has no template '{of}'", view.mission);
            return Err(Problem::at(&of, cause, "name a file of views/ with a `-- parameter:` line, of the same mission"));
        };
        let bound = template.bound(&view.sql)?;
        template.views.push(view.name.clone());
        let sql = format!("{}\n{bound}\n", view.sql.trim_end());
        Ok(View { sql, ..view })
    }
}

fn undeclared(placeholder: &str) -> Problem {
    let cause = format!("'{placeholder}' is a parameter that no `-- parameter:` line states");
    Problem::at(placeholder, cause, "add `-- parameter: NAME TYPE`, or write a value: a view has no parameters of its own")
}

fn data_type(kind: &str) -> Option<DataType> {
    match kind {
        "text" => Some(DataType::Utf8),
        "integer" => Some(DataType::Int64),
        "number" => Some(DataType::Float64),
        "boolean" => Some(DataType::Boolean),
        "date" => Some(DataType::Date32),
        _ => None,
    }
}

/// A value as it is written, of that type; never null.
fn literal(written: &str, kind: &str) -> Option<ScalarValue> {
    let quoted = || {
        let inner = written.strip_prefix('\'')?.strip_suffix('\'')?;
        let (unescaped, value) = (inner.replace("''", ""), inner.replace("''", "'"));
        // Where a statement is printed again, these do not come back as they were.
        let printed_alike = !value.contains('\\') && !value.contains("''");
        (!unescaped.contains('\'') && printed_alike).then_some(value)
    };
    let text = if matches!(kind, "text" | "date") { quoted()? } else { written.to_owned() };
    ScalarValue::from(text.as_str()).cast_to(&data_type(kind)?).ok().filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "-- mission: m\n-- title: T\n-- parameter: region text\n-- parameter: least integer\n\
                            SELECT region, count(*) AS n FROM a.people WHERE region = $region AND age > $least OR region = $region\n";

    fn template(text: &str) -> Result<Template, String> {
        Template::parse(Path::new("views/of_region.sql"), text).map_err(|problem| problem.cause)
    }

    fn bound(with: &str) -> Result<String, String> {
        template(TEMPLATE).unwrap().bound(&format!("-- mission: m\n-- title: T\n-- of: of_region\n{with}")).map_err(|problem| problem.cause)
    }

    #[test]
    fn values_become_literals_wherever_their_parameter_stands() {
        let sql = bound("-- with: region = 'O''Connor''s' \n-- with: least = -3\n").unwrap();
        assert!(sql.contains("region = 'O''Connor''s' AND age > -3 OR region = 'O''Connor''s'") && !sql.contains('$'), "{sql}");
        let hostile = bound("-- with: region = 'x'' OR 1 = 1 /*'\n-- with: least = 1\n").unwrap();
        assert!(hostile.contains("region = 'x'' OR 1 = 1 /*' AND age > 1"), "{hostile}");
        assert!(Template::is(TEMPLATE) && !Template::is("-- mission: m\nSELECT 1 -- parameter: x text"));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_name() {
        for (with, says) in [
            ("-- with: region = 'N'\n", "'least' of the template 'of_region' has no value"),
            ("-- with: region = N\n-- with: least = 1\n", "'region' cannot be read as text"),
            ("-- with: region = 'a\\'' OR 1 = 1'\n-- with: least = 1\n", "'region' cannot be read as text"),
            ("-- with: region = 'N' OR 'S'\n-- with: least = 1\n", "'region' cannot be read as text"),
            ("-- with: region = 'N'\n-- with: least = many\n", "'least' cannot be read as integer"),
            ("-- with: region = 'N'\n-- with: least =\n", "'least' cannot be read as integer"),
            ("-- with: region = 'N'\n-- with: region = 'S'\n-- with: least = 1\n", "two values"),
            ("-- with: regions = 'N'\n", "gives no parameter"),
        ] {
            let found = bound(with).unwrap_err();
            assert!(found.contains(says), "{says}: {found}");
        }
        for (from, to, says) in [
            ("$least", "$most", "'$most' is a parameter that no"),
            ("$least", "?", "'?' is a parameter that no"),
            ("$least", "3", "'least' is nowhere"),
            ("least integer", "least whole", "states no parameter"),
            ("least integer", "region text", "stated twice"),
        ] {
            assert!(TEMPLATE.contains(from));
            let found = template(&TEMPLATE.replacen(from, to, 1)).unwrap_err();
            assert!(found.contains(says), "{says}: {found}");
        }
    }
}

//! An explanation in words and as JSON. What the log keeps of it is told in the words of `policy`, as `concordat why` tells it.

use concordat_policy::decision::{BasisKind, Rule, Table, Whose, denied_in_words};
use concordat_policy::in_words::one_line;
use concordat_policy::{Decision, Name};
use concordat_proto::v1::explain_response::Decision as Told;
use concordat_proto::v1::{Basis, Denied, ExplainResponse, ExplainedColumn, ExplainedRule, ExplainedTable, Permitted, Proposal};
use serde_json::{Value, json};

use super::request;
use crate::failure::{Failure, Result};
use crate::out;
use crate::table;

/// For people.
pub(super) fn text(explained: &ExplainResponse) -> Result<String> {
    let mut text = match &explained.decision {
        Some(Told::Permitted(permitted)) => of_permitted(&explained.purpose, permitted)?,
        Some(Told::Denied(denied)) => of_denied(&explained.purpose, denied),
        None => String::new(),
    };
    text.push_str(&format!("\nquery id {}, as in the gateway's log\n", explained.query_id));
    Ok(text)
}

fn of_permitted(purpose: &str, permitted: &Permitted) -> Result<String> {
    let mut lines = decision(permitted)?.in_words(purpose, &permitted.mission);
    lines.push(String::new());
    let mut rows = Vec::new();
    for table in &permitted.tables {
        for ExplainedColumn { name, needs, granted } in &table.columns {
            rows.push(vec![format!("{}.{name}", table.dataset), needs.join(", "), granted.join(", ")]);
        }
    }
    let mut text = lines.join("\n");
    text.push_str(&format!("\n{}", table::Table::of(&["column", "needs", "the agreement grants"], rows).text(out::colour())));
    // Few agreements do.
    let stated = permitted.tables.iter().any(|table| !table.max_data_age.is_empty());
    let base = |table: &ExplainedTable| {
        let ages = stated.then(|| one_line(&table.max_data_age));
        [&table.dataset, &table.basis_text, &table.max_unwitnessed].map(|said| one_line(said)).into_iter().chain(ages).collect()
    };
    let mut titles = vec!["dataset", "power, or what people were asked", "log unwitnessed for at most"];
    titles.extend(stated.then_some("data at most so old"));
    text.push_str(&format!("\n{}", table::Table::of(&titles, permitted.tables.iter().map(base).collect()).text(out::colour())));
    let asked = permitted.requests.iter().map(request::row).collect();
    let titles = ["node", "dataset", "columns beside the pseudonym, or groups", "rows", "parts"];
    text.push_str(&format!("\n{}", table::Table::of(&titles, asked).text(out::colour())));
    Ok(text)
}

fn of_denied(purpose: &str, denied: &Denied) -> String {
    let mut lines = denied_in_words(purpose, &denied.message, Some(&denied.owner));
    if !denied.advice.is_empty() {
        lines.push(format!("what to do: {}", denied.advice));
    }
    match &denied.proposal {
        Some(Proposal { statement, purpose, mission, change }) => {
            lines
                .push(format!("\nnearest query that would be permitted, for the purpose '{purpose}' in the mission '{mission}': {change}"));
            lines.push(format!("  {}", printable(statement)));
        }
        None => lines.push("no small change was found that would be permitted".into()),
    }
    lines.join("\n") + "\n"
}

/// A text of the statement as a terminal may show it: its spaces are the statement's.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What was permitted, in the words of the policy.
fn decision(permitted: &Permitted) -> Result<Decision> {
    let columns = permitted.tables.iter().flat_map(|table| {
        let of = |column: &ExplainedColumn| {
            let name = format!("{}.{}", table.dataset, column.name);
            column.needs.iter().map(|used| format!("{name}: {used}")).collect::<Vec<_>>()
        };
        table.columns.iter().flat_map(of).collect::<Vec<_>>()
    });
    Ok(Decision {
        columns: columns.collect(),
        tables: permitted.tables.iter().map(table_of).collect::<Result<_>>()?,
        rules: permitted.rules.iter().map(rule_of).collect::<Result<_>>()?,
    })
}

fn table_of(table: &ExplainedTable) -> Result<Table> {
    let said = |words: &str| Some(one_line(words)).filter(|words| !words.is_empty());
    let (rows, coded) = (said(&table.rows), said(&table.coded));
    Ok(Table { dataset: table.dataset.clone(), agreement: name(&table.agreement)?, basis: basis_of(table)?, rows, coded })
}

fn basis_of(table: &ExplainedTable) -> Result<BasisKind> {
    match table.basis() {
        Basis::Consent => Ok(BasisKind::Consent),
        Basis::StatutoryHonouringObjections => Ok(BasisKind::StatutoryHonouringObjections),
        Basis::Statutory => Ok(BasisKind::Statutory),
        Basis::Unspecified => Err(unknown("basis")),
    }
}

fn rule_of(told: &ExplainedRule) -> Result<Rule> {
    let names = |names: &[String]| names.iter().map(|text| name(text)).collect::<Result<Vec<_>>>();
    let stated = Whose { agreements: names(&told.agreements)?, departments: names(&told.departments)? };
    let whose = || stated.clone();
    let known = [
        Rule::MinimumSubjects { subjects: told.subjects, whose: whose() },
        Rule::Dominance { largest: told.largest, share: told.share, whose: whose() },
        Rule::PPercent { percent: told.percent, whose: whose() },
        Rule::Homogeneous { whose: whose() },
        Rule::Rounded { to: told.to, whose: whose() },
        Rule::Perturbed { variance: told.variance, most: told.most, whose: whose() },
        Rule::Complement { whose: whose() },
        Rule::Margins { whose: whose() },
        Rule::ZerosShown { whose: whose() },
        Rule::RowsOfFewLeftOut { subjects: told.subjects, whose: whose() },
        Rule::SmallGroupsLeftOut,
        Rule::ConditionsOnWithheld,
    ];
    known.into_iter().find(|known| known.as_str() == told.rule).ok_or_else(|| unknown("rule"))
}

fn name(text: &str) -> Result<Name> {
    Name::parse(text).map_err(|_| unknown("name"))
}

fn unknown(what: &str) -> Failure {
    Failure::new(format!("the gateway's explanation holds a {what} that this program does not know"))
        .advice("this program may be older than the gateway")
}

/// For programs.
pub(super) fn to_json(explained: &ExplainResponse) -> Result<Value> {
    let mut value = match &explained.decision {
        Some(Told::Permitted(permitted)) => permitted_json(permitted)?,
        Some(Told::Denied(denied)) => denied_json(denied),
        None => json!({}),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("query_id".into(), explained.query_id.clone().into());
        object.insert("purpose".into(), explained.purpose.clone().into());
    }
    Ok(value)
}

fn permitted_json(permitted: &Permitted) -> Result<Value> {
    let column = |column: &ExplainedColumn| json!({ "name": column.name, "needs": column.needs, "granted": column.granted });
    let mut tables = Vec::new();
    for table in &permitted.tables {
        tables.push(json!({
            "dataset": table.dataset,
            "agreement": table.agreement,
            "basis": basis_of(table)?.as_str(),
            "basis_text": table.basis_text,
            "rows": Some(&table.rows).filter(|rows| !rows.is_empty()),
            "coded": Some(&table.coded).filter(|coded| !coded.is_empty()),
            "max_unwitnessed": table.max_unwitnessed,
            "max_data_age": Some(&table.max_data_age).filter(|most| !most.is_empty()),
            "columns": table.columns.iter().map(column).collect::<Vec<_>>(),
        }));
    }
    Ok(json!({
        "decision": "permit",
        "mission": permitted.mission,
        "tables": tables,
        "rules": permitted.rules.iter().map(rule_of).collect::<Result<Vec<_>>>()?,
        "requests": permitted.requests.iter().map(request::to_json).collect::<Vec<_>>(),
    }))
}

fn denied_json(denied: &Denied) -> Value {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let proposal = denied.proposal.as_ref().map(|proposal| {
        json!({
            "statement": proposal.statement,
            "purpose": proposal.purpose,
            "mission": proposal.mission,
            "change": proposal.change,
        })
    });
    json!({
        "decision": "deny",
        "code": denied.code,
        "message": denied.message,
        "advice": text(&denied.advice),
        "owner": text(&denied.owner),
        "cause": text(&denied.cause),
        "proposal": proposal,
    })
}

//! An explanation as its caller is told it.

use std::collections::BTreeSet;

use concordat_policy::authorize::DatasetPermit;
use concordat_policy::decision::{Rule, Table, Whose};
use concordat_policy::{Basis, Cause, Decision, Name, Permit, Refusal, Use};
use concordat_proto::v1;

use super::{Explanation, Permitted, Proposal};

/// The message.
pub(crate) fn told(query_id: String, purpose: &Name, explanation: Explanation) -> v1::ExplainResponse {
    let decision = match explanation {
        Explanation::Permitted(permitted) => v1::explain_response::Decision::Permitted(of_permitted(permitted)),
        Explanation::Denied(refusal, proposal) => v1::explain_response::Decision::Denied(of_denied(refusal, proposal)),
    };
    v1::ExplainResponse { query_id, purpose: purpose.to_string(), decision: Some(decision) }
}

fn of_permitted(permitted: Permitted) -> v1::Permitted {
    let Permitted { permit, decision, requests } = permitted;
    let request =
        |(department, request): (Name, v1::ReleaseRequest)| v1::NodeRequest { department: department.to_string(), request: Some(request) };
    v1::Permitted {
        mission: permit.mission().to_string(),
        tables: decision.tables.iter().filter_map(|table| of_table(table, &decision, &permit)).collect(),
        rules: decision.rules.iter().map(of_rule).collect(),
        requests: requests.into_iter().map(request).collect(),
    }
}

fn of_table(table: &Table, decision: &Decision, permit: &Permit) -> Option<v1::ExplainedTable> {
    let agreed = permit.datasets().find(|permit| permit.dataset.name.to_string() == table.dataset)?;
    let basis = &agreed.dataset.basis;
    let text = match basis {
        Basis::Consent { text } => text,
        Basis::Statutory { power, .. } => power,
    };
    Some(v1::ExplainedTable {
        dataset: table.dataset.clone(),
        agreement: table.agreement.to_string(),
        basis: v1::Basis::from(basis).into(),
        basis_text: text.clone(),
        columns: of_columns(decision.uses_of(table), agreed),
        rows: table.rows.clone().unwrap_or_default(),
        coded: table.coded.clone().unwrap_or_default(),
        max_unwitnessed: agreed.max_unwitnessed.to_string(),
        max_data_age: agreed.dataset.max_data_age.map(|age| age.to_string()).unwrap_or_default(),
    })
}

/// Each column once, in order, with what is needed and what is granted.
fn of_columns<'d>(uses: impl Iterator<Item = (&'d str, &'d str)>, agreed: &DatasetPermit) -> Vec<v1::ExplainedColumn> {
    let words = |uses: Option<&BTreeSet<Use>>| uses.into_iter().flatten().map(ToString::to_string).collect();
    let mut columns: Vec<v1::ExplainedColumn> = Vec::new();
    for (column, used) in uses {
        match columns.last_mut().filter(|last| last.name == column) {
            Some(last) => last.needs.push(used.to_owned()),
            None => columns.push(v1::ExplainedColumn {
                name: column.to_owned(),
                needs: vec![used.to_owned()],
                granted: words(agreed.dataset.uses(column)),
            }),
        }
    }
    columns
}

fn of_rule(rule: &Rule) -> v1::ExplainedRule {
    let names = |names: &[Name]| names.iter().map(ToString::to_string).collect();
    let named = v1::ExplainedRule { rule: rule.as_str().into(), ..v1::ExplainedRule::default() };
    let named = match rule.whose() {
        Some(Whose { agreements, departments }) => {
            v1::ExplainedRule { agreements: names(agreements), departments: names(departments), ..named }
        }
        None => named,
    };
    match *rule {
        Rule::MinimumSubjects { subjects, .. } | Rule::RowsOfFewLeftOut { subjects, .. } => v1::ExplainedRule { subjects, ..named },
        Rule::Dominance { largest, share, .. } => v1::ExplainedRule { largest, share, ..named },
        Rule::PPercent { percent, .. } => v1::ExplainedRule { percent, ..named },
        Rule::Rounded { to, .. } => v1::ExplainedRule { to, ..named },
        Rule::Perturbed { variance, most, .. } => v1::ExplainedRule { variance, most, ..named },
        Rule::Homogeneous { .. }
        | Rule::Complement { .. }
        | Rule::Margins { .. }
        | Rule::ZerosShown { .. }
        | Rule::SmallGroupsLeftOut
        | Rule::ConditionsOnWithheld => named,
    }
}

fn of_denied(refusal: Refusal, proposal: Option<Proposal>) -> v1::Denied {
    let cause = refusal.cause();
    v1::Denied {
        code: refusal.code.as_str().into(),
        message: refusal.message,
        advice: refusal.advice.unwrap_or_default(),
        owner: cause.as_ref().and_then(Cause::owner).or(refusal.department).unwrap_or_default(),
        cause: cause.as_ref().map(Cause::as_str).unwrap_or_default().into(),
        proposal: proposal.map(|proposal| v1::Proposal {
            statement: proposal.sql,
            purpose: proposal.purpose.to_string(),
            mission: proposal.mission.to_string(),
            change: proposal.change,
        }),
    }
}

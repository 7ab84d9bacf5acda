//! `preview`: shows what would leave, after the access log has it that somebody looked.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use concordat_audit::is_written;
use concordat_operate::Fault;
use concordat_policy::Refusal;
use miette::{IntoDiagnostic as _, WrapErr as _, miette};
use serde_json::json;

use super::{eprint, print};
use crate::config::Config;
use crate::consent::Consent;
use crate::consent::journal::Note;
use crate::datasets::Datasets;
use crate::preview::{ColumnPreview, DatasetPreview, Preview};

/// How long a running node may take to enter the preview into its log; it looks five times a second.
const NOTICE: Duration = Duration::from_secs(4);

/// What is shown.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// The agreement.
    #[arg(long, value_name = "NAME")]
    pub agreement: String,
    /// One purpose; without it, every purpose that the agreement covers here.
    #[arg(long, value_name = "NAME")]
    pub purpose: Option<String>,
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// How it is shown.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON object for programs.
    Json,
}

pub(super) async fn preview(args: PreviewArgs) -> miette::Result<()> {
    let config = Config::load(&args.config)?;
    let datasets = Datasets::open(&config).await?;
    crate::private::folder(&config.state).into_diagnostic().wrap_err("the state folder cannot be used")?;
    let shown = crate::preview::preview(&config, &datasets, &args.agreement, args.purpose.as_deref()).await.map_err(told)?;
    record(&config, &shown).await?;
    match args.output {
        Output::Table => print(&text(&shown)),
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&shown).into_diagnostic()?)),
    }
}

/// The department's own administrator is told the cause too.
fn told(refusal: Refusal) -> miette::Report {
    let cause = refusal.operator.as_ref().map_or_else(|| refusal.message.clone(), |operator| format!("{}: {operator}", refusal.message));
    Fault::new("preview", cause, refusal.advice.unwrap_or_else(|| "nothing was shown; correct what is named".into())).into()
}

/// Enters the preview into the access log: a running node does it now, else the next one that starts.
async fn record(config: &Config, shown: &Preview) -> miette::Result<()> {
    let rows = shown.datasets.iter().flat_map(|dataset| {
        dataset.purposes.iter().map(move |counts| {
            json!({
                "dataset": dataset.dataset, "purpose": counts.purpose, "rows": counts.rows,
                "without_consent": counts.without_consent, "invalid_identifiers": counts.invalid_identifiers,
            })
        })
    });
    let note = Note::new("preview.made")
        .field("agreement", shown.agreement.as_str())
        .field("agreement_digest", shown.agreement_digest.as_str())
        .field("consent_version", shown.consent_version)
        .field("datasets", rows.collect::<Vec<_>>());
    let consent = Consent::open(&config.state, config.department.clone()).into_diagnostic()?;
    let ledger = consent.ledger();
    ledger.note(&[note]).into_diagnostic().wrap_err("the preview cannot be recorded, so it is not shown")?;
    if !is_written(&config.log) {
        eprint("no node runs here; the next one that starts enters this preview into its access log");
        return Ok(());
    }
    let deadline = Instant::now() + NOTICE;
    while !ledger.notes(None).into_diagnostic()?.is_empty() {
        if Instant::now() > deadline {
            return Err(miette!(
                help = "`check` tells what keeps it from writing its log",
                "the running node did not enter this preview into its access log within {} s, so it is not shown",
                NOTICE.as_secs()
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn text(shown: &Preview) -> String {
    let mut text = format!("Agreement '{}' of {}: {}\n", shown.agreement, shown.department, shown.title);
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "  {what:<11}{value}");
    };
    let state = match (shown.suspended, &shown.unsigned, shown.in_force) {
        (true, ..) => "SUSPENDED by this department: nothing leaves".to_owned(),
        (false, Some(cause), _) => format!("NOT SIGNED by this department ({cause}): nothing leaves"),
        (false, None, true) => "in force".to_owned(),
        (false, None, false) => "not in force: nothing leaves".to_owned(),
    };
    line("state", format!("{state} (valid {} to {})", shown.valid_from, shown.valid_until));
    line("file", format!("sha256:{}", shown.agreement_digest));
    line("mission", shown.mission.clone());
    line("sent to", format!("the gateway with certificate {}", shown.gateway.join(" or ")));
    for recipient in &shown.recipients {
        line("answers to", format!("{} ({})", recipient.organisation, recipient.roles.join(", ")));
    }
    line(
        "parties",
        format!("{}; {} makes the key of pseudonyms, anew every {} days", shown.parties.join(", "), shown.keyholder, shown.epoch_days),
    );
    let rows = shown.rows_per_day.map(|most| format!("{most} rows a day"));
    let releases = shown.releases_per_day.map(|most| format!("{most} releases a day"));
    let most = [rows, releases].into_iter().flatten().collect::<Vec<_>>().join(", ");
    if !most.is_empty() {
        line("at most", format!("{most}, by this node's own count"));
    }
    line("withheld", format!("by the gateway: numbers that rest on fewer than {} subjects", shown.minimum_subjects));
    line("consent", format!("as of version {} of the ledger", shown.consent_version));
    for reach in &shown.reach {
        let data = if reach.basis == "consent" { "that are used on consent" } else { "that are used under a power" };
        let told =
            format!("the gateway is told of {} people, as pseudonyms, and removes them from other parties' data {data}", reach.subjects);
        line("reach", format!("for '{}' {told}", reach.purpose));
    }
    if shown.datasets.is_empty() {
        let nothing = if shown.reach.is_empty() { "nothing leaves" } else { "no row leaves" };
        let _ = writeln!(text, "\nNo dataset of this department stands in it: {nothing}.");
    }
    shown.datasets.iter().for_each(|dataset| dataset_text(&mut text, dataset));
    text.push_str("\nNothing was sent. An order may ask for fewer columns and rows than these.\n");
    text
}

fn dataset_text(text: &mut String, dataset: &DatasetPreview) {
    let objections = match dataset.honours_objections {
        Some(true) => "; objections are honoured",
        Some(false) => "; objections are not honoured",
        None => "",
    };
    let _ = writeln!(text, "\nDataset '{}' by {}: {}{objections}", dataset.dataset, dataset.basis, dataset.basis_text);
    if let Some(rows) = &dataset.only_rows {
        let _ = writeln!(text, "  only rows where {rows}; others are not counted below");
    }
    if let Some(most) = &dataset.max_data_age {
        let now = if dataset.outdated { "; it is not, and nothing leaves until it is" } else { "" };
        let _ = writeln!(text, "  only while its data is at most {most} old{now}");
    }
    let mut rows = vec![["column", "type", "classification", "uses", "leaves"].map(str::to_owned)];
    let pseudonym = format!("pseudonym of {}", dataset.identifier_type);
    rows.push(["subject".into(), pseudonym, "personal".into(), list(&dataset.subject_uses), "yes".into()]);
    if let Some(linked) = &dataset.linked_identifier_type {
        let uses = list(&dataset.linked_uses);
        rows.push(["linked_subject".into(), format!("pseudonym of {linked}"), "personal".into(), uses, "yes".into()]);
    }
    rows.extend(dataset.columns.iter().map(column));
    table(text, &rows);
    text.push('\n');
    let mut rows = vec![["for the purpose", "rows that leave", "without consent", "invalid identifier"].map(str::to_owned)];
    let counts = dataset.purposes.iter();
    rows.extend(counts.map(|c| [c.purpose.clone(), c.rows.to_string(), c.without_consent.to_string(), c.invalid_identifiers.to_string()]));
    table(text, &rows);
}

fn column(column: &ColumnPreview) -> [String; 5] {
    let agreed = column.agreed_classification.as_ref().map_or_else(String::new, |agreed| format!(" (agreed: {agreed})"));
    let leaves = match (column.leaves, column.uses.is_empty()) {
        (true, _) => "yes",
        (false, false) => "no: decides here which rows leave",
        (false, true) => "no",
    };
    let list_of = column.listed_values.map_or_else(String::new, |count| format!(", {count} listed values"));
    let coded = column.coded.as_ref().map_or_else(String::new, |coded| format!(", coded: {coded}"));
    let kind = format!("{}{list_of}{coded}", column.r#type);
    [column.column.clone(), kind, format!("{}{agreed}", column.classification), list(&column.uses), leaves.to_owned()]
}

fn list(uses: &[String]) -> String {
    if uses.is_empty() { "none".into() } else { uses.join(", ") }
}

fn table<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
}

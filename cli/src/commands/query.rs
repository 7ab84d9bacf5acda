//! `concordat query`: one question, one answer.

mod coarser;
mod preview;

use clap::Args;

use super::delivery::Delivery;
use super::promised::Promised;
use super::target::Target;
use crate::client::{Answer, Stage, Watch as _};
use crate::failure::Result;
use crate::out;
use crate::output::{Format, Head, Sink, Writing};
use crate::parameters::Parameters;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat query --view opportunity_by_region
  concordat query --view cardiovascular_support --purpose health.prevention
  concordat query --view coverage --to coverage.parquet
  concordat query --preview --sql \"SELECT region, cohort_year, count(*) AS persons FROM dfe.attainment GROUP BY region, cohort_year\"
  concordat query --param region=London --output csv --sql \"
    SELECT a.disadvantage_band, count(DISTINCT a.subject) AS persons, avg(c.months_claiming) AS months
    FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject
    WHERE a.region = $region GROUP BY a.disadvantage_band\"

Tables are department.dataset; `concordat catalogue` lists them with their columns and permitted uses. Datasets join on subject,
the person's pseudonym. Answers are summaries: numbers that rest on too few people are withheld, and the answer says so.

Consent: --at-least dhsc=1207 refuses an answer that does not honour what DHSC had recorded up to version 1207 of its ledger. What
recording a withdrawal prints, and member 'consent' of every answer, are such versions. They count within a generation of the ledger:
after DHSC acknowledged a restored backup, --at-least dhsc=1.1207 is version 1207 of generation 1, and dhsc=1207 is refused.

Parameters: --param x=London gives $x a value of the type that is expected there, --param x= the empty text, --param x null.

Preview: --preview asks the question as it stands and prints how many cells of each column would be withheld and why, but no value;
where some are and the statement groups by several plain columns, it asks once more without each of them (four at most) and says which
of these tells the most. Nothing is told that the answers would not tell. Each is a question like any other: it is judged, protected,
logged and counted against your quotas.

Promise: every answer carries the signed word of the gateway's log that its entry is there for good. --receipt FILE keeps it: with it
anybody who has the log's key can show later that the entry is missing or was changed. --log-key takes no answer without one by that key.

Cells: --cells adds a column NAME_status after each protected value: told, rounded (or noisy), or withheld with every reason that can be
the cause, without saying which. A table shows withheld values as · and the statuses below.

Output: table rounds numbers; the others are exact. csv has empty cells for withheld values and says why in the column 'withheld';
import its texts as texts: a spreadsheet takes one that begins with =, +, - or @ for a formula. arrow is the stream format
(application/vnd.apache.arrow.stream), into a file named *.arrow the file format. arrow and parquet carry what the gateway states of the
answer (query id, sources, withheld, rules) as metadata 'concordat.…'. A failure while the answer arrives leaves no file.")]
#[group(skip)]
pub(crate) struct Query {
    #[command(flatten)]
    question: Question,
    /// The value of a parameter $NAME of --sql; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE", requires = "sql")]
    parameters: Vec<String>,
    /// Refuse an answer that rests on an older version of a department's consent ledger; may be given several times
    #[arg(long, value_name = "DEPARTMENT=[GENERATION.]VERSION", value_parser = least)]
    at_least: Vec<String>,
    /// Let the query run on by itself, and print the id with which `concordat result` picks its answer up
    #[arg(long, conflicts_with_all = ["parameters", "output", "to", "receipt", "log_key"])]
    detach: bool,
    /// Say of each value whether it is told, rounded or withheld, and why it can have been
    #[arg(long, conflicts_with = "preview")]
    cells: bool,
    /// Say how much of the answer would be withheld, and what coarser grouping keeps more, without showing a value
    #[arg(long, conflicts_with_all = ["detach", "receipt", "log_key"])]
    preview: bool,
    #[command(flatten)]
    promised: Promised,
    #[command(flatten)]
    delivery: Delivery,
    #[command(flatten)]
    target: Target,
}

/// What is asked: one of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Question {
    /// An outcome view of the estate
    #[arg(long, value_name = "NAME", value_parser = view_name)]
    view: Option<String>,
    /// One SELECT
    #[arg(long, value_name = "SELECT")]
    sql: Option<String>,
}

/// A department and a version, as the gateway takes them.
fn least(text: &str) -> std::result::Result<String, String> {
    let (department, version) = text.split_once('=').unwrap_or_default();
    let (generation, version) = version.split_once('.').unwrap_or(("0", version));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let number = digits(generation) && digits(version) && generation.parse::<u32>().is_ok() && version.parse::<u64>().is_ok();
    if number && concordat_policy::Name::parse(department).is_ok() {
        return Ok(text.to_owned());
    }
    Err("write department=version, as `concordat consent withdraw` tells it: dhsc=1207, or dhsc=1.1207 of generation 1".into())
}

/// A view's name stands in SQL, so it must be one.
pub(crate) fn view_name(text: &str) -> std::result::Result<String, String> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if ok { Ok(text.to_owned()) } else { Err("a view's name consists of a-z, 0-9 and _".into()) }
}

pub(crate) async fn run(query: Query) -> Result<()> {
    let question = &query.question;
    let parameters = Parameters::parse(&query.parameters)?;
    let sql = question.view.as_deref().map_or_else(|| question.sql.clone().unwrap_or_default(), of_view);
    if query.detach {
        let id = query.target.connect().await?.at_least(&query.at_least).cells(query.cells).detach(&sql).await?;
        out::progress(&format!("pick the answer up with: {} result {id}", super::program()));
        return out::result(&format!("{id}\n"));
    }
    if query.preview {
        return preview::run(&query, &sql, &parameters).await;
    }
    let format = query.delivery.format(query.target.saved_output()?)?;
    let progress = query.delivery.watch();
    progress.stage(Stage::Connecting);
    let client = query.target.connect().await?.at_least(&query.at_least).cells(query.cells);
    let reading = client.ask(&sql, &parameters, progress.clone()).await?;
    let promise = query.promised.check(&reading.summary())?;
    query.delivery.deliver(question.view.as_deref(), reading, promise.as_ref(), format, &progress).await?;
    query.promised.keep(promise)
}

/// The question that asks for a view.
pub(crate) fn of_view(view: &str) -> String {
    format!("SELECT * FROM views.{view}")
}

/// Prints an answer that is there to standard output, and what belongs beside it to standard error.
pub(crate) fn print(view: Option<&str>, answer: &Answer, format: Format) -> Result<()> {
    let head = Head { view, schema: &answer.schema, summary: &answer.summary, colour: out::colour(), arrow_file: false };
    let mut writing = Writing::start(format, &head, Sink::stdout())?;
    answer.batches.iter().try_for_each(|batch| writing.write(batch.clone()))?;
    writing.finish(&answer.summary)?.iter().for_each(|note| out::progress(note));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_of_departments() {
        assert_eq!(least("dhsc=1207").as_deref(), Ok("dhsc=1207"));
        for bad in ["", "dhsc", "dhsc=", "=7", "dhsc=-7", "dhsc=+7", "dhsc=7,dfe=8", "d hsc=7"] {
            assert!(least(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn view_names_hold_no_sql() {
        assert!(view_name("opportunity_by_region").is_ok());
        for bad in ["", "a b", "a;", "A", "a.b", "a--"] {
            assert!(view_name(bad).is_err(), "{bad}");
        }
    }
}

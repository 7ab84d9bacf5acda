//! `concordat views`: what the caller may use for the declared purpose.

use clap::Args;
use concordat_proto::v1::CatalogueResponse;
use serde_json::json;

use super::Output;
use super::target::Target;
use crate::failure::Result;
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat views
  concordat views --purpose health.prevention
  concordat views --output json

Lists only what your organisation, your roles and the declared purpose may use. A column's uses say what SQL may do with it:
group_by (GROUP BY), aggregate (count, sum, avg), filter (WHERE), join (ON). With filter alone, it never leaves its department.")]
pub(crate) struct Views {
    /// How to print the list
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(views: Views) -> Result<()> {
    let catalogue = views.target.connect().await?.catalogue().await?;
    match views.output {
        Output::Table => out::result(&text(&catalogue)),
        Output::Json => out::result(&format!("{}\n", to_json(&catalogue))),
    }
}

fn text(catalogue: &CatalogueResponse) -> String {
    let views = catalogue.views.iter().map(|v| vec![v.name.clone(), v.title.clone(), v.unit.clone()]).collect();
    let columns = catalogue.datasets.iter().flat_map(|dataset| {
        dataset
            .columns
            .iter()
            .map(|column| vec![format!("{}.{}", dataset.name, column.name), column.r#type.clone(), column.uses.join(", "), meaning(column)])
    });
    format!(
        "Mission {}: {}\n\n{}\n{}",
        catalogue.mission,
        catalogue.mission_title,
        Table::of(&["view", "title", "one row counts"], views).text(out::colour()),
        Table::of(&["column", "type", "uses", "meaning"], columns.collect()).text(out::colour()),
    )
}

/// The column's title and, for a short list, its values.
fn meaning(column: &concordat_proto::v1::Column) -> String {
    let values = match column.values.as_slice() {
        [] => return column.title.clone(),
        values if values.len() <= 5 => format!("({})", values.join(" | ")),
        values => format!("({} values)", values.len()),
    };
    format!("{} {values}", column.title).trim_start().to_owned()
}

fn to_json(catalogue: &CatalogueResponse) -> serde_json::Value {
    let views: Vec<_> = catalogue.views.iter().map(|v| json!({ "name": v.name, "title": v.title, "unit": v.unit, "sql": v.sql })).collect();
    let datasets = catalogue.datasets.iter().map(|dataset| {
        let columns: Vec<_> = dataset
            .columns
            .iter()
            .map(|c| json!({ "name": c.name, "type": c.r#type, "title": c.title, "uses": c.uses, "values": c.values }))
            .collect();
        json!({ "name": dataset.name, "agreement": dataset.agreement, "identifier_type": dataset.identifier_type, "columns": columns })
    });
    let mission = json!({ "id": catalogue.mission, "title": catalogue.mission_title });
    json!({ "mission": mission, "views": views, "datasets": datasets.collect::<Vec<_>>() })
}

//! `concordat linkage report`: a statement over a view's datasets, asked and protected like any other.

use clap::Args;

use super::statement::statement;
use crate::client::{Stage, Watch as _};
use crate::commands::delivery::Delivery;
use crate::commands::promised::Promised;
use crate::commands::query::view_name;
use crate::commands::target::Target;
use crate::failure::Result;
use crate::out;
use crate::parameters::Parameters;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat linkage report opportunity_by_region --by region
  concordat linkage report opportunity_by_region --by dbt.apprenticeships.sector --output json
  concordat linkage report apprentices_of_firms --by supported --purpose economy.measure
  concordat linkage report opportunity_by_region --by region --sql

Starts from the people of the column's dataset, and looks for each in every other dataset of the view. By value of the column:
  subjects             people of the dataset
  match_rate           the share of them with a record in every other dataset
  share_of_matched     the value's share among all who were found,
  share_of_unmatched   and among all who were not: where the two differ, so does the view from the people it is about
  difference           the one less the other

It is a query of its own, under the view's agreements: with their minimum, in the log, for the declared purpose. The column must be
one that may be grouped by. Rates are withheld where fewer people than the minimum were found, or were not; such values are not in
the shares' totals. Through a link dataset somebody who is linked to several is found where one of these is in every other dataset.")]
pub(crate) struct Report {
    /// An outcome view of the estate
    #[arg(value_name = "VIEW", value_parser = view_name)]
    view: String,
    /// A column of one of its datasets; department.dataset.column where several have one of that name
    #[arg(long, value_name = "COLUMN")]
    by: String,
    /// Print the statement instead of asking it
    #[arg(long)]
    sql: bool,
    #[command(flatten)]
    delivery: Delivery,
    #[command(flatten)]
    target: Target,
}

impl Report {
    pub(super) async fn run(self) -> Result<()> {
        let format = self.delivery.format(self.target.saved_output()?)?;
        let progress = self.delivery.watch();
        progress.stage(Stage::Connecting);
        let client = self.target.connect().await?;
        let sql = statement(&client.catalogue().await?, &self.view, &self.by)?;
        if self.sql {
            progress.done();
            return out::result(&format!("{sql}\n"));
        }
        let reading = client.ask(&sql, &Parameters::parse::<&str>(&[])?, progress.clone()).await?;
        let promise = Promised::default().check(&reading.summary())?;
        self.delivery.deliver(None, reading, promise.as_ref(), format, &progress).await
    }
}

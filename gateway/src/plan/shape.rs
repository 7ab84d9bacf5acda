//! What the walker knows of each node's output: rows about subjects, or values that anyone may see.

use std::collections::BTreeSet;

use concordat_policy::column::SUBJECT;
use concordat_policy::{DatasetName, Refusal};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan};

use super::protect::Protect;

/// One column of one dataset, as the agreement names it.
pub(super) type SourceColumn = (DatasetName, String);

/// A node's output.
#[expect(clippy::large_enum_variant, reason = "there is one of each node of a plan")]
pub(super) enum Shape {
    /// Rows about subjects: nothing of it may reach the caller except through an aggregate and `Protect`, or where the
    /// agreement permits the use `output`.
    Rows(Rows),
    /// Protected values and constants.
    Safe(Safe),
}

/// Rows about subjects. Each row is about exactly one subject: datasets join on the pseudonym only. Through a link dataset
/// (`link.rs`) it is also about one of another identifier type.
pub(super) struct Rows {
    /// The rewritten plan. May hold more columns than `visible`.
    pub(super) plan: LogicalPlan,
    /// The pseudonym of each row's subject. Never null.
    pub(super) subject: Column,
    /// The identifier type of that pseudonym.
    pub(super) label: String,
    /// The pseudonym of another identifier type, where the rows come through a link dataset.
    pub(super) linked: Option<Linked>,
    /// The datasets that are joined, and which of them a row may lack. Empty where that is not known any more.
    pub(super) present: Vec<Present>,
    /// The datasets whose pseudonym `subject` is.
    pub(super) subject_of: BTreeSet<DatasetName>,
    /// The columns that the statement can name.
    pub(super) visible: Vec<Visible>,
    /// The columns by which rows of the datasets that are joined are compared wherever they are put out, and where each stands; `None`
    /// where the rows do not have it any more.
    pub(super) compared: Vec<(SourceColumn, Option<Column>)>,
    /// Every dataset read below, subqueries included.
    pub(super) datasets: BTreeSet<DatasetName>,
    /// Conditions below that read one source column only: they narrow the keys a group can have.
    pub(super) narrowed_by: Vec<(SourceColumn, Column, Expr)>,
    /// Whether ORDER BY … LIMIT chose among the rows.
    pub(super) limited: bool,
}

impl Rows {
    /// Whether a row is known to be one that may have none of a dataset, by an outer join; of a full join, none of either.
    pub(super) fn may_lack(&self, dataset: &DatasetName) -> bool {
        let lacks = |p: &Present| p.dataset == *dataset && p.column.is_some() && p.label == self.label;
        self.present.iter().any(lacks)
    }

    /// Those of `datasets` of which a row may have none, as far as is known.
    pub(super) fn uncertain<'a>(&self, datasets: impl Iterator<Item = &'a DatasetName>) -> BTreeSet<DatasetName> {
        let certain = |dataset: &DatasetName| self.present.iter().any(|p| p.dataset == *dataset && p.column.is_none());
        datasets.filter(|dataset| !certain(dataset)).cloned().collect()
    }

    /// Whether a column, as it stands, is one of `datasets`, and so null where none of them has a row.
    pub(super) fn of_one(&self, column: &Column, datasets: &BTreeSet<DatasetName>) -> bool {
        match find(&self.visible, column).map(|visible| &visible.origin) {
            Some(origin @ (Origin::Source(_) | Origin::Subject { .. })) => {
                let sources = origin.sources();
                !sources.is_empty() && sources.iter().all(|(dataset, _)| datasets.contains(dataset))
            }
            _ => false,
        }
    }

    /// Those of `datasets` whose subjects rows may be of without being in others, as a full join makes them.
    pub(super) fn of_either<'a>(&self, datasets: impl Iterator<Item = &'a DatasetName>) -> BTreeSet<DatasetName> {
        if self.subject_of.len() < 2 {
            return BTreeSet::new();
        }
        self.uncertain(datasets.filter(|dataset| self.subject_of.contains(*dataset)))
    }
}

/// A dataset among those that are joined.
#[derive(Clone)]
pub(super) struct Present {
    pub(super) dataset: DatasetName,
    /// The identifier type of its subjects.
    pub(super) label: String,
    /// Its pseudonym, null where it has no row; `None` where every row has one, which is [`Rows::subject`].
    pub(super) column: Option<Column>,
}

/// A pseudonym of another identifier type than a row's subject.
#[derive(Clone)]
pub(super) struct Linked {
    pub(super) label: String,
    /// Null where an outer join found none.
    pub(super) column: Column,
}

/// A column of [`Rows`].
#[derive(Clone)]
pub(super) struct Visible {
    pub(super) column: Column,
    pub(super) origin: Origin,
}

/// Where a column of [`Rows`] comes from.
#[derive(Clone)]
pub(super) enum Origin {
    /// A pseudonym.
    Subject {
        /// The identifier type: pseudonyms of different types never match.
        label: String,
        /// Whether an outer join can leave it null.
        nullable: bool,
        /// Whose pseudonym it is: the subject's, or that of a link dataset's second identifier.
        columns: BTreeSet<SourceColumn>,
    },
    /// A dataset's column as it is.
    Source(SourceColumn),
    /// A summary of one subject's rows: of these columns, or of how many rows of these datasets there are.
    PerSubject { columns: BTreeSet<SourceColumn>, present: BTreeSet<DatasetName> },
    /// Anything computed from columns of one row, or from whether it has pseudonyms of these datasets.
    Derived { columns: BTreeSet<SourceColumn>, present: BTreeSet<DatasetName> },
}

impl Origin {
    /// The source columns behind it; a pseudonym stands as [`SUBJECT`] or `linked_subject`.
    pub(super) fn sources(&self) -> BTreeSet<SourceColumn> {
        match self {
            Self::Source(column) => BTreeSet::from([column.clone()]),
            Self::Subject { columns, .. } | Self::PerSubject { columns, .. } | Self::Derived { columns, .. } => columns.clone(),
        }
    }

    /// What the caller sees of where it is put out: the columns, and of pseudonyms that they are there.
    pub(super) fn shown(&self) -> BTreeSet<SourceColumn> {
        let mut shown = self.sources();
        if let Self::PerSubject { present, .. } | Self::Derived { present, .. } = self {
            shown.extend(present.iter().map(|dataset| (dataset.clone(), SUBJECT.to_owned())));
        }
        shown
    }
}

/// Values that anyone may see. The plan's columns are the visible ones in order, then, where something may have been
/// withheld, a `UInt64` whose bit *i* says that column *i* of the row was.
pub(super) struct Safe {
    pub(super) plan: LogicalPlan,
    /// The number of visible columns.
    pub(super) width: usize,
    /// Whether the last column is the mask.
    pub(super) masked: bool,
}

impl Safe {
    /// The visible columns.
    pub(super) fn visible(&self) -> Vec<Column> {
        self.plan.schema().columns().into_iter().take(self.width).collect()
    }

    /// The mask's column.
    pub(super) fn mask(&self) -> Option<Column> {
        if self.masked { self.plan.schema().columns().pop() } else { None }
    }

    /// Whether it has one row, whatever the data are.
    pub(super) fn is_one_row(&self) -> bool {
        is_one_row(&self.plan)
    }
}

fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => plan.inputs().into_iter().all(is_one_row),
        // It puts out a row for each that it takes, where rows have no keys.
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<Protect>() => plan.inputs().into_iter().all(is_one_row),
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner && join.on.is_empty() && join.filter.is_none() => {
            plan.inputs().into_iter().all(is_one_row)
        }
        _ => false,
    }
}

/// Finds the column that an expression names.
pub(super) fn find<'a>(visible: &'a [Visible], column: &Column) -> Option<&'a Visible> {
    visible.iter().find(|v| v.column == *column)
}

/// Carries a refusal through DataFusion's error type.
pub(super) fn refuse<T>(refusal: Refusal) -> Result<T> {
    Err(DataFusionError::External(Box::new(refusal)))
}

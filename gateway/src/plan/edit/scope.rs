//! Which dataset's column a name in a SELECT is, as far as its own FROM tells: what comes out of a subquery, a WITH or a view is
//! nobody's here.

use std::ops::ControlFlow;

use concordat_policy::column::SUBJECT;
use concordat_policy::{DatasetName, Name, Permit};
use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, TableFactor, Visit, visit_expressions};

/// What an edit is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A dataset's column.
    Column(DatasetName, String),
    /// A name that the statement uses and that is no column which may be used.
    Named(String),
    /// Nothing in particular.
    Anything,
}

/// The datasets that a SELECT reads, by the names that it gives them.
pub(super) struct Scope<'p> {
    permit: &'p Permit,
    tables: Vec<(String, DatasetName)>,
}

impl<'p> Scope<'p> {
    pub(super) fn of(select: &Select, permit: &'p Permit) -> Self {
        let factors = select.from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation)));
        Self { permit, tables: factors.filter_map(table).collect() }
    }

    /// The dataset's column that `expr` is.
    pub(super) fn column(&self, expr: &Expr) -> Option<(DatasetName, String)> {
        match expr {
            Expr::Identifier(column) => {
                let column = plain(column);
                let mut known = self.tables.iter().map(|(_, dataset)| dataset).filter(|dataset| self.has(dataset, &column));
                let only = known.next().filter(|_| known.next().is_none())?.clone();
                Some((only, column))
            }
            Expr::CompoundIdentifier(parts) => {
                let (column, of) = parts.split_last()?;
                let dataset = match of {
                    [alias] => self.tables.iter().find(|(name, _)| *name == plain(alias)).map(|(_, dataset)| dataset),
                    [department, dataset] => {
                        let written = format!("{}.{}", plain(department), plain(dataset));
                        self.tables.iter().map(|(_, dataset)| dataset).find(|dataset| dataset.to_string() == written)
                    }
                    _ => None,
                };
                Some((dataset?.clone(), plain(column)))
            }
            _ => None,
        }
    }

    /// Whether `expr` is the target.
    pub(super) fn is(&self, expr: &Expr, target: &Target) -> bool {
        match target {
            Target::Column(dataset, column) => self.column(expr).is_some_and(|(d, c)| d == *dataset && c == *column),
            Target::Named(name) => match expr {
                Expr::Identifier(ident) => plain(ident) == *name,
                Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|ident| plain(ident) == *name),
                _ => false,
            },
            Target::Anything => false,
        }
    }

    /// Whether the target stands anywhere in `node`.
    pub(super) fn mentions(&self, node: &impl Visit, target: &Target) -> bool {
        let found = visit_expressions(node, |expr| if self.is(expr, target) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        found.is_break()
    }

    fn has(&self, dataset: &DatasetName, column: &str) -> bool {
        let agreed = self.permit.dataset(dataset).map(|permit| &permit.dataset);
        agreed.is_some_and(|agreed| column == SUBJECT || agreed.uses(column).is_some_and(|uses| !uses.is_empty()))
    }
}

/// A table of FROM: the name by which columns are qualified, and the dataset that it would be.
fn table(factor: &TableFactor) -> Option<(String, DatasetName)> {
    let TableFactor::Table { name, alias, .. } = factor else { return None };
    let parts = name.0.iter().map(|part| part.as_ident().map(plain)).collect::<Option<Vec<_>>>()?;
    let [.., department, dataset] = parts.as_slice() else { return None };
    let known = DatasetName::new(Name::parse(department).ok()?, Name::parse(dataset).ok()?);
    Some((alias.as_ref().map_or_else(|| dataset.clone(), |alias| plain(&alias.name)), known))
}

/// An identifier as SQL compares it.
pub(super) fn plain(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

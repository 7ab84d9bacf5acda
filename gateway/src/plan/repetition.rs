//! How large a statement becomes once every name in it is replaced by what it stands for.
//!
//! `WITH a AS (…), b AS (SELECT … FROM a JOIN a …), c AS (SELECT … FROM b JOIN b …) …` doubles with every step, so that a short
//! text stands for a plan that no machine can hold, and planners walk plans as trees. So this is counted on the text's own
//! tree, before anything is planned.

use std::collections::HashMap;
use std::ops::ControlFlow;

use concordat_policy::{Code, Refusal};
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement, Visit, Visitor};

/// The most datasets, views and subqueries that a statement may read, each as often as it is reached.
const MAX_READS: u64 = 200;

/// Refuses statements that stand for too much.
pub(super) fn bounded(statement: &Statement) -> Result<(), Refusal> {
    let mut reads = Reads::default();
    match statement.visit(&mut reads) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Refusal::new(
            Code::LimitExceeded,
            format!("the statement reads more than {MAX_READS} datasets, views and subqueries, counting each WITH as often as it is used"),
        )
        .advice("read each WITH once or twice, or publish part of it as a view")),
    }
}

/// The walk. Names of WITH are not told apart by scope: the largest that bears a name counts.
#[derive(Default)]
struct Reads {
    /// What each WITH stands for.
    named: HashMap<String, u64>,
    /// The queries that are a WITH's own, by where they lie in memory, and its name.
    pending: HashMap<*const Query, String>,
    /// The queries being walked, outermost first, and what each reads so far.
    open: Vec<u64>,
}

impl Reads {
    fn add(&mut self, reads: u64) -> ControlFlow<()> {
        let Some(open) = self.open.last_mut() else { return ControlFlow::Continue(()) };
        *open = open.saturating_add(reads);
        if *open > MAX_READS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Visitor for Reads {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for with in query.with.iter().flat_map(|w| &w.cte_tables) {
            self.pending.insert(std::ptr::from_ref(with.query.as_ref()), with.alias.name.value.to_lowercase());
        }
        self.open.push(1);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let reads = self.open.pop().unwrap_or(0);
        match self.pending.remove(&std::ptr::from_ref(query)) {
            Some(name) => {
                let largest = self.named.entry(name).or_default();
                *largest = reads.max(*largest);
                ControlFlow::Continue(())
            }
            None => self.add(reads),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        // By the name's value, however it is quoted; a WITH is never qualified.
        let name = match relation.0.as_slice() {
            [part] => part.as_ident().map(|ident| ident.value.to_lowercase()),
            _ => None,
        };
        let reads = name.and_then(|name| self.named.get(&name).copied()).unwrap_or(1);
        self.add(reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn judged(sql: &str) -> Result<(), Code> {
        bounded(&Parser::parse_sql(&GenericDialect {}, sql).unwrap().remove(0)).map_err(|r| r.code)
    }

    fn doubling(steps: usize) -> String {
        let steps: String = (1..=steps).map(|i| format!(", t{i} AS (SELECT l.x FROM t{} l, \"T{}\" r)", i - 1, i - 1)).collect();
        format!("WITH t0 AS (SELECT 1 AS x){steps} SELECT 1")
    }

    #[test]
    fn a_chain_that_doubles_is_refused_and_a_plain_one_is_not() {
        assert_eq!(judged(&doubling(60)), Err(Code::LimitExceeded));
        assert_eq!(judged(&doubling(9)), Err(Code::LimitExceeded));
        assert_eq!(judged(&doubling(5)), Ok(()));
        for quoted in ["`t{}`", "\"t{}\""] {
            let steps: String =
                (1..=16).map(|i| format!(", t{i} AS (SELECT l.x FROM {0} l, {0} r)", quoted.replace("{}", &(i - 1).to_string()))).collect();
            assert_eq!(judged(&format!("WITH t0 AS (SELECT 1 AS x){steps} SELECT 1")), Err(Code::LimitExceeded), "{quoted}");
        }
        let chain: String = (1..100).map(|i| format!(", t{i} AS (SELECT x FROM t{})", i - 1)).collect();
        assert_eq!(judged(&format!("WITH t0 AS (SELECT 1 AS x){chain} SELECT x FROM t99")), Ok(()));
        let union: String = (0..250).map(|_| " UNION ALL SELECT x FROM a").collect();
        assert_eq!(judged(&format!("SELECT x FROM a{union}")), Err(Code::LimitExceeded));
        assert_eq!(judged("SELECT x FROM a WHERE EXISTS (SELECT 1 FROM b) AND x IN (SELECT y FROM c)"), Ok(()));
    }

    #[test]
    fn nesting_hides_nothing() {
        let mut sql = "SELECT 1 AS x".to_owned();
        for i in 0..12 {
            sql = format!("WITH t{i} AS ({sql}) SELECT 1 AS x FROM t{i} a, t{i} b");
        }
        assert_eq!(judged(&sql), Err(Code::LimitExceeded));
    }
}

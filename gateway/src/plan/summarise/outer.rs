//! The outer level of an aggregate over subjects' rows: per group each value, and what stands behind it and behind what its conditions
//! leave over.

use std::collections::BTreeSet;

use concordat_policy::{DatasetName, Disclosure};
use concordat_protect::noise::Secret;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, sum};
use datafusion::logical_expr::{Aggregate, Expr, ExprFunctionExt as _, LogicalPlan, LogicalPlanBuilder, cast, when};
use datafusion::prelude::{coalesce, lit};

use super::super::contributions::contributions;
use super::super::kinds::Counting;
use super::super::protect::{Kind, Rest, Rule, Value};
use super::levels::{HAS_OTHER, fewer, named, present_name};
use super::summary::{Measure, Of, Summary};
use super::together::{MET, compared, of_people};

/// What the outer level is made of.
pub(super) struct Outer<'a> {
    /// Whether rows come through a link dataset.
    linked: bool,
    rules: &'a Disclosure,
    secret: &'a Secret,
    /// The aggregates.
    totals: Vec<Expr>,
    /// The columns of what stands behind values.
    behind: Vec<Expr>,
    /// Where the next of those columns stands.
    place: usize,
}

/// The columns that count some distinct subjects: of the rows' own identifier type, and through a link dataset of the other.
struct People {
    own: String,
    other: Option<Other>,
}

/// Those of the other identifier type.
struct Other {
    /// With whoever has none, who stands for himself.
    all: String,
    /// Without.
    linked: String,
}

impl People {
    /// Of the identifier type that has fewer, but any: people without a firm are no firms, and lift none over the minimum.
    fn fewest(&self) -> Result<Expr> {
        let own = named(&self.own);
        let Some(Other { linked, .. }) = &self.other else { return Ok(own) };
        when(named(linked).gt(lit(0i64)), fewer(own.clone(), named(linked))?).otherwise(own)
    }

    /// How many more they are than `some` of them.
    fn without(&self, some: &Self) -> Result<Expr> {
        let own = named(&self.own) - named(&some.own);
        let other = self.other.as_ref().zip(some.other.as_ref());
        other.map_or_else(|| Ok(own.clone()), |(all, some)| fewer(own.clone(), named(&all.all) - named(&some.all)))
    }
}

/// The outer level, and where in it stands what is behind its values and groups.
pub(super) struct Protected {
    pub(super) plan: LogicalPlan,
    pub(super) values: Vec<Value>,
    /// Under noise: the keys of a group's subjects.
    pub(super) known: Vec<usize>,
    /// Of several conditions: a group's subjects by which of them each meets.
    pub(super) kinds: Vec<usize>,
}

/// Who contributes to a value, or to a number of values.
struct Chosen<'a> {
    condition: &'a Expr,
    people: &'a People,
}

impl<'a> Outer<'a> {
    pub(super) fn new(linked: bool, rules: &'a Disclosure, secret: &'a Secret) -> Self {
        Self { linked, rules, secret, totals: Vec::new(), behind: Vec::new(), place: 0 }
    }

    /// Keys and values under the statement's own names, then what stands behind each value, the group's subjects last; and where each
    /// of it stands. `key_of`: of a full join, the datasets that the keys come from.
    pub(super) fn over(
        mut self,
        inner: LogicalPlan,
        aggregate: &Aggregate,
        keys: usize,
        summaries: &[Summary],
        key_of: &BTreeSet<DatasetName>,
    ) -> Result<Protected> {
        self.place = keys + summaries.len();
        let subjects = self.subjects(key_of)?;
        let known = self.keys_of_group()?;
        let (mut projected, mut values) = (Vec::new(), Vec::new());
        for (i, (relation, field)) in aggregate.schema.iter().enumerate().take(keys) {
            projected.push(named(&format!("__k{i}")).alias_qualified(relation.cloned(), field.name()));
        }
        for (i, (summary, (relation, field))) in summaries.iter().zip(aggregate.schema.iter().skip(keys)).enumerate() {
            let (told, value) = self.value(i, summary, keys + i)?;
            projected.push(cast(told, field.data_type().clone()).alias_qualified(relation.cloned(), field.name()));
            values.push(Value { condition: summary.chooses.clone(), ..value });
        }
        let kinds = self.kinds(summaries)?;
        self.behind.push(subjects.alias("__subjects"));
        let groups: Vec<Expr> = (0..keys).map(|i| named(&format!("__k{i}"))).collect();
        let outer = LogicalPlanBuilder::from(inner).aggregate(groups, self.totals)?;
        let plan = outer.project(projected.into_iter().chain(self.behind))?.build()?;
        Ok(Protected { plan, values, known, kinds })
    }

    /// The group's subjects. Where a key may come from either department of a full join, those of the one that has the fewest, but
    /// any: else subjects that the other made up would lift the key over the minimum.
    fn subjects(&mut self, key_of: &BTreeSet<DatasetName>) -> Result<Expr> {
        if !self.linked {
            self.totals.push(count(lit(1i64)).alias("__tsubjects"));
        }
        let all = if self.linked { self.people("subjects", lit(true))? } else { People { own: "__tsubjects".into(), other: None } };
        self.fewest("u", &all, &lit(true), key_of)
    }

    /// One value, and what stands behind it.
    fn value(&mut self, i: usize, summary: &Summary, column: usize) -> Result<(Expr, Value)> {
        let (some, contributes) = (named(&format!("__n{i}")).gt(lit(0i64)), contributes(i, summary));
        let magnitude = summary.magnitude();
        if magnitude {
            self.totals.push(sum(named(&format!("__p{i}"))).alias(format!("__tp{i}")));
        }
        self.totals.push(sum(named(&format!("__n{i}"))).alias(format!("__tn{i}")));
        let people = self.people(&format!("c{i}"), contributes.clone())?;
        let fewest =
            if summary.of.len() > 1 { self.fewest(&format!("d{i}"), &people, &contributes, &summary.of)? } else { people.fewest()? };
        let told = match (summary.measure, &people.other) {
            (Measure::Subjects, Some(other)) if summary.of_linked => named(&other.all),
            (Measure::Subjects, _) => named(&people.own),
            // Of a mean too: `Protect` divides.
            (Measure::Sum | Measure::Average, _) => named(&format!("__tp{i}")),
            (Measure::Rows | Measure::Values, _) => coalesce(vec![named(&format!("__tn{i}")), lit(0i64)]),
        };
        let contributors = self.put(fewest.alias(format!("__b{i}")));
        let looked_at = Rule::looks_at_contributions(self.rules);
        let contributed = if magnitude || looked_at {
            let own = match summary.measure {
                Measure::Subjects => lit(1f64),
                Measure::Rows | Measure::Values => number(&format!("__n{i}")),
                Measure::Sum | Measure::Average => number(&format!("__p{i}")),
            };
            self.contributed(&format!("x{i}"), summary, &own, &contributes)?
        } else {
            Vec::new()
        };
        let through = match summary.measure {
            Measure::Subjects => {
                let other = if summary.of_linked { "__s" } else { "__o" };
                self.through(&format!("z{i}"), other, &lit(1f64), &contributes)?
            }
            Measure::Rows | Measure::Values => self.through(&format!("z{i}"), "__o", &number(&format!("__n{i}")), &contributes)?,
            Measure::Sum | Measure::Average => self.through(&format!("z{i}"), "__o", &number(&format!("__p{i}")), &contributes)?,
        };
        let (rests, of_number) = self.rests(i, summary, &Chosen { condition: &contributes, people: &people }, &some)?;
        let number = if summary.measure == Measure::Average {
            let contributed =
                if looked_at { self.contributed(&format!("y{i}"), summary, &number(&format!("__n{i}")), &some)? } else { Vec::new() };
            let column = self.put(named(&format!("__tn{i}")));
            let (kind, through) = (Kind::Rows, self.through(&format!("k{i}"), "__o", &number(&format!("__n{i}")), &some)?);
            let (rests, number, condition, whole) = (of_number, None, None, true);
            Some(Box::new(Value { kind, column, contributors, contributed, through, rests, number, condition, whole }))
        } else {
            None
        };
        let kind = match summary.measure {
            Measure::Subjects => Kind::Subjects,
            Measure::Rows | Measure::Values => Kind::Rows,
            Measure::Sum => Kind::Sum,
            Measure::Average => Kind::Mean,
        };
        let (condition, whole) = (None, summary.whole);
        Ok((told, Value { kind, column, contributors, contributed, through, rests, number, condition, whole }))
    }

    /// What the conditions of a value leave over, of the value and, of a mean, of the number of values. `some`: who has a value.
    fn rests(&mut self, i: usize, summary: &Summary, chosen: &Chosen<'_>, some: &Expr) -> Result<(Vec<Rest>, Vec<Rest>)> {
        let (mut of_value, mut of_number) = (Vec::new(), Vec::new());
        let looked_at = Rule::looks_at_contributions(self.rules);
        for (j, left) in summary.lefts.iter().enumerate() {
            let others = if left.of == Of::Number {
                let people = self.people(&format!("g{i}_{j}"), some.clone())?;
                self.others(&format!("{i}_{j}"), &Chosen { condition: some, people: &people }, &summary.fills)?
            } else {
                self.others(&format!("{i}_{j}"), chosen, &summary.fills)?
            };
            let others = self.put(others.alias(format!("__r{i}_{j}")));
            let could = self.keyed(&format!("j{i}_{j}"), &named(&format!("__v{i}_{j}")).gt(lit(0i64)))?;
            let chosen = if left.of == Of::Number { some } else { chosen.condition };
            let chosen = self.keyed(&format!("h{i}_{j}"), chosen)?;
            let (part, rows) = (format!("__q{i}_{j}"), format!("__l{i}_{j}"));
            let there = named(&rows).gt(lit(0i64));
            if left.of != Of::Number {
                let own = if summary.magnitude() { named(&part) } else { number(&rows) };
                let told = summary.measure != Measure::Subjects && (summary.magnitude() || looked_at);
                let contributed = if told { self.contributed(&format!("q{i}_{j}"), summary, &own, &there)? } else { Vec::new() };
                of_value.push(Rest { others, contributed, could: could.clone(), chosen: chosen.clone() });
            }
            if summary.measure == Measure::Average && left.of != Of::Value {
                let contributed =
                    if looked_at { self.contributed(&format!("l{i}_{j}"), summary, &number(&rows), &there)? } else { Vec::new() };
                of_number.push(Rest { others, contributed, could, chosen });
            }
        }
        Ok((of_value, of_number))
    }

    /// How many of those whom a condition could choose it does not choose at all: of a full join, of the department that has the fewest
    /// among whom it could choose, but any: no other fills up with subjects it made up what is left of a department's own.
    fn others(&mut self, name: &str, chosen: &Chosen<'_>, fills: &BTreeSet<DatasetName>) -> Result<Expr> {
        let could = named(&format!("__v{name}")).gt(lit(0i64));
        let all = self.people(&format!("v{name}"), could.clone())?.without(chosen.people)?;
        let mut fewest = all.clone();
        for dataset in fills.iter().filter(|_| fills.len() > 1) {
            let (of, there) = (present_name(dataset), named(&present_name(dataset)).gt(lit(0i64)));
            let could = self.people(&format!("v{name}{of}"), could.clone().and(there.clone()))?;
            let own = self.people(&format!("w{name}{of}"), chosen.condition.clone().and(there))?;
            let others = when(could.fewest()?.gt(lit(0i64)), could.without(&own)?).otherwise(all.clone())?;
            fewest = fewer(fewest, others)?;
        }
        Ok(fewest)
    }

    /// How many of `people`, of whom `condition` holds, are in each of `of`: the fewest, but any.
    fn fewest(&mut self, name: &str, people: &People, condition: &Expr, of: &BTreeSet<DatasetName>) -> Result<Expr> {
        let mut fewest = people.fewest()?;
        for dataset in of {
            let there = condition.clone().and(named(&present_name(dataset)).gt(lit(0i64)));
            let there = self.people(&format!("{name}{}", present_name(dataset)), there)?.fewest()?;
            let some = when(there.clone().gt(lit(0i64)), there).otherwise(people.fewest()?)?;
            fewest = fewer(fewest, some)?;
        }
        Ok(fewest)
    }

    /// Counts the distinct subjects of whom `condition` holds.
    fn people(&mut self, name: &str, condition: Expr) -> Result<People> {
        let own = format!("__t{name}");
        if !self.linked {
            self.totals.push(count(lit(1i64)).filter(condition).build()?.alias(&own));
            return Ok(People { own, other: None });
        }
        // DISTINCT is said again beside the FILTER: DataFusion's builder forgets that of the expression that it begins with.
        let distinct_where = |of: &str, condition: Expr| distinct(of).filter(condition).distinct().build();
        let (all, linked) = (format!("__t{name}_o"), format!("__t{name}_g"));
        self.totals.push(distinct_where("__s", condition.clone())?.alias(&own));
        self.totals.push(distinct_where("__o", condition.clone())?.alias(&all));
        self.totals.push(distinct_where("__o", condition.and(named(HAS_OTHER).gt(lit(0i64))))?.alias(&linked));
        Ok(People { own, other: Some(Other { all, linked }) })
    }

    /// Under noise, the keys of the subjects of whom `condition` holds, each once: of both identifier types through a link dataset.
    fn keyed(&mut self, name: &str, condition: &Expr) -> Result<Vec<usize>> {
        if self.rules.perturbation.is_none() {
            return Ok(Vec::new());
        }
        let types = ["__s", "__o"].into_iter().take(1 + usize::from(self.linked));
        types.map(|of| self.spread(name, of, &lit(1f64), condition, Some(self.secret.clone()))).collect()
    }

    /// Where values stand under different conditions, a group's subjects by which of these each meets: of both identifier types through a
    /// link dataset, and of a full join also of each department that could fill up what they leave over.
    fn kinds(&mut self, summaries: &[Summary]) -> Result<Vec<usize>> {
        let compared = compared(summaries, self.rules);
        if compared.is_empty() {
            return Ok(Vec::new());
        }
        let conditional = compared.iter().filter(|(_, summary)| !summary.lefts.is_empty());
        let fills = conditional.map(|(_, summary)| &summary.fills).filter(|fills| fills.len() > 1).flatten();
        let fills = fills.collect::<BTreeSet<_>>().into_iter().map(present_name);
        let among: Vec<(String, Expr)> =
            std::iter::once((String::new(), lit(true))).chain(fills.map(|name| (name.clone(), named(&name).gt(lit(0i64))))).collect();
        let secret = self.rules.perturbation.is_some().then(|| self.secret.clone());
        let mut places = Vec::new();
        for subject in ["__s", "__o"].into_iter().take(1 + usize::from(self.linked)) {
            for (of, among) in &among {
                let name = format!("__kinds{subject}{of}");
                let counting = Counting { of_people: of_people(&compared), secret: secret.clone(), several: self.linked };
                self.totals.push(counting.kinds(named(MET), named(subject), among.clone())?.alias(&name));
                places.push(self.put(named(&name)));
            }
        }
        Ok(places)
    }

    /// Under noise, the keys of a group's subjects: of both identifier types, of the other those who are of it.
    fn keys_of_group(&mut self) -> Result<Vec<usize>> {
        if self.rules.perturbation.is_none() {
            return Ok(Vec::new());
        }
        let own = self.spread("known", "__s", &lit(1f64), &lit(true), Some(self.secret.clone()))?;
        let other = self.through("known", "__o", &lit(1f64), &lit(true))?;
        Ok([own].into_iter().chain(other).collect())
    }

    /// How `own` is spread over subjects of one identifier type.
    fn spread(&mut self, name: &str, subject: &str, own: &Expr, condition: &Expr, secret: Option<Secret>) -> Result<usize> {
        let name = format!("__{name}{subject}");
        self.totals.push(contributions(own.clone(), named(subject), condition.clone(), secret, self.linked)?.alias(&name));
        Ok(self.put(named(&name)))
    }

    /// Through a link dataset, how `own` is spread over subjects of one identifier type, of rows that have the other: who has no firm is no
    /// firm, and makes none a smaller part of what firms have.
    fn through(&mut self, name: &str, subject: &str, own: &Expr, condition: &Expr) -> Result<Vec<usize>> {
        if !self.linked || !Rule::looks_at_contributions(self.rules) {
            return Ok(Vec::new());
        }
        let linked = condition.clone().and(named(HAS_OTHER).gt(lit(0i64)));
        let secret = self.rules.perturbation.is_some().then(|| self.secret.clone());
        Ok(vec![self.spread(name, subject, own, &linked, secret)?])
    }

    /// How `own` is spread over the subjects of whom `condition` holds. Through a link dataset once for each identifier type: a pair of
    /// subjects is one row of the inner level, and of each type a subject may stand in several.
    fn contributed(&mut self, name: &str, summary: &Summary, own: &Expr, condition: &Expr) -> Result<Vec<usize>> {
        let types: &[&str] = match (self.linked, summary.measure) {
            (false, _) => &["__s"],
            (true, Measure::Subjects) if summary.of_linked => &["__o"],
            (true, Measure::Subjects) => &["__s"],
            (true, _) => &["__s", "__o"],
        };
        let secret = self.rules.perturbation.is_some().then(|| self.secret.clone());
        types.iter().map(|subject| self.spread(name, subject, own, condition, secret.clone())).collect()
    }

    /// Adds a column of what stands behind a value, and says where.
    fn put(&mut self, column: Expr) -> usize {
        self.behind.push(column);
        self.place += 1;
        self.place - 1
    }
}

/// Who contributes to a value.
fn contributes(i: usize, summary: &Summary) -> Expr {
    let rows = if summary.condition.is_some() { format!("__h{i}") } else { format!("__n{i}") };
    named(&rows).gt(lit(0i64))
}

/// Distinct bytes of any length, which DataFusion counts in less memory than those of a fixed one.
fn distinct(name: &str) -> Expr {
    count_distinct(cast(named(name), DataType::Binary))
}

fn number(name: &str) -> Expr {
    cast(named(name), DataType::Float64)
}

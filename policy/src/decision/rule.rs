//! The rules that protect numbers, each with whose it is, in one form for logs, programs and people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::authorize::DatasetPermit;
use crate::disclosure::{Dominance, Margins, Perturbation, Telling};
use crate::{Disclosure, Name};

/// Who states a rule: of those whose data is read, the strictest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whose {
    /// The agreements that state it.
    pub agreements: Vec<Name>,
    /// The departments whose data it protects.
    pub departments: Vec<Name>,
}

impl Whose {
    pub(super) fn of<'p>(permits: impl Iterator<Item = &'p DatasetPermit>) -> Self {
        let (mut agreements, mut departments): (Vec<_>, Vec<_>) =
            permits.map(|permit| (permit.agreement.clone(), permit.dataset.name.department.clone())).unzip();
        for names in [&mut agreements, &mut departments] {
            names.sort();
            names.dedup();
        }
        Self { agreements, departments }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[Name]| names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        write!(f, "the agreement {} for {}", list(&self.agreements), list(&self.departments))
    }
}

/// A disclosure rule that applies, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Rule {
    /// Numbers that rest on too few subjects are withheld: the strictest minimum of those whose data is read.
    MinimumSubjects {
        /// The minimum.
        subjects: u32,
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Sums and means are withheld of which few contributors make nearly all.
    Dominance {
        /// How many.
        largest: u32,
        /// The percentage that they may make.
        share: u32,
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Sums and means are withheld from which a contributor could estimate another.
    PPercent {
        /// How closely, in percent.
        percent: u32,
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Sums and means of contributors who all have the same value are withheld.
    Homogeneous {
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Numbers are rounded.
    Rounded {
        /// Counts, to multiples of it.
        to: u32,
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Numbers carry noise.
    Perturbed {
        /// The variance of a count's.
        variance: u32,
        /// The largest.
        most: u32,
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Conditions that nearly all of a group meet are not told of.
    Complement {
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Totals are taken to be known.
    Margins {
        /// Whose it is.
        #[serde(flatten)]
        whose: Whose,
    },
    /// That nobody stands behind a number is told.
    ZerosShown {
        /// Who permit it: all whose data is read.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Rows of single subjects are in the answer only where enough subjects share them: the strictest number of those whose data is
    /// read.
    RowsOfFewLeftOut {
        /// The number.
        subjects: u32,
        /// Whose it is, or whose minimum.
        #[serde(flatten)]
        whose: Whose,
    },
    /// Small groups whose keys are in no published list are left out: the gateway's.
    SmallGroupsLeftOut,
    /// A condition on a withheld value is neither true nor false: the gateway's.
    ConditionsOnWithheld,
}

impl Rule {
    /// The rules of `strictest` that are in force, those about sums and means only where there are `magnitudes`. `whose` tells who
    /// states what it is given a test for.
    pub(crate) fn disclosed(strictest: &Disclosure, magnitudes: bool, whose: impl Fn(&dyn Fn(&Disclosure) -> bool) -> Whose) -> Vec<Self> {
        let Disclosure { dominance, p_percent, round_to, complement, homogeneous, zeros, margins, perturbation } = strictest;
        let mut rules = Vec::new();
        if magnitudes {
            for rule in dominance.iter().filter(|rule| rule.share < 100) {
                let Dominance { largest, share } = *rule;
                rules.push(Self::Dominance { largest, share, whose: whose(&|one| one.dominance.contains(rule)) });
            }
            if *p_percent > 0 {
                rules.push(Self::PPercent { percent: *p_percent, whose: whose(&|one| one.p_percent == *p_percent) });
            }
            if *homogeneous == Telling::Withheld {
                rules.push(Self::Homogeneous { whose: whose(&|one| one.homogeneous == Telling::Withheld) });
            }
        }
        if *round_to > 1 {
            rules.push(Self::Rounded { to: *round_to, whose: whose(&|one| one.round_to == *round_to) });
        }
        if let Some(Perturbation { variance, most }) = *perturbation {
            let states = |one: &Disclosure| one.perturbation.is_some_and(|noise| noise.variance == variance || noise.most == most);
            rules.push(Self::Perturbed { variance, most, whose: whose(&states) });
        }
        if *complement == Telling::Withheld {
            rules.push(Self::Complement { whose: whose(&|one| one.complement == Telling::Withheld) });
        }
        if *margins == Margins::Protected {
            rules.push(Self::Margins { whose: whose(&|one| one.margins == Margins::Protected) });
        }
        if *zeros == Telling::Shown {
            rules.push(Self::ZerosShown { whose: whose(&|one| one.zeros == Telling::Shown) });
        }
        rules
    }

    /// The word that the log and programs use.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::MinimumSubjects { .. } => "minimum_subjects",
            Self::Dominance { .. } => "dominance",
            Self::PPercent { .. } => "p_percent",
            Self::Homogeneous { .. } => "homogeneous",
            Self::Rounded { .. } => "rounded",
            Self::Perturbed { .. } => "perturbed",
            Self::Complement { .. } => "complement",
            Self::Margins { .. } => "margins",
            Self::ZerosShown { .. } => "zeros_shown",
            Self::RowsOfFewLeftOut { .. } => "rows_of_few_left_out",
            Self::SmallGroupsLeftOut => "small_groups_left_out",
            Self::ConditionsOnWithheld => "conditions_on_withheld",
        }
    }

    /// Who states it; `None` for the gateway's own.
    #[must_use]
    pub fn whose(&self) -> Option<&Whose> {
        match self {
            Self::MinimumSubjects { whose, .. }
            | Self::Dominance { whose, .. }
            | Self::PPercent { whose, .. }
            | Self::Homogeneous { whose }
            | Self::Rounded { whose, .. }
            | Self::Perturbed { whose, .. }
            | Self::Complement { whose }
            | Self::Margins { whose }
            | Self::ZerosShown { whose }
            | Self::RowsOfFewLeftOut { whose, .. } => Some(whose),
            Self::SmallGroupsLeftOut | Self::ConditionsOnWithheld => None,
        }
    }

    /// Why it withholds a number, said of the number; `None` where it withholds none.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        Some(match self {
            Self::MinimumSubjects { subjects, .. } => format!("fewer than {subjects} distinct subjects"),
            Self::Dominance { largest: 1, share, .. } => format!("its largest contributor makes more than {share} % of it"),
            Self::Dominance { largest, share, .. } => format!("its {largest} largest contributors make more than {share} % of it"),
            Self::PPercent { percent, .. } => {
                format!("its second largest contributor could estimate the largest within {percent} %")
            }
            Self::Homogeneous { .. } => "all of its contributors have the same value".into(),
            Self::Complement { .. } => {
                "all of its group meet its condition, or all but fewer than the minimum, or other numbers of its row \
                                        tell of too few, or of nobody, beside it"
                    .into()
            }
            Self::Margins { .. } => "totals would tell a withheld number".into(),
            Self::Perturbed { most, .. } => format!("with noise it rests on less than {most} subjects over the minimum"),
            Self::Rounded { .. }
            | Self::ZerosShown { .. }
            | Self::RowsOfFewLeftOut { .. }
            | Self::SmallGroupsLeftOut
            | Self::ConditionsOnWithheld => return None,
        })
    }

    /// What it does, for people.
    #[must_use]
    pub fn says(&self) -> String {
        let says = match self {
            Self::MinimumSubjects { subjects, .. } => {
                return format!("numbers that rest on fewer than {subjects} distinct subjects are withheld");
            }
            Self::Dominance { largest: 1, share, .. } => {
                return format!("sums and means of which the largest contributor makes more than {share} % are withheld");
            }
            Self::Dominance { largest, share, .. } => {
                return format!("sums and means of which the {largest} largest contributors make more than {share} % are withheld");
            }
            Self::PPercent { percent, .. } => {
                return format!(
                    "sums and means from which the second largest contributor could estimate the largest within {percent} % are withheld"
                );
            }
            Self::Rounded { to, .. } => {
                return format!(
                    "counts of subjects are rounded to multiples of {to}; other numbers are told as such a count times their mean, which is \
                     rounded as coarsely"
                );
            }
            Self::Perturbed { variance, most, .. } => {
                return format!(
                    "counts and sums carry noise, of a count at most {most} with a variance of {variance}, of a sum as much in mean \
                     contributions and, where these differ, again in units of the largest; a noisy number that is less than {most} over the \
                     minimum is withheld; the same contributors always get the same"
                );
            }
            Self::RowsOfFewLeftOut { subjects, .. } => {
                return format!("rows that fewer than {subjects} distinct subjects share are left out");
            }
            Self::Homogeneous { .. } => "sums and means of contributors who all have the same value are withheld",
            Self::Complement { .. } => {
                "numbers with a condition of their own are withheld where all of a group meet it, or all but fewer than the minimum; of \
                 several conditions in one row, the later that tells of too few, or of nobody, beside the others: compute it from those, \
                 GROUP BY the column, or ask for it alone"
            }
            Self::Margins { .. } => "further numbers are withheld until totals tell none of the withheld ones within 10 %",
            Self::ZerosShown { .. } => "numbers on which nobody stands are shown as zero or empty, and not as withheld",
            Self::SmallGroupsLeftOut => "small groups whose keys are in no published list are left out",
            Self::ConditionsOnWithheld => "rows with a condition on a withheld value are not in the answer",
        };
        says.to_owned()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says())?;
        match (self, self.whose()) {
            (Self::MinimumSubjects { .. }, Some(whose)) => write!(f, ": the strictest minimum, stated by {whose}"),
            (_, Some(whose)) => write!(f, ": by {whose}"),
            (_, None) => f.write_str(": the gateway's rule"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{SUBJECT, Use};
    use crate::testing::{AGREEMENT, name, signed};
    use crate::{Agreement, Caller, ColumnUses, DatasetName, Decision, PurposeTree, authorize};

    /// The rules of a statement over both datasets, each under an agreement of its own, the claims' with these rules.
    fn rules(of_claims: &str, minimum: u32, magnitudes: bool) -> Vec<Rule> {
        let (head, datasets) = AGREEMENT.split_once("[[dataset]]").unwrap();
        let (attainment, claims) = datasets.split_once("[[dataset]]").unwrap();
        let two = head.replace("id = \"one\"", &format!("id = \"two\"\ndisclosure = {{ {of_claims} }}"));
        let texts = [format!("{head}[[dataset]]{attainment}"), format!("{two}[[dataset]]{claims}")];
        let agreements = texts.map(|text| Agreement::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}")));
        let purpose = "[[purpose]]\nid = \"opportunity.measure\"\ntitle = \"T\"\n";
        let (organisation, roles) = ("mission-unit".into(), ["analyst".to_owned()].into());
        let caller = Caller { subject: "u".into(), organisation, roles, purpose: name("opportunity.measure") };
        let signatures = signed(&agreements.each_ref());
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        let permit = authorize(&caller, None, &agreements, &signatures, &PurposeTree::parse(purpose).unwrap(), now).unwrap();
        let mut uses = ColumnUses::default();
        for dataset in [DatasetName::new(name("dfe"), name("attainment")), DatasetName::new(name("dwp"), name("claims"))] {
            uses.add(&dataset, SUBJECT, Use::Join);
        }
        Decision::of(&permit, &uses, minimum, magnitudes).rules
    }

    #[test]
    fn what_withholds_a_number_has_a_reason_and_what_does_not_has_none() {
        let whose = || Whose { agreements: vec![name("one")], departments: Vec::new() };
        for (rule, reason) in [
            (Rule::MinimumSubjects { subjects: 12, whose: whose() }, Some("fewer than 12 distinct subjects")),
            (Rule::Dominance { largest: 1, share: 80, whose: whose() }, Some("its largest contributor makes more than 80 % of it")),
            (Rule::Dominance { largest: 2, share: 90, whose: whose() }, Some("its 2 largest contributors make more than 90 % of it")),
            (Rule::PPercent { percent: 10, whose: whose() }, Some("its second largest contributor could estimate the largest within 10 %")),
            (Rule::Homogeneous { whose: whose() }, Some("all of its contributors have the same value")),
            (
                Rule::Complement { whose: whose() },
                Some(
                    "all of its group meet its condition, or all but fewer than the minimum, or other numbers of its row tell of too few, \
                     or of nobody, beside it",
                ),
            ),
            (Rule::Margins { whose: whose() }, Some("totals would tell a withheld number")),
            (
                Rule::Perturbed { variance: 2, most: 5, whose: whose() },
                Some("with noise it rests on less than 5 subjects over the minimum"),
            ),
            (Rule::Rounded { to: 5, whose: whose() }, None),
            (Rule::SmallGroupsLeftOut, None),
            (Rule::ConditionsOnWithheld, None),
        ] {
            assert_eq!(rule.reason().as_deref(), reason, "{rule}");
        }
    }

    #[test]
    fn each_rule_names_those_who_state_the_strictest() {
        let told = |rules: &[Rule]| rules.iter().map(|rule| format!("{rule}\n")).collect::<String>();
        let strict = "round_to = 10, p_percent = 0, margins = \"open\", homogeneous = \"withheld\", zeros = \"shown\", perturbation = { variance = 2, most = 5 }";
        insta::assert_snapshot!(told(&rules(strict, 10, true)), @r"
        numbers that rest on fewer than 10 distinct subjects are withheld: the strictest minimum, stated by the agreement one, two for dfe, dwp
        sums and means of which the 2 largest contributors make more than 90 % are withheld: by the agreement one, two for dfe, dwp
        sums and means from which the second largest contributor could estimate the largest within 10 % are withheld: by the agreement one for dfe
        sums and means of contributors who all have the same value are withheld: by the agreement two for dwp
        counts of subjects are rounded to multiples of 10; other numbers are told as such a count times their mean, which is rounded as coarsely: by the agreement two for dwp
        counts and sums carry noise, of a count at most 5 with a variance of 2, of a sum as much in mean contributions and, where these differ, again in units of the largest; a noisy number that is less than 5 over the minimum is withheld; the same contributors always get the same: by the agreement two for dwp
        numbers with a condition of their own are withheld where all of a group meet it, or all but fewer than the minimum; of several conditions in one row, the later that tells of too few, or of nobody, beside the others: compute it from those, GROUP BY the column, or ask for it alone: by the agreement one, two for dfe, dwp
        further numbers are withheld until totals tell none of the withheld ones within 10 %: by the agreement one for dfe
        ");
        let counts: Vec<_> = rules(strict, 10, false).iter().map(Rule::as_str).collect();
        assert_eq!(counts, ["minimum_subjects", "rounded", "perturbed", "complement", "margins"], "no rule on sums and means");
        assert_eq!(rules(strict, 0, true), [], "nothing is summarised");
    }

    #[test]
    fn a_log_keeps_each_rule_flat() {
        let all = rules("homogeneous = \"withheld\", perturbation = { variance = 2, most = 5 }", 10, true);
        let kept = toml::Value::try_from(&all).unwrap();
        assert_eq!(kept.clone().try_into::<Vec<Rule>>().unwrap(), all);
        let dominance = kept.as_array().unwrap()[1].as_table().unwrap();
        assert_eq!(dominance.keys().collect::<Vec<_>>(), ["agreements", "departments", "largest", "rule", "share"], "{dominance}");
        assert!(all.iter().zip(kept.as_array().unwrap()).all(|(rule, kept)| kept["rule"].as_str() == Some(rule.as_str())));
    }
}

//! The one thing on which a refusal rests, in a form that a log may keep and that says the same later.
//!
//! It holds names that agreements, the estate or the log's own entries hold: never a word that only the statement has. That is why
//! [`Cause::Hidden`] keeps no name in a log: what a statement calls something that its caller may not know could be anything, an
//! identifier too.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::agreement::in_words;
use crate::{DatasetName, FilterLimit, Name, Use};

/// The smallest cause. `Display` is the sentence of the refusal; `Serialize` is what the log keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// An agreement does not permit one use of one column: its department's rule.
    Use {
        /// Whose column.
        dataset: DatasetName,
        /// Which.
        column: String,
        /// The use.
        #[serde(rename = "use")]
        used: Use,
        /// The agreement that does not permit it.
        agreement: Name,
    },
    /// A column that may only filter would have to leave its department: that department's rule.
    Kept {
        /// Whose column.
        dataset: DatasetName,
        /// Which.
        column: String,
        /// The agreement that permits no other use.
        agreement: Name,
    },
    /// A column whose use `filter` is limited is compared otherwise than its listed values or bands let it: its department's rule.
    Unlisted {
        /// Whose column.
        dataset: DatasetName,
        /// Which.
        column: String,
        /// The agreement that limits the use.
        agreement: Name,
        /// How. Entries of logs from before there were bands do not say.
        #[serde(default)]
        limit: FilterLimit,
    },
    /// Something that may not be used, or does not exist: the two are not told apart.
    Hidden {
        /// The column as the statement names it, where it is one. Not for logs.
        #[serde(skip)]
        column: Option<String>,
    },
    /// A dataset that the caller's organisation may know of, and that no agreement lets the caller use.
    Known {
        /// Which.
        dataset: DatasetName,
    },
    /// No agreement in force lets the caller use data for the purpose.
    Purpose {
        /// The declared purpose.
        purpose: Name,
        /// The declared mission.
        mission: Option<Name>,
    },
    /// Parties have not signed.
    Signature {
        /// The agreement.
        agreement: Name,
        /// The parties whose signature does not count, and why: the fault continues "the signature of 'dfe' …".
        lacking: Vec<(Name, String)>,
    },
    /// A rule of the gateway's disclosure control.
    Rule {
        /// The refusal's sentence.
        says: String,
    },
    /// A guard rail about people and circumstances, of the gateway or of a department.
    Guard {
        /// Whose: a department's; the gateway's, where it is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        department: Option<Name>,
        /// The guard rail; none, where one would have to permit the request and none does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rail: Option<Rail>,
        /// Whether it could not be evaluated, which decides as if it forbade the request.
        #[serde(default)]
        failed: bool,
    },
    /// Too few witnesses have seen the gateway's log for longer than an agreement allows: its departments' rule.
    Unwitnessed {
        /// The agreement: the strictest of those that are used.
        agreement: Name,
        /// The departments that signed it.
        departments: Vec<Name>,
        /// How long it allows, in seconds.
        max_unwitnessed_seconds: u64,
        /// Since when the log has entries that a quorum has not seen.
        since: DateTime<Utc>,
    },
}

/// A guard rail, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rail {
    /// Its `@id`.
    pub id: Name,
    /// Its file's name, in the folder of guard rails.
    pub file: Name,
}

impl Cause {
    /// The word that the log and programs use.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Use { .. } => "use",
            Self::Kept { .. } => "kept",
            Self::Unlisted { .. } => "unlisted",
            Self::Hidden { .. } => "hidden",
            Self::Known { .. } => "known",
            Self::Purpose { .. } => "purpose",
            Self::Signature { .. } => "signature",
            Self::Rule { .. } => "rule",
            Self::Guard { .. } => "guard",
            Self::Unwitnessed { .. } => "unwitnessed",
        }
    }

    /// Whose rule it is: a department's, the gateway's, or nobody's alone.
    #[must_use]
    pub fn owner(&self) -> Option<String> {
        match self {
            Self::Use { dataset, .. } | Self::Kept { dataset, .. } | Self::Unlisted { dataset, .. } | Self::Known { dataset } => {
                Some(dataset.department.to_string())
            }
            Self::Signature { lacking, .. } => match lacking.as_slice() {
                [(department, _)] => Some(department.to_string()),
                _ => None,
            },
            Self::Guard { department: Some(department), .. } => Some(department.to_string()),
            Self::Rule { .. } | Self::Guard { department: None, .. } => Some("the gateway".into()),
            Self::Unwitnessed { departments, .. } => Some(departments.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")),
            Self::Hidden { .. } | Self::Purpose { .. } => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Use { dataset, column, used, agreement } => {
                write!(f, "{dataset}.{column} may not be used for {used}: agreement '{agreement}' does not permit it")
            }
            Self::Kept { dataset, column, .. } => write!(
                f,
                "{dataset}.{column} may only decide, at its department, which rows count; the condition on it cannot be stated there"
            ),
            Self::Unlisted { dataset, column, agreement, limit } => {
                let by = match limit {
                    FilterLimit::Listed => "comparison with its listed values",
                    FilterLimit::Bands => "< and >= with the thresholds of its bands",
                };
                write!(f, "{dataset}.{column} may be used for filter only by {by}: agreement '{agreement}' limits it")
            }
            Self::Hidden { column: Some(column) } => write!(f, "no column '{column}' may be used here"),
            Self::Hidden { column: None } => {
                f.write_str("a dataset, view or column of the statement may not be used for this purpose, or does not exist")
            }
            Self::Known { dataset } => write!(f, "{dataset} exists, and no agreement lets you use it for this purpose"),
            Self::Purpose { purpose, mission } => {
                write!(f, "no agreement in force lets your organisation and roles use data for the purpose '{purpose}'")?;
                mission.as_ref().map_or(Ok(()), |mission| write!(f, " in the mission '{mission}'"))
            }
            Self::Signature { agreement, lacking } => {
                let causes: Vec<String> = lacking.iter().map(|(party, fault)| format!("the signature of '{party}' {fault}")).collect();
                write!(f, "the agreement '{agreement}' does not bind: {}", causes.join("; "))
            }
            Self::Rule { says } => f.write_str(says),
            Self::Guard { department, rail, failed } => {
                let whose = department.as_ref().map_or_else(|| "the gateway".to_owned(), |department| format!("'{department}'"));
                match rail {
                    None => write!(f, "no guard rail of {whose} permits this request"),
                    Some(Rail { id, file }) if *failed => {
                        write!(f, "the guard rail '{id}' of {whose} ({file}) cannot be evaluated for this request, so it is refused")
                    }
                    Some(Rail { id, file }) => write!(f, "the guard rail '{id}' of {whose} ({file}) forbids this request"),
                }
            }
            Self::Unwitnessed { agreement, departments, max_unwitnessed_seconds, since } => {
                let departments: Vec<&str> = departments.iter().map(Name::as_str).collect();
                write!(
                    f,
                    "the gateway's access log has entries since {} that too few witnesses have seen, and the agreement '{agreement}' of {} lets \
                     nothing be released when it is so for more than {}",
                    since.to_rfc3339_opts(SecondsFormat::Secs, true),
                    departments.join(", "),
                    in_words(Duration::from_secs(*max_unwitnessed_seconds)),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::name;

    /// What a log keeps of a cause says the same when it is read again, but for names that only the statement has.
    #[test]
    fn a_name_that_only_the_statement_has_is_in_no_record() {
        let hidden = Cause::Hidden { column: Some("AB123456C".into()) };
        let kept = toml::to_string(&hidden).unwrap();
        assert!(kept.contains("hidden") && !kept.contains("AB123456C"), "{kept}");
        let used = Cause::Use {
            dataset: DatasetName::new(name("dwp"), name("claims")),
            column: "a".into(),
            used: Use::Join,
            agreement: name("one"),
        };
        let rail = Some(Rail { id: name("training"), file: name("people.cedar") });
        for cause in [
            used,
            Cause::Known { dataset: DatasetName::new(name("a"), name("b")) },
            Cause::Rule { says: "no".into() },
            Cause::Hidden { column: None },
            Cause::Guard { department: None, rail: None, failed: false },
            Cause::Guard { department: Some(name("dwp")), rail, failed: true },
            Cause::Unwitnessed {
                agreement: name("one"),
                departments: vec![name("dfe"), name("dwp")],
                max_unwitnessed_seconds: 90,
                since: "2026-06-01T12:00:00Z".parse().unwrap(),
            },
        ] {
            assert_eq!(toml::from_str::<Cause>(&toml::to_string(&cause).unwrap()).unwrap(), cause);
        }
    }

    #[test]
    fn each_has_one_owner_or_none_and_says_what_and_why() {
        let dataset = DatasetName::new(name("dwp"), name("claims"));
        let kept = Cause::Kept { dataset: dataset.clone(), column: "started".into(), agreement: name("one") };
        assert!(kept.owner().as_deref() == Some("dwp") && kept.to_string().starts_with("dwp.claims.started may only decide"));
        let beyond = |limit| Cause::Unlisted { dataset: dataset.clone(), column: "region".into(), agreement: name("one"), limit };
        let unlisted = beyond(FilterLimit::Listed);
        assert_eq!((unlisted.as_str(), unlisted.owner().as_deref()), ("unlisted", Some("dwp")));
        assert!(unlisted.to_string().starts_with("dwp.claims.region may be used for filter only by comparison"));
        assert!(beyond(FilterLimit::Bands).to_string().contains("only by < and >= with the thresholds of its bands: agreement 'one'"));
        let before =
            "kind = \"unlisted\"\ndataset = { department = \"dwp\", dataset = \"claims\" }\ncolumn = \"region\"\nagreement = \"one\"\n";
        assert_eq!(toml::from_str::<Cause>(before).unwrap(), unlisted, "an entry that does not say which");
        let used = Cause::Use { dataset, column: "amount".into(), used: Use::Output, agreement: name("one") };
        assert_eq!(used.to_string(), "dwp.claims.amount may not be used for output: agreement 'one' does not permit it");
        let lacking = vec![(name("dfe"), "is missing".to_owned()), (name("dwp"), "does not verify".to_owned())];
        let unsigned = Cause::Signature { agreement: name("one"), lacking };
        assert_eq!(unsigned.owner(), None, "two parties': no one department's alone");
        assert!(unsigned.to_string().ends_with("the signature of 'dfe' is missing; the signature of 'dwp' does not verify"));
        let rail = Some(Rail { id: name("hours"), file: name("people.cedar") });
        let guard = Cause::Guard { department: None, rail, failed: false };
        assert_eq!(guard.owner().as_deref(), Some("the gateway"));
        assert_eq!(guard.to_string(), "the guard rail 'hours' of the gateway (people.cedar) forbids this request");
        let purpose = Cause::Purpose { purpose: name("p"), mission: Some(name("m")) };
        assert!(purpose.to_string().ends_with("for the purpose 'p' in the mission 'm'"));
    }
}

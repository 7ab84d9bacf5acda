//! Which mission, purpose and output count: what the command line says, else the environment, else the mission's saved defaults,
//! else `client.toml` as a whole.
//!
//! A saved mission gives way to a purpose that is given for one call and is not the mission's own: that purpose may belong to
//! another mission. Who needs both gives both.

use super::delivery::named;
use crate::client::ClientFile;
use crate::failure::Result;
use crate::output::Format;

/// A value, and where it comes from.
pub(crate) type Sourced = Option<(String, String)>;

/// What counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InForce {
    /// The mission.
    pub(crate) mission: Sourced,
    /// The purpose.
    pub(crate) purpose: Sourced,
    /// The saved output.
    pub(crate) output: Sourced,
}

impl InForce {
    /// What counts when `purpose` and `mission` are given by command line or environment.
    pub(crate) fn of(purpose: Option<&str>, mission: Option<&str>, file: &ClientFile) -> Self {
        let given =
            |value: Option<&str>, what: &str| value.map(|v| (v.to_owned(), format!("--{what} or CONCORDAT_{}", what.to_uppercase())));
        let defaults = |mission: &str| file.defaults.get(mission).cloned().unwrap_or_default();
        let fits = |mission: &&String| purpose.is_none_or(|purpose| defaults(mission).purpose.as_deref() == Some(purpose));
        let saved = file.mission.as_ref().filter(fits).map(|m| (m.clone(), "client.toml, `concordat use`".to_owned()));
        let mission = given(mission, "mission").or(saved);
        let own = mission.as_ref().map(|(mission, _)| (defaults(mission), format!("client.toml, [mission.{mission}]")));
        let of_mission = |value: fn(&crate::client::MissionDefaults) -> &Option<String>| {
            own.as_ref().and_then(|(defaults, place)| Some((value(defaults).clone()?, place.clone())))
        };
        let of_file = file.purpose.as_ref().map(|purpose| (purpose.clone(), "client.toml".to_owned()));
        let output = of_mission(|d| &d.output);
        let purpose = given(purpose, "purpose").or_else(|| of_mission(|d| &d.purpose)).or(of_file);
        Self { mission, purpose, output }
    }

    /// The saved output as a format.
    ///
    /// # Errors
    /// When it names none.
    pub(crate) fn format(&self) -> Result<Option<Format>> {
        self.output.as_ref().map(|(name, place)| named(name, place)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_to_the_call_counts() {
        let file: ClientFile = toml::from_str(
            r#"gateway = "g"
            server_name = "s"
            ca = "c"
            purpose = "wide"
            use = "m"
            [mission.m]
            purpose = "m.purpose"
            output = "csv"
            [mission.n]
            output = "json""#,
        )
        .unwrap();
        let mut table = String::new();
        for (purpose, mission) in
            [(None, None), (Some("p"), None), (Some("m.purpose"), None), (None, Some("n")), (Some("p"), Some("m")), (None, Some("x"))]
        {
            let InForce { mission: m, purpose: p, output: o } = InForce::of(purpose, mission, &file);
            let show = |value: Sourced| value.map_or_else(|| "-".to_owned(), |(value, _)| value);
            table += &format!("{purpose:?} {mission:?}: {} {} {}\n", show(m), show(p), show(o));
        }
        let expected = "\
None None: m m.purpose csv
Some(\"p\") None: - p -
Some(\"m.purpose\") None: m m.purpose csv
None Some(\"n\"): n wide json
Some(\"p\") Some(\"m\"): m p csv
None Some(\"x\"): x wide -
";
        assert_eq!(table, expected);
    }
}

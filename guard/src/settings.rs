//! `[guard]` of `gateway.toml` and `node.toml`.

use std::path::{Path, PathBuf};

use chrono_tz::Tz;
use serde::Deserialize;

/// `[guard]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The folder of `*.cedar` files.
    pub policies: PathBuf,
    /// In which zone hours and weekdays are told: `Europe/London`. There is no default: an hour off is another rule.
    pub time_zone: TimeZone,
}

impl Settings {
    /// The settings of a configuration in `base`, to which its paths are relative.
    #[must_use]
    pub fn under(self, base: &Path) -> Self {
        Self { policies: base.join(self.policies), ..self }
    }
}

/// A zone of the IANA time zone database, as of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeZone(pub(crate) Tz);

impl TryFrom<String> for TimeZone {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "this is no time zone; name one as the IANA database does: \"Europe/London\", \"UTC\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_is_named_and_known() {
        let settings: Settings = toml::from_str("policies = 'guard'\ntime_zone = 'Europe/London'").unwrap();
        assert_eq!(settings.time_zone.0, Tz::Europe__London);
        for bad in ["policies = 'guard'", "policies = 'guard'\ntime_zone = 'London'", "policies = 'g'\ntime_zone = 'UTC'\nmore = 1"] {
            assert!(toml::from_str::<Settings>(bad).is_err(), "{bad}");
        }
    }
}

//! A time as guard rails see it.

use cedar_policy::RestrictedExpression;
use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _, Utc};
use chrono_tz::Tz;

/// A time, and the zone in which its hour and weekday are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    now: DateTime<Utc>,
    zone: Tz,
}

impl Moment {
    pub(crate) fn new(now: DateTime<Utc>, zone: Tz) -> Self {
        Self { now, zone }
    }

    /// `hour`, `weekday` and `time` of a context.
    pub(crate) fn context(self) -> [(String, RestrictedExpression); 3] {
        let there = self.now.with_timezone(&self.zone);
        [
            ("hour".into(), RestrictedExpression::new_long(there.hour().into())),
            ("weekday".into(), RestrictedExpression::new_long(there.weekday().number_from_monday().into())),
            ("time".into(), datetime(self.now)),
        ]
    }
}

/// A time, to the millisecond.
pub(crate) fn datetime(time: DateTime<Utc>) -> RestrictedExpression {
    RestrictedExpression::new_datetime(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

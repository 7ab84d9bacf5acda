//! The rails in force: one pointer that is swapped whole, so that a decision sees the old set or the new one and no mixture.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};

use crate::moment::Moment;
use crate::rails::Rails;
use crate::read::{Side, read};
use crate::{Damage, Known, Settings};

/// A folder and what was last read of it, in common with all its clones.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    settings: Settings,
    side: Side,
    rails: Arc<RwLock<Arc<Rails>>>,
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// How many guard rails.
    pub rails: usize,
    /// In how many files.
    pub files: usize,
    /// SHA-256 of the files' names and bytes, in hex: what a log says was in force.
    pub digest: String,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} guard rail(s) in {} file(s), sha256 {}", self.rails, self.files, self.digest)
    }
}

impl Kept {
    /// Reads the folder that `settings` name.
    pub(crate) fn open(settings: &Settings, side: Side, known: &Known) -> Result<Self, Vec<Damage>> {
        let rails = Arc::new(RwLock::new(Arc::new(read(&settings.policies, side, known)?)));
        Ok(Self { settings: settings.clone(), side, rails })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.settings.policies
    }

    /// Reads the folder again. Its damage leaves the old rails in force.
    pub(crate) fn reload(&self, known: &Known) -> Result<Loaded, Vec<Damage>> {
        let rails = Arc::new(read(self.folder(), self.side, known)?);
        let loaded = rails.loaded().clone();
        *self.rails.write().unwrap_or_else(PoisonError::into_inner) = rails;
        Ok(loaded)
    }

    /// The rails that are in force.
    pub(crate) fn rails(&self) -> Arc<Rails> {
        Arc::clone(&self.rails.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The rails that are in force, whatever is read later.
    pub(crate) fn fixed(&self) -> Self {
        Self { rails: Arc::new(RwLock::new(self.rails())), ..self.clone() }
    }

    pub(crate) fn moment(&self, now: DateTime<Utc>) -> Moment {
        Moment::new(now, self.settings.time_zone.0)
    }
}

//! `concordat publish`: a static site of missions, their outcomes and the agreements behind them.

mod held;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;
use concordat_gateway::estate::Estate;
use concordat_mission::publish::{Continued, Publication, Published, Receipts, Registered, Used, WriteError, continued, site, write};
use concordat_policy::{Agreement, Name};

pub(crate) use self::held::Answers;
use super::audit::read::Archives;
use super::audit::used;
use super::mission::{History, Offline, mission_name, of};
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat publish opportunity --to site --log-key 'VKEY'
  concordat publish opportunity strong-economy --to site --log concordat-demo/gateway/log
  concordat publish opportunity --to site --log-key 'VKEY' --auditor-token auditor.jwt --note \"Generated people: no figure is of anybody.\"

Writes pages without script that need nothing from elsewhere, CSV with its metadata, JSON, a catalogue, and the register of the missions'
agreements. Every figure is one of a snapshot that passed the gateway's disclosure control, or nothing is written. The folder is new, or
one that `publish` wrote and nobody changed since: it is then replaced as a whole.

Each snapshot's receipt is verified by the log's key, which --log-key names, or by that in the log's folder. With the folder (--log) the
snapshots are also held to the log's entries: view, purpose, agreements, freshness, consent versions, who was matched, rows. With neither,
--unverified publishes all the same, and every page says so.

Queries per agreement, purpose and month are counted from the gateway's log: its folder (--log), or the running gateway, asked by an
auditor's token (--auditor-token). Without either, the register says that use is not stated.")]
pub(crate) struct Publish {
    /// Which missions
    #[arg(value_name = "MISSION", required = true, value_parser = mission_name)]
    missions: Vec<Name>,
    /// The folder to write
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// A sentence that every page begins with
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Publish without any key of the gateway's log: every page says that nobody verified the receipts
    #[arg(long, conflicts_with = "log")]
    unverified: bool,
    /// Why the history is not the one that was published in the folder before: without it such a one is refused, with it every page says so
    #[arg(long, value_name = "WHY")]
    other_history: Option<String>,
    /// The folder of the gateway's log, to which snapshots are held, and from which is counted how agreements were used
    #[arg(long, value_name = "FOLDER", conflicts_with = "auditor_token")]
    log: Option<PathBuf>,
    #[command(flatten)]
    archives: Archives,
    /// The file of an auditor's bearer token, with which the running gateway is asked instead
    #[arg(long, value_name = "FILE")]
    auditor_token: Option<PathBuf>,
    #[command(flatten)]
    place: Offline,
}

impl Publish {
    pub(crate) async fn run(self) -> miette::Result<()> {
        let now = Utc::now();
        let known = self.place.known()?;
        // A register that lacks an agreement, and an outcome that seems to have lost one, are nothing to publish.
        known.whole()?;
        let missions = known.shown(&self.missions)?;
        let own = self.log.as_deref().filter(|_| self.place.log_key().is_none()).map(used::own_key).transpose()?;
        let key = self.place.log_key().or(own.as_ref());
        if key.is_none() && !self.unverified {
            return Err(Failure::usage("nothing is published: no key of the gateway's log is given, so that no receipt can be verified")
                .advice("give --log-key, or the log's folder with --log; --unverified publishes all the same, and every page says so")
                .into());
        }
        let history = self.place.history(key)?;
        let anew = self.anew(&history)?;
        let (snapshots, heads) = (&history.snapshots, history.heads());
        let used = self.used(&history, now).await?;
        let estate = known.estate();
        let agreements = estate.agreements.iter().filter(|agreement| missions.iter().any(|mission| mission.id == agreement.mission));
        let publication = Publication {
            on: now.date_naive(),
            note: self.note.clone(),
            missions: missions
                .iter()
                .map(|&mission| Published {
                    mission,
                    snapshots,
                    pivots: &history.pivots,
                    statuses: of(&known, mission, snapshots, now.date_naive()),
                })
                .collect(),
            departments: estate.departments.iter().map(|department| (department.id.clone(), department.title.clone())).collect(),
            anew: anew.clone(),
            head: heads.snapshots.clone(),
            receipts: match key {
                Some(key) => Receipts::By { key: key.to_string(), own: own.is_some(), held: self.log.is_some() },
                None => Receipts::Unverified,
            },
            agreements: agreements.map(|agreement| Registered { agreement, standing: standing(estate, agreement, now) }).collect(),
            used,
        };
        let site = site(&publication).map_err(|e| {
            Failure::new(format!("nothing is published: {e}"))
                .advice("`concordat mission verify` checks the snapshots; `mission show` and `mission check` what the outcome measures")
        })?;
        let files = site.len();
        write(&site, &Continued { heads, anew }, &self.to).map_err(|e| unwritten(&e))?;
        let head = &publication.head;
        Ok(out::result(&format!("{} files in {}, of {}:{}\n", files, self.to.display(), head.number, head.digest))?)
    }

    /// Why the history does not continue the one that was published in the folder, where it does not.
    ///
    /// # Errors
    /// That it does not, and no reason is given.
    fn anew(&self, history: &History) -> Result<Option<String>> {
        let Some(Continued { heads, anew }) = continued(&self.to).map_err(|e| unwritten(&e))? else { return Ok(None) };
        match (heads.lost(&history.snapshots, &history.pivots), &self.other_history) {
            (None, _) => Ok(anew),
            (Some(_), Some(why)) if !why.trim().is_empty() => Ok(Some(why.clone())),
            (Some(lost), _) => Err(Failure::new(format!(
                "nothing is published: what {} was published from had {lost}, which this history does not hold",
                self.to.display()
            ))
            .advice("name the right file with --store; where the history really is another one, say why: --other-history WHY")),
        }
    }

    /// How agreements were used. Where that is by the log's folder, the history is held to it.
    async fn used(&self, history: &History, now: DateTime<Utc>) -> Result<Used> {
        match (&self.log, &self.auditor_token) {
            (Some(log), _) => {
                let queries = history.snapshots.iter().map(|one| one.taken.stated.query_id.as_str()).collect();
                let (used, answers, signed) = used::of_files(log, &self.archives, self.place.log_key(), &queries, now)?;
                held::held(&history.snapshots, &answers, signed)?;
                Ok(used)
            }
            (None, Some(token)) => used::of_gateway(self.place.folder(), token, now).await,
            (None, None) => {
                out::progress("the register will say that use is not stated: --log or --auditor-token tell it");
                Ok(Used::NotStated { because: "the gateway's log was not read for it".into() })
            }
        }
    }
}

/// Whether an agreement binds, in a few words.
fn standing(estate: &Estate, agreement: &Agreement, now: DateTime<Utc>) -> String {
    let today = now.date_naive();
    if today > agreement.valid_until {
        return "ended".into();
    }
    let lacking = estate.signatures.lacking(agreement, now);
    if !lacking.is_empty() {
        let who: Vec<String> = lacking.iter().map(|(department, _)| department.to_string()).collect();
        return format!("not in force: no signature that counts of {}", who.join(", "));
    }
    if today < agreement.valid_from {
        "signed by every department, and not yet in force"
    } else {
        "in force by this estate's copy, signed by every department"
    }
    .into()
}

fn unwritten(error: &WriteError) -> Failure {
    Failure::new(error.to_string()).advice(match error {
        WriteError::Foreign { .. } => "name a new folder: only what a publication wrote is replaced",
        WriteError::Left { .. } => "remove that folder by hand",
        WriteError::File { .. } => "check that the folder around it is there, and that this user may write it",
    })
}

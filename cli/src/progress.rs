//! What a question is doing, on standard error: its stage, the bytes that have arrived, the time. Never a number of people or rows.
//!
//! On a terminal one line that moves and is cleared at the end; with `--progress` elsewhere one line per stage; otherwise nothing.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::client::{Stage, Watch};
use crate::out;

/// A question's progress.
pub(crate) struct Progress {
    shown: Shown,
    since: Instant,
    bytes: AtomicU64,
}

enum Shown {
    Nothing,
    Line(ProgressBar),
    Lines,
}

impl Progress {
    /// Shown on a terminal, or as lines where it is `wanted`, unless `quiet`.
    pub(crate) fn new(wanted: bool, quiet: bool) -> Self {
        let shown = match (quiet, std::io::stderr().is_terminal(), wanted) {
            (true, ..) | (_, false, false) => Shown::Nothing,
            (_, true, _) => Shown::Line(line()),
            (_, false, true) => Shown::Lines,
        };
        Self { shown, since: Instant::now(), bytes: AtomicU64::new(0) }
    }

    /// Takes the line away; nothing is shown afterwards.
    pub(crate) fn clear(&self) {
        if let Shown::Line(line) = &self.shown {
            line.finish_and_clear();
        }
    }

    /// The whole answer has arrived.
    pub(crate) fn done(&self) {
        self.clear();
        if matches!(self.shown, Shown::Lines) {
            let bytes = HumanBytes(self.bytes.load(Ordering::Relaxed));
            out::progress(&format!("received {bytes} · {:.1} s", self.since.elapsed().as_secs_f32()));
        }
    }
}

impl Watch for Progress {
    fn stage(&self, stage: Stage) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Line(line) => line.set_message(words(stage)),
            Shown::Lines => out::progress(&format!("{} · {:.1} s", words(stage), self.since.elapsed().as_secs_f32())),
        }
    }

    fn received(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        if let Shown::Line(line) = &self.shown {
            line.set_message(format!("{} · {}", words(Stage::Receiving), HumanBytes(bytes)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} · {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let line = ProgressBar::new_spinner().with_style(style);
    line.enable_steady_tick(Duration::from_millis(120));
    line
}

fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Connecting => "connecting",
        Stage::Planning => "planning",
        Stage::Waiting => "waiting for departments",
        Stage::Receiving => "receiving",
    }
}

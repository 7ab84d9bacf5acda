//! What every page has: head, way back, note, foot; and the pieces that several have.

use maud::{DOCTYPE, Markup, html};

use super::figure::{day, whole};
use super::{Publication, PublishError, Receipts};
use crate::inert::inert;
use crate::status::Verdict;

/// Which page of the site's first level it is, or is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Missions,
    Register,
    About,
    Accessibility,
}

const PARTS: [(Part, &str, &str); 4] = [
    (Part::Missions, "index.html", "Missions"),
    (Part::Register, "register.html", "Register of agreements"),
    (Part::About, "about.html", "How to read this"),
    (Part::Accessibility, "accessibility.html", "Accessibility"),
];

/// A page, and where it is.
pub(super) struct Page<'a> {
    pub(super) publication: &'a Publication<'a>,
    pub(super) part: Part,
    pub(super) title: String,
    /// How many folders below the site's own.
    pub(super) depth: usize,
    /// The pages above: where they are from here, and what they are called.
    pub(super) above: Vec<(&'static str, String)>,
}

impl Page<'_> {
    pub(super) fn root(&self) -> String {
        "../".repeat(self.depth)
    }

    /// The whole document around what is its own.
    pub(super) fn with(&self, body: &Markup) -> String {
        let (root, title) = (self.root(), inert(&self.title));
        let head = &self.publication.head;
        html! {
            (DOCTYPE)
            html lang="en-GB" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="referrer" content="no-referrer";
                    title { (title) @if self.depth > 0 || self.part != Part::Missions { " – Missions and outcomes" } }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href={ (root) "style.css" };
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    header.site {
                        div.inner {
                            p.name { "Missions and outcomes" }
                            nav aria-label="Site" {
                                ul {
                                    @for (part, path, name) in PARTS {
                                        li {
                                            a href={ (root) (path) } aria-current=[(part == self.part).then_some(if self.depth == 0 { "page" } else { "true" })] { (name) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    @if let Some(note) = &self.publication.note {
                        aside.note aria-label="About these pages" { p.inner { (inert(note)) } }
                    }
                    @if !self.above.is_empty() {
                        nav.above.inner aria-label="Pages above" {
                            ol { @for (path, name) in &self.above { li { a href=(path) { (inert(name)) } } } }
                        }
                    }
                    main.inner id="main" tabindex="-1" {
                        h1 { (title) }
                        (body)
                    }
                    footer.site {
                        div.inner {
                            p {
                                "Made on " (day(self.publication.on))
                                @if head.number == 0 { ". There is no snapshot yet" }
                                @else {
                                    " from a history of " (whole(head.number)) @if head.number == 1 { " snapshot" } @else { " snapshots" }
                                    " that ends in the digest " code { (head.digest) }
                                }
                                ". Every figure on these pages is a number that an answer told "
                                "under the agreements' disclosure rules, or follows from such numbers alone."
                            }
                            p {
                                @if self.publication.receipts == Receipts::Unverified { strong { (self.publication.receipts.says()) } }
                                @else { (inert(&self.publication.receipts.says())) }
                            }
                            @if let Some(why) = &self.publication.anew {
                                p { strong { "This history does not continue the one that was published here before" } ": " (inert(why)) }
                            }
                            p { a href={ (root) "catalog.jsonld" } { "Catalogue of the data (DCAT, JSON-LD)" } }
                        }
                    }
                }
            }
        }
        .into_string()
    }
}

/// A table that scrolls by itself where it is wider than the page. `id` is unique on the page.
pub(super) fn table(id: &str, caption: &Markup, head: &Markup, body: &Markup) -> Markup {
    let label = format!("{id}-caption");
    html! {
        div.scroll role="region" aria-labelledby=(label) tabindex="0" {
            table {
                caption id=(label) { span { (caption) } }
                thead { tr { (head) } }
                tbody { (body) }
            }
        }
    }
}

/// Titles of columns.
pub(super) fn titles(titles: &[&str]) -> Markup {
    html! { @for title in titles { th scope="col" { (title) } } }
}

/// A verdict, told by word and shape.
pub(super) fn verdict(verdict: Verdict) -> Markup {
    let (class, shape) = match verdict {
        Verdict::OnTrack => ("on-track", html! { circle cx="8" cy="8" r="6.5" {} }),
        Verdict::AtRisk => ("at-risk", html! { path d="M8 1.5L15 14.5L1 14.5Z" {} }),
        Verdict::OffTrack => ("off-track", html! { path d="M1.5 1.5L14.5 1.5L14.5 14.5L1.5 14.5Z" {} }),
        Verdict::Ended => ("ended", html! { path d="M2 6.5L14 6.5L14 9.5L2 9.5Z" {} }),
        Verdict::NotEnoughData => ("not-enough", html! { path d="M8 1L15 8L8 15L1 8Z" {} }),
    };
    html! { span.verdict.(class) { svg viewBox="0 0 16 16" aria-hidden="true" { (shape) } (verdict.as_str()) } }
}

/// What is drawn by itself can fail; what is written cannot.
pub(super) type Made = Result<String, PublishError>;

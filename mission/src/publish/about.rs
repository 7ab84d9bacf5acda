//! How to read the figures, and what is known of the site's accessibility.

use maud::{Markup, html};

use super::Publication;
use super::page::{Page, Part, table, titles, verdict};
use crate::status::Verdict;

/// `about.html`.
pub(super) fn method(publication: &Publication<'_>) -> String {
    let page = Page { publication, part: Part::About, title: "How to read this".into(), depth: 0, above: Vec::new() };
    page.with(&html! {
        p.lead { "Where the figures come from, how a status is worked out, and what they cannot show." }
        h2 { "Where a figure comes from" }
        p {
            "Each outcome is one number that a view computes over datasets of several departments. The mission's service asks the gateway "
            "for it on a "
            "schedule, as anybody else would, for a stated purpose and under the departments' signed agreements. Names and numbers that "
            "identify "
            "people are replaced before anything leaves a department. The answer passes disclosure control, is written to the gateway's "
            "log, and is "
            "kept as a snapshot, which is never changed afterwards."
        }
        p {
            "A figure here is a number that such an answer told, or follows from such numbers alone. Nothing is filled in, carried "
            "forward or estimated."
        }
        h2 { "Two days: data of, and computed on" }
        p {
            "“Data of” is the day on which the newest of the datasets behind a figure last changed: what it says, nobody could have said "
            "before. “Computed on” is the day on which the departments were asked, as the gateway's log has it. A figure that was computed "
            "later rests on consent as it stood then. How old its oldest dataset is stands beside it; datasets that change seldom by their "
            "nature are named, and make no figure old."
        }
        (rule())
        (closeness())
        h2 { "What is withheld" }
        p {
            "A number is withheld where few people stand behind it, where it would give away one person's part, or where it could be "
            "worked out from "
            "its neighbours. “Withheld” stands in its place, with the reason. It is not zero and not “none”. Which of the rules it was is "
            "often not "
            "told, since that would say how many people there are."
        }
        h2 id="trend" { "What a trend cannot show" }
        ul {
            li { "It does not show what caused a change. People, prices and rules change at the same time as what a mission does." }
            li { "It says nothing of chance: numbers of people differ between two days without any reason." }
            li { "It is no forecast. The straight line through the last twelve values, and never fewer than four over 90 days, says how fast they "
                "changed, not that they go on so." }
            li {
                "It is of those whom the data has. Who is missing is said on each outcome's page, and may differ from those who are there."
            }
            li { "A value of another definition is another measure: it is not shown in the same line." }
        }
        h2 { "Who is missing" }
        p {
            "People who withdrew their consent or objected where that counts, records without a usable identifier, and people whom the "
            "other "
            "departments' data does not have are not in a figure. How many is told in rounded numbers, and not at all where they are few."
        }
        h2 { "Missed periods and corrections" }
        p {
            "A period that ended without a snapshot stays empty: departments answer with the data that they have, and nobody can ask for "
            "it as it was. It is caught up only by a snapshot whose data is of that period. "
            "A wrong snapshot is superseded by a new one, which says why; where that is of later data, the period reads “withdrawn”. The old "
            "one stays in the history. Its digest is published, its "
            "figure is not."
        }
        h2 { "How to check it" }
        p {
            "Each snapshot has a receipt: the signed promise of the gateway's log that an entry for its answer, of this query, time, number of "
            "rows and salted digest, is in it for good. With the log's key, which its operator publishes, anybody can check that signature "
            "offline. The answers themselves are not published: that a figure is in one, and of which period and days its data is, a receipt "
            "alone does not show. What was verified before these pages were made stands at the foot of each. "
            code { "concordat audit verify-receipt FILE --log-key KEY" } ". The digest at the foot of each page "
            "is that of the whole history of snapshots. Who kept an earlier one can ask for proof that this history continues it."
        }
    })
}

fn rule() -> Markup {
    let rows = html! {
        @for (when, then) in [
            ("Its view is gone, or an agreement on which it rests has ended by the copy of who publishes", Verdict::Ended),
            ("There is no snapshot of what the outcome measures now, its headline is not told, or its oldest source is too old", Verdict::NotEnoughData),
            ("Whatever the value is within its bounds, it is on the path or beyond", Verdict::OnTrack),
            ("Whatever it is, it is behind the path by more than a tenth of the whole way", Verdict::OffTrack),
            ("It can be on the path, and can be behind by more than a tenth of the whole way", Verdict::NotEnoughData),
            ("Anything else", Verdict::AtRisk),
        ] { tr { th scope="row" { (when) } td { (verdict(then)) } } }
    };
    html! {
        h2 id="status" { "How a status is worked out" }
        p {
            "There is one rule for every outcome. The path is the straight line from the baseline to the target. How much of that way is "
            "done is "
            "compared with how much should be done on the day that the data is of. The first line that fits counts:"
        }
        (table("rule", &html! { "The rule, first line first" }, &titles(&["Where", "Status"]), &rows))
        p {
            "A group is said to be behind the headline, or to have fallen back, only where that is so whatever rounding hides. A group "
            "whose number is "
            "withheld is neither: it is listed as not told."
        }
    }
}

fn closeness() -> Markup {
    html! {
        h2 { "How closely a figure is told" }
        p {
            "Counts are rounded, and some agreements add a little noise. “Lies between” gives the bounds that this leaves: the unrounded "
            "value lies "
            "within them for certain. They are no confidence intervals, and say nothing of who is missing. On these pages values have "
            "four digits and "
            "bounds are rounded outwards; the files have every digit that was told."
        }
    }
}

/// `accessibility.html`: facts, and no claim of conformance.
pub(super) fn accessibility(publication: &Publication<'_>) -> String {
    let page = Page { publication, part: Part::Accessibility, title: "Accessibility".into(), depth: 0, above: Vec::new() };
    page.with(&html! {
        p.lead { "What was done so that everybody can read these pages, and what is known not to be good yet." }
        h2 { "What was done" }
        ul {
            li {
                "Pages are plain HTML without script. They work with a keyboard alone, without a mouse, and with style sheets turned off."
            }
            li { "Headings, landmarks, lists and tables are marked as what they are; tables have captions and titled rows and columns." }
            li { "A chart has a title and a description, and its table follows it: nothing is told by the chart alone." }
            li { "Nothing is told by colour alone: a status has a word and a shape, lines and points have dashes and shapes." }
            li {
                "Text and lines have the contrast that the Web Content Accessibility Guidelines ask for at level AA, in light and in dark."
            }
            li { "Pages fit a width of 320 pixels without scrolling sideways; a wide table scrolls by itself, also by keyboard." }
            li { "Text can be enlarged and its spacing changed. Nothing moves, blinks, plays or runs out of time." }
            li { "Pages print in black on white with the addresses of links left out." }
        }
        h2 { "How it was checked" }
        p {
            "The program that makes these pages is tested by rules of WCAG at levels A and AA on pages of every kind, in light, in dark "
            "and at 320 pixels, "
            "in one browser. Such rules find a part of the faults that people meet. Nobody who uses a screen reader or other assistive "
            "technology has "
            "tested these very pages; nobody claims conformance of them."
        }
        h2 { "What is not good yet" }
        ul {
            li { "The pages are in English only." }
            li { "Titles, goals and reasons are the words of those who wrote them, and may be hard to read." }
            li { "Chart labels are small on narrow screens; the table has the same values." }
        }
        p { "Who finds a fault tells the organisation that answers for the mission; it stands on the mission's page." }
    })
}

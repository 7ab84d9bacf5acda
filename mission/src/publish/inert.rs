//! Texts on their way to the public: nothing in a title, key or reason acts where it is shown.

/// Without what moves, breaks or reorders a line or hides letters: such characters as `\u{202e}`. Markup is escaped where it is made.
#[must_use]
pub fn inert(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || hides(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Format characters that are no controls: bidirectional marks, zero-width ones, separators of lines, tags.
fn hides(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text as a cell of CSV (RFC 4180) that no spreadsheet takes for a formula.
pub(super) fn cell(text: &str) -> String {
    let shown = inert(text);
    // Some programs cut cells at semicolons too: what follows one begins a cell there.
    let acts = |part: &str| part.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let formula = text.split(';').any(acts) || text.starts_with(['\t', '\r', '\n']);
    let shown = if formula { format!("'{shown}") } else { shown };
    let shown = if text.split(';').skip(1).any(acts) { shown.replace(';', "; '") } else { shown };
    if shown.contains(['"', ',', ';']) || formula { format!("\"{}\"", shown.replace('"', "\"\"")) } else { shown }
}

/// A line of CSV of cells that are ready.
pub(super) fn line(cells: &[String]) -> String {
    cells.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_shown_and_do_not_act() {
        for (text, expected) in [
            ("North", "North"),
            ("a,b", "\"a,b\""),
            ("a;b", "\"a;b\""),
            ("a;=1", "\"'a; '=1\""),
            ("=1+1", "\"'=1+1\""),
            (" +1", "\"' +1\""),
            ("-1", "\"'-1\""),
            ("@SUM(1)", "\"'@SUM(1)\""),
            ("\t=1", "\"'\\u{9}=1\""),
            ("say \"so\"", "\"say \"\"so\"\"\""),
            ("gnp\u{202e}exe", "gnp\\u{202e}exe"),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }
}

//! Texts of others on their way to a person or the public: nothing in a title, key, reason or entry of a log acts where it is shown.

/// `text` without anything that moves a cursor, colours, breaks a line, or reorders or hides letters: such characters as `\u{1b}` or
/// `\u{202e}`. Markup is escaped where it is made.
#[must_use]
pub fn inert(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || hides(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Format characters that are no controls: bidirectional marks, zero-width ones, separators of lines, tags, selectors, fillers.
#[must_use]
pub fn hides(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text as a cell of CSV (RFC 4180) that no spreadsheet takes for a formula.
#[must_use]
pub fn cell(text: &str) -> String {
    let shown = inert(text);
    // Some programs cut cells at semicolons too: what follows one begins a cell there.
    let acts = |part: &str| part.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let formula = text.split(';').any(acts) || text.starts_with(['\t', '\r', '\n']);
    let shown = if formula { format!("'{shown}") } else { shown };
    let shown = if text.split(';').skip(1).any(acts) { shown.replace(';', "; '") } else { shown };
    if shown.contains(['"', ',', ';']) || formula { format!("\"{}\"", shown.replace('"', "\"\"")) } else { shown }
}

/// A line of CSV of cells that are ready.
#[must_use]
pub fn line(cells: &[String]) -> String {
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

//! Texts of others on their way to a person: what stands in a log's entry or a server's answer may come from an attacker, and nothing in it
//! acts where it is shown.

use serde_json::Value;

/// `text` without anything that moves a cursor, colours, breaks a line, or reorders or hides letters: such characters as `\u{1b}`.
pub(super) fn inert(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || hides(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Format characters that are no controls: bidirectional marks, zero-width ones, separators of lines, tags, selectors, fillers.
fn hides(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A cell of CSV (RFC 4180) that no spreadsheet takes for a formula.
pub(super) fn cell(text: &str) -> String {
    let shown = inert(text);
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) || text.starts_with(['\t', '\r', '\n']);
    let shown = if formula { format!("'{shown}") } else { shown };
    if shown.contains(['"', ',']) || formula { format!("\"{}\"", shown.replace('"', "\"\"")) } else { shown }
}

/// JSON on one line, the same value to a program: what would act on a terminal is escaped as JSON has it.
pub(super) fn json(value: &Value) -> String {
    let mut shown = String::new();
    for c in value.to_string().chars() {
        if c.is_control() || hides(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
pub(super) const PAYLOADS: [&str; 10] = [
    "\u{1b}[2J\u{1b}[31mred",
    "two\r\nlines",
    "\u{202e}gnp.exe",
    "\u{9b}31m",
    "\u{1b}]0;title\u{7}",
    "zero\u{200b}width\u{2028}",
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "\t=1",
    "\",\"event\":\"forged\u{e0041}",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_shown_and_do_not_act() {
        for payload in PAYLOADS {
            for shown in [inert(payload), cell(payload), json(&Value::from(payload))] {
                assert!(!shown.chars().any(|c| c.is_control() || hides(c)), "{shown:?}");
            }
            let cell = cell(payload);
            assert!(!cell.trim_start_matches('"').starts_with(['=', '+', '-', '@', '\t']), "{cell}");
            assert_eq!(serde_json::from_str::<Value>(&json(&Value::from(payload))).unwrap(), payload, "the same to a program");
        }
    }

    #[test]
    fn what_is_harmless_stays() {
        for text in ["analyst-1", "Ångström", "日本", ""] {
            assert_eq!((inert(text), cell(text)), (text.to_owned(), text.to_owned()));
        }
        for (text, expected) in [("a,b", "\"a,b\""), ("-1", "\"'-1\""), (" =1", "\"' =1\"")] {
            assert_eq!(cell(text), expected);
        }
    }
}

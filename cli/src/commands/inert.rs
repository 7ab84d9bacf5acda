//! Texts of others on their way to a person: what stands in a log's entry or a server's answer may come from an attacker, and nothing in it
//! acts where it is shown.

use concordat_mission::inert::hides;
pub(super) use concordat_mission::inert::{cell, inert, line};
use serde_json::Value;

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

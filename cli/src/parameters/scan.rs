//! Finds the parameters `$name` of a statement, where they are parameters and not part of something else.
//!
//! What is passed over, as the gateway's tokenizer does: `'text'` with `''` inside, `E'…'` with backslashes, `Q'[…]'`, `"quoted"` and
//! `` `quoted` `` identifiers, identifiers that hold a `$`, `-- comments`, `/* nested /* comments */ */`, `$$text$$` and
//! `$tag$text$tag$`. What does not end goes to the end of the statement: the gateway then refuses it.
//!
//! A mistake here could misplace a value, never let it become SQL: values travel apart from the statement.

use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;

/// A parameter in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name without the `$`.
    pub(super) name: String,
    /// The bytes that it takes, with the `$`.
    pub(super) span: Range<usize>,
}

/// The parameters of `sql`, in order. Positions (`$1`) are among them.
pub(super) fn parameters(sql: &str) -> Vec<Found> {
    let mut scan = Scan { sql, rest: sql.char_indices().peekable() };
    let mut found = Vec::new();
    while let Some((at, c)) = scan.rest.next() {
        match c {
            '\'' | '"' | '`' => scan.quoted(c, false),
            '-' if scan.follows('-') => scan.line(),
            '/' if scan.follows('*') => scan.comment(),
            '$' => found.extend(scan.dollar(at)),
            c if starts_word(c) => scan.word(at, c),
            _ => {}
        }
    }
    found
}

struct Scan<'s> {
    sql: &'s str,
    rest: Peekable<CharIndices<'s>>,
}

impl Scan<'_> {
    /// Takes the next character if it is this one.
    fn follows(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, c)| *c == wanted).is_some()
    }

    /// Where the next character begins.
    fn here(&mut self) -> usize {
        self.rest.peek().map_or(self.sql.len(), |(at, _)| *at)
    }

    /// To the end of a text or quoted identifier: a doubled quote does not end it, with `escapes` one after `\` neither.
    fn quoted(&mut self, quote: char, escapes: bool) {
        while let Some((_, c)) = self.rest.next() {
            if c == '\\' && escapes {
                self.rest.next();
            } else if c == quote && !self.follows(quote) {
                return;
            }
        }
    }

    /// To the end of the line.
    fn line(&mut self) {
        while self.rest.next_if(|(_, c)| *c != '\n').is_some() {}
    }

    /// To the end of a comment and of those inside it.
    fn comment(&mut self) {
        let mut depth = 1;
        while let Some((_, c)) = self.rest.next() {
            match c {
                '*' if self.follows('/') => depth -= 1,
                '/' if self.follows('*') => depth += 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// An identifier or keyword, or the prefix of a text.
    fn word(&mut self, at: usize, first: char) {
        let prefix = first.to_ascii_lowercase();
        if matches!(prefix, 'e' | 'x') && self.follows('\'') {
            return self.quoted('\'', true);
        }
        while self.rest.next_if(|(_, c)| starts_word(*c) || c.is_ascii_digit() || *c == '$').is_some() {}
        let end = self.here();
        let word = self.sql.get(at..end).unwrap_or_default();
        if (word.eq_ignore_ascii_case("q") || word.eq_ignore_ascii_case("nq")) && self.follows('\'') {
            self.delimited();
        }
    }

    /// To the end of `Q'[ … ]'`, after its first quote.
    fn delimited(&mut self) {
        let end = match self.rest.next() {
            Some((_, '[')) => ']',
            Some((_, '{')) => '}',
            Some((_, '<')) => '>',
            Some((_, '(')) => ')',
            Some((_, c)) => c,
            None => return,
        };
        while let Some((_, c)) = self.rest.next() {
            if c == end && self.follows('\'') {
                return;
            }
        }
    }

    /// After a `$`: a parameter, or a text between two equal tags.
    fn dollar(&mut self, at: usize) -> Option<Found> {
        let start = self.here();
        while self.rest.next_if(|(_, c)| c.is_alphanumeric() || *c == '_').is_some() {}
        let end = self.here();
        if self.follows('$') {
            let tag = self.sql.get(at..=end)?;
            let text = end + 1;
            let close = self.sql.get(text..)?.find(tag).map_or(self.sql.len(), |found| text + found + tag.len());
            while self.rest.next_if(|(at, _)| *at < close).is_some() {}
            return None;
        }
        let name = self.sql.get(start..end).filter(|name| !name.is_empty())?;
        Some(Found { name: name.to_owned(), span: at..end })
    }
}

fn starts_word(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '#' | '@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_where_they_are_parameters() {
        for (sql, names) in [
            ("SELECT 1", ""),
            ("SELECT $a, $b_2,$a", "a b_2 a"),
            ("SELECT x FROM t WHERE a=$a AND b>$b", "a b"),
            ("$a", "a"),
            ("1+$é", "é"),
            ("x=$1", "1"),
            ("cost$a", ""),
            ("a$b$c$ = $d", "d"),
            ("1$a", "a"),
            ("'$a' = $b", "b"),
            ("'it''s $a' = $b", "b"),
            (r"'\' = $b", "b"),
            (r"E'\' $a' = $b", "b"),
            (r"e'\\' = $b", "b"),
            ("te'$a' = $b", "b"),
            ("Q'[it's $a]' = $b", "b"),
            ("nq'!it's $a!' = $b", "b"),
            ("q = $a", "a"),
            ("N'$a' = $b", "b"),
            ("\"$a\" = $b", "b"),
            ("\"x\"\"$a\" = $b", "b"),
            ("`$a` = $b", "b"),
            ("$b -- $a", "b"),
            ("-- it's $a\n$b", "b"),
            ("- -$b", "b"),
            ("/* $a */ $b", "b"),
            ("/* /* $a */ $a */ $b", "b"),
            ("/*/ $a */ $b", "b"),
            ("4 / $a * 2", "a"),
            ("$$ $a ' $$ $b", "b"),
            ("$t$ $a $$ $t$ $b", "b"),
            ("$t$ $a $T$ $b", ""),
            ("$$ $a", ""),
            ("' $a", ""),
            ("/* $a", ""),
            ("$", ""),
            ("$ a", ""),
            ("$a$b$a", ""),
            ("($a)", "a"),
            ("$a::text", "a"),
        ] {
            let found: Vec<String> = parameters(sql).into_iter().map(|f| f.name).collect();
            assert_eq!(found.join(" "), names, "{sql}");
        }
    }

    /// Every span is the `$` and the name, whatever stands around it.
    #[test]
    fn spans_are_exact() {
        for sql in ["é$añb ü$c", "SELECT $a\u{301} 'ä' $b", "$x", "a\n$y\r\n'…'$z"] {
            for found in parameters(sql) {
                assert_eq!(&sql[found.span.clone()], format!("${}", found.name), "{sql}");
            }
        }
    }
}

//! Comma-separated values, one record a line (RFC 4180 without line breaks in fields).

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};

use super::{At, FileError, Raw, RowError, positions, raw};

/// The longest line, in bytes.
const LONGEST: u64 = 64 << 10;

/// As [`super::read`].
pub(super) fn read<E: From<FileError>>(
    file: &File,
    only_type: Option<&str>,
    mut each: impl FnMut(At, Result<Raw<'_>, RowError>) -> Result<(), E>,
) -> Result<(), E> {
    let mut lines = Lines { reader: BufReader::with_capacity(1 << 18, file), bytes: Vec::new(), number: 0 };
    lines.next().map_err(FileError::from)?;
    let header = lines.text().map_err(FileError::Header)?;
    let mut names = Vec::new();
    let fields = split(header.strip_prefix('\u{feff}').unwrap_or(header), |_, name| names.push(name)).map_err(FileError::Header)?;
    let positions = positions(names.iter().map(AsRef::as_ref), only_type)?;
    while lines.next().map_err(FileError::from)? {
        let at = At::Line(lines.number);
        let line = match lines.text() {
            Ok("") => continue,
            Ok(line) => line,
            Err(error) => {
                each(at, Err(error))?;
                continue;
            }
        };
        let mut values: [Cow<'_, str>; 8] = Default::default();
        let split = split(line, |at, value| {
            if let Some((_, slot)) = positions.iter().zip(&mut values).find(|(position, _)| **position == Some(at)) {
                *slot = value;
            }
        });
        let row = match split {
            Ok(found) if found != fields => Err(RowError::Fields(found, fields)),
            Ok(_) => {
                let row = raw(values.each_ref().map(AsRef::as_ref));
                let only_type = only_type.filter(|_| positions[1].is_none());
                Ok(Raw { identifier_type: only_type.unwrap_or(row.identifier_type), ..row })
            }
            Err(error) => Err(error),
        };
        each(at, row)?;
    }
    Ok(())
}

/// The lines of a file, one at a time.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    bytes: Vec<u8>,
    number: u64,
}

impl Lines<'_> {
    /// Goes to the next line. Of a longer one than is read, the rest is skipped.
    fn next(&mut self) -> io::Result<bool> {
        self.bytes.clear();
        self.number += 1;
        let read = (&mut self.reader).take(LONGEST + 1).read_until(b'\n', &mut self.bytes)?;
        if read as u64 > LONGEST && self.bytes.last() != Some(&b'\n') {
            self.reader.skip_until(b'\n')?;
        }
        Ok(read > 0)
    }

    /// The line without its end.
    fn text(&self) -> Result<&str, RowError> {
        let line = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() as u64 > LONGEST {
            return Err(RowError::Long);
        }
        std::str::from_utf8(line).map_err(|_| RowError::Text)
    }
}

/// Calls `each` with every field and its position; returns how many there are.
fn split<'a>(line: &'a str, mut each: impl FnMut(usize, Cow<'a, str>)) -> Result<usize, RowError> {
    let (mut rest, mut at) = (line, 0);
    loop {
        let (value, behind) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.bytes().position(|b| b == b',').unwrap_or(rest.len());
                let (value, behind) = rest.split_at(end);
                if value.contains('"') {
                    return Err(RowError::Quote);
                }
                (Cow::Borrowed(value), behind)
            }
        };
        each(at, value);
        at += 1;
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(at),
            None => return Err(RowError::Quote),
        }
    }
}

/// A quoted field, from behind its first quotation mark, and what follows its last one.
fn unquoted(quoted: &str) -> Result<(Cow<'_, str>, &str), RowError> {
    let mut from = 0;
    loop {
        let end = from + quoted.get(from..).and_then(|rest| rest.find('"')).ok_or(RowError::Quote)?;
        let (value, behind) = quoted.split_at(end);
        let behind = behind.get(1..).unwrap_or_default();
        if !behind.starts_with('"') {
            let value = if value.contains('"') { Cow::Owned(value.replace("\"\"", "\"")) } else { Cow::Borrowed(value) };
            return Ok((value, behind));
        }
        from = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Result<Vec<String>, RowError> {
        let mut fields = Vec::new();
        let count = split(line, |_, field| fields.push(field.into_owned()))?;
        assert_eq!(count, fields.len());
        Ok(fields)
    }

    #[test]
    fn fields_are_told_apart() {
        let cases: &[(&str, Result<&[&str], RowError>)] = &[
            ("a,b", Ok(&["a", "b"])),
            ("a,", Ok(&["a", ""])),
            ("", Ok(&[""])),
            (",", Ok(&["", ""])),
            ("\"a,b\",c", Ok(&["a,b", "c"])),
            ("\"a\"\"b\",\"\"", Ok(&["a\"b", ""])),
            ("\"\"\"\"", Ok(&["\""])),
            ("é,\"é\"", Ok(&["é", "é"])),
            ("\"a", Err(RowError::Quote)),
            ("\"a\"\"", Err(RowError::Quote)),
            ("\"a\"b,c", Err(RowError::Quote)),
            ("a\"b,c", Err(RowError::Quote)),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|fields| fields.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(fields(line), expected, "{line}");
        }
    }

    /// Whatever is quoted comes back, and nothing makes it panic.
    #[test]
    fn what_was_quoted_comes_back() {
        arbtest::arbtest(|u| {
            let values: Vec<String> = u.arbitrary()?;
            let line = values.iter().map(|value| format!("\"{}\"", value.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
            assert!(values.is_empty() || fields(&line) == Ok(values));
            let _ = fields(u.arbitrary()?);
            Ok(())
        });
    }
}

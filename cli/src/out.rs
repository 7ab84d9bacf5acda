//! The one door to the terminal: results to standard output, everything else to standard error, colour only for people.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use crate::failure::{Failure, Result};

/// Writes a result to standard output. A reader that went away (`| head`) is not a failure.
pub(crate) fn result(text: &str) -> Result<()> {
    more(text).map(|_| ())
}

/// Writes a part of a result that goes on, and says whether somebody still reads.
pub(crate) fn more(text: &str) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::new(format!("standard output cannot be written: {e}"))),
    }
}

/// Writes one line for the person who watches to standard error; nothing depends on it.
pub(crate) fn progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether results go to a person's terminal that wants colour (<https://no-color.org>).
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && wanted()
}

/// Whether diagnostics go to such a terminal.
pub(crate) fn colour_of_diagnostics() -> bool {
    std::io::stderr().is_terminal() && wanted()
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// `number` with thousands separated: 100,000.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_separated() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (100_000, "100,000"), (1_234_567, "1,234,567")] {
            assert_eq!(super::thousands(number), text);
        }
    }
}

//! A command of the department's, which has its key store (HSM, KMS) wrap and unwrap one key.
//!
//! `PROGRAM ARGUMENTS wrap` reads 32 bytes in Base64 from its standard input and writes one line of visible ASCII that only
//! `PROGRAM ARGUMENTS unwrap` turns back into the Base64. The key passes through pipes alone; standard error is not read.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command as Program, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::{AtRestError, Wrapping, WrappingKey};

const KIND: &str = "command";
/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const LONGEST: usize = 4096;

/// The command.
#[derive(Debug)]
pub(crate) struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    patience: Duration,
}

impl Command {
    /// A command, of which the first part is the program's absolute path.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn new(parts: &[String]) -> Result<Self, (&'static str, &'static str)> {
        let remedy = "write command = [\"/absolute/path\", \"argument\"]; no shell reads it";
        let (program, arguments) = parts.split_first().ok_or(("the command is empty", remedy))?;
        let program = PathBuf::from(program);
        if !program.is_absolute() {
            return Err(("the command's program is no absolute path, so that the environment could choose another", remedy));
        }
        Ok(Self { program, arguments: arguments.to_vec(), patience: PATIENCE })
    }

    #[cfg(test)]
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Runs it with one line of input, and gives its one line of output.
    fn run(&self, act: &'static str, input: &str) -> Result<Zeroizing<String>, AtRestError> {
        let failed = |what: &str| AtRestError::Command(format!("{what} ({act})"));
        let started = Program::new(&self.program)
            .args(&self.arguments)
            .arg(act)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = started.map_err(|e| failed(&format!("cannot be started: {e}")))?;
        let answer = self.answer(&mut child, input);
        // Whatever came, nobody waits for it any longer.
        let ended = child.try_wait();
        if !matches!(ended, Ok(Some(_))) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let answer = answer.map_err(failed)?;
        match ended {
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => return Err(failed(&format!("failed: {status}"))),
            _ => return Err(failed("did not end in time")),
        }
        let line = answer.strip_suffix('\n').unwrap_or(&answer);
        if line.is_empty() || answer.len() > LONGEST || !line.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(failed("answered something other than one line of visible ASCII of at most 4 KiB"));
        }
        Ok(Zeroizing::new(line.to_owned()))
    }

    /// Writes the input, reads the output to its end, and waits until the child has ended.
    fn answer(&self, child: &mut Child, input: &str) -> Result<Zeroizing<String>, &'static str> {
        let deadline = Instant::now() + self.patience;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err("has no pipes") };
        let (tell, told) = channel();
        // A thread of its own: a program that neither writes nor ends must not hold up this one.
        std::thread::spawn(move || {
            let mut text = Zeroizing::new(String::new());
            let read = stdout.take(LONGEST as u64 + 1).read_to_string(&mut text).map(|_| text);
            let _ = tell.send(read);
        });
        // A line is shorter than a pipe. A program that does not read its input may still answer.
        let _ = stdin.write_all(format!("{input}\n").as_bytes());
        drop(stdin);
        let answer = match told.recv_timeout(self.patience) {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => return Err("answered something other than text"),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err("did not answer in time"),
        };
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline && answer.len() <= LONGEST {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(answer)
    }

    fn unwrapped(&self, wrapped: &str) -> Result<WrappingKey, AtRestError> {
        let answer = self.run("unwrap", wrapped)?;
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(answer.trim()).unwrap_or_default());
        let key = bytes.as_slice().try_into().map_err(|_| AtRestError::Command("answered no 32 bytes in Base64 (unwrap)".into()))?;
        Ok(Zeroizing::new(key))
    }
}

impl Wrapping for Command {
    fn title(&self) -> &'static str {
        "encrypted under a key of the command in [keys.at_rest]"
    }

    fn make(&self) -> Result<(String, WrappingKey), AtRestError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice())?;
        let wrapped = self.run("wrap", &Zeroizing::new(BASE64_STANDARD.encode(key.as_slice())))?;
        Ok((format!("{KIND} {}", wrapped.as_str()), key))
    }

    fn find(&self, recipe: &str) -> Result<WrappingKey, AtRestError> {
        let wrapped = recipe.strip_prefix(KIND).and_then(|rest| rest.strip_prefix(' ')).ok_or(AtRestError::OtherWay)?;
        self.unwrapped(wrapped)
    }
}

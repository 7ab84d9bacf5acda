//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side. Without channel binding: the server's certificate is verified, or the
//! connection does not leave the machine.
//!
//! Passwords are taken as they are, which is what SASLprep makes of printable ASCII.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::wire::WireError;

/// The name under which servers offer it.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// Rounds that a server may ask for: each costs a third of a microsecond. PostgreSQL asks for 4096.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

const MALFORMED: WireError = WireError::Protocol("its part of SCRAM cannot be read");

/// A sign-in that has begun.
pub(super) struct Scram {
    first: String,
}

/// A sign-in whose proof was sent.
pub(super) struct Proven {
    server_key: Zeroizing<[u8; 32]>,
    transcript: String,
}

impl Scram {
    /// With a nonce of 18 fresh random bytes.
    pub(super) fn new() -> Result<Self, WireError> {
        let mut nonce = [0; 18];
        getrandom::fill(&mut nonce).map_err(|_| WireError::Login("this machine gives no random numbers"))?;
        Ok(Self::with(&BASE64_STANDARD.encode(nonce)))
    }

    fn with(nonce: &str) -> Self {
        // PostgreSQL takes the role from the startup message.
        Self { first: format!("n=,r={nonce}") }
    }

    /// The first message.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// The answer to the server's first message.
    pub(super) fn prove(self, password: &[u8], server_first: &[u8]) -> Result<(String, Proven), WireError> {
        let text = std::str::from_utf8(server_first).map_err(|_| MALFORMED)?;
        let mut parts = text.split(',');
        let mut part = |key: &str| parts.next().and_then(|part| part.strip_prefix(key)).ok_or(MALFORMED);
        let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
        let (_, own) = self.first.split_once(",r=").ok_or(MALFORMED)?;
        if nonce.len() <= own.len() || !nonce.starts_with(own) {
            return Err(MALFORMED);
        }
        let salt = BASE64_STANDARD.decode(salt).map_err(|_| MALFORMED)?;
        let rounds = rounds.parse().ok().filter(|rounds| ROUNDS.contains(rounds)).ok_or(MALFORMED)?;
        let salted = salted(password, &salt, rounds)?;
        let client_key = Zeroizing::new(mac(&*salted, &[b"Client Key"])?);
        let last = format!("c=biws,r={nonce}");
        let transcript = format!("{},{text},{last}", self.first);
        let signature = mac(&Sha256::digest(*client_key), &[transcript.as_bytes()])?;
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = Zeroizing::new(mac(&*salted, &[b"Server Key"])?);
        Ok((format!("{last},p={}", BASE64_STANDARD.encode(proof)), Proven { server_key, transcript }))
    }
}

impl Proven {
    /// That the server knows the password too.
    pub(super) fn verify(self, server_final: &[u8]) -> Result<(), WireError> {
        let signature = server_final.strip_prefix(b"v=").and_then(|v| BASE64_STANDARD.decode(v).ok()).ok_or(MALFORMED)?;
        let mut expected = keyed(&*self.server_key)?;
        expected.update(self.transcript.as_bytes());
        expected
            .verify_slice(&signature)
            .map_err(|_| WireError::Login("the server does not know the role's password: it is another server"))
    }
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>, WireError> {
    Hmac::new_from_slice(key).map_err(|_| MALFORMED)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32], WireError> {
    let mut mac = keyed(key)?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(mac.finalize().into_bytes().into())
}

/// `Hi` of RFC 5802: PBKDF2 of one block.
fn salted(password: &[u8], salt: &[u8], rounds: u32) -> Result<Zeroizing<[u8; 32]>, WireError> {
    let keyed = keyed(password)?;
    let once = |input: &[u8]| {
        let mut mac = keyed.clone();
        mac.update(input);
        <[u8; 32]>::from(mac.finalize().into_bytes())
    };
    let mut block = once(&[salt, &1u32.to_be_bytes()].concat());
    let mut sum = Zeroizing::new(block);
    for _ in 1..rounds {
        block = once(&block);
        sum.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3, whose messages name the user.
    fn example() -> Scram {
        Scram { first: "n=user,r=rOprNGfwEbeRWgbNEkqO".into() }
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_example_of_the_standard() {
        let (answer, proven) = example().prove_example();
        assert_eq!(answer, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        proven.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    impl Scram {
        fn prove_example(self) -> (String, Proven) {
            self.prove(b"pencil", SERVER_FIRST.as_bytes()).unwrap()
        }
    }

    #[test]
    fn what_a_hostile_server_says_is_refused() {
        let rounds = |rounds: &str| SERVER_FIRST.replace("i=4096", &format!("i={rounds}"));
        for first in [
            String::new(),
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".into(),
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".into(),
            SERVER_FIRST.replace("s=W", "s=*"),
            rounds("1"),
            rounds("4294967295"),
            rounds("-1"),
            "m=x,r=rOprNGfwEbeRWgbNEkqOa,s=AAAA,i=4096".into(),
        ] {
            assert!(example().prove(b"pencil", first.as_bytes()).is_err(), "{first}");
        }
        assert!(example().prove(b"pencil", b"\xff\xfe").is_err());
        for last in [&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..], b"v=", b"e=invalid-proof", b"", b"v=AAAA"] {
            assert!(example().prove_example().1.verify(last).is_err());
        }
    }
}

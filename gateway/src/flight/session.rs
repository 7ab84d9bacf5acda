//! Sessions: a client states its purpose (and mission) once, and every later call of its connection carries it.
//!
//! Flight's session actions set options; what is set travels in the cookie `arrow_flight_session_id`, signed for the user. The
//! gateway keeps nothing. Options: `purpose`, `mission`, and `catalog`, Flight's own name for the mission's catalog.

use std::collections::HashMap;

use concordat_policy::{Code, Name, Refusal};
use serde::{Deserialize, Serialize};
use tonic::metadata::{MetadataMap, MetadataValue};

use super::seal::{Kind, Seal};
use crate::authenticate::Identity;

/// The cookie that Flight's specification names.
const COOKIE: &str = "arrow_flight_session_id";
/// How long a session lasts after its options were last set, in seconds.
const SECONDS: i64 = 8 * 3600;
/// The longest cookie header that is looked at, in bytes.
const MAX_COOKIES: usize = 8 << 10;

/// What a session carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) purpose: Option<Name>,
    pub(super) mission: Option<Name>,
}

impl Session {
    /// The session that a request's cookie carries; an empty one without.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a session that is not this user's, has lapsed, or is from before a restart.
    pub(super) fn of(metadata: &MetadataMap, seal: &Seal, identity: &Identity, now: i64) -> Result<Self, Refusal> {
        let cookies = metadata.get_all("cookie").iter().filter_map(|v| v.to_str().ok()).filter(|text| text.len() <= MAX_COOKIES);
        let own = |text: &str| text.split(';').find_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('=').map(str::to_owned));
        let Some(value) = cookies.filter_map(own).find(|value| !value.is_empty()) else { return Ok(Self::default()) };
        let lapsed = || {
            Refusal::new(Code::Invalid, "the session is unknown, has lapsed or is another user's")
                .advice("connect again, and set the purpose again")
        };
        let sealed = unhex(&value).ok_or_else(lapsed)?;
        let body = seal.open(Kind::Session, &sealed, &identity.owner(), now).ok_or_else(lapsed)?;
        serde_json::from_slice(body).map_err(|_| lapsed())
    }

    /// The header that makes the client carry it; an empty session ends.
    pub(super) fn cookie(&self, seal: &Seal, identity: &Identity, now: i64) -> Result<MetadataValue<tonic::metadata::Ascii>, Refusal> {
        if *self == Self::default() {
            return MetadataValue::try_from(format!("{COOKIE}=; Max-Age=0; Secure; HttpOnly")).map_err(Refusal::internal);
        }
        let body = serde_json::to_vec(self).map_err(Refusal::internal)?;
        let sealed = seal.close(Kind::Session, &body, &identity.owner(), now + SECONDS);
        let value = concordat_policy::agreement::hex(&sealed);
        MetadataValue::try_from(format!("{COOKIE}={value}; Max-Age={SECONDS}; Secure; HttpOnly")).map_err(Refusal::internal)
    }

    /// Sets the options that are known; the others are answered one by one.
    pub(super) fn set(&mut self, options: HashMap<String, wire::Value>) -> wire::SetSessionOptionsResult {
        let mut errors = HashMap::new();
        for (name, value) in options {
            let place = match name.as_str() {
                "purpose" => &mut self.purpose,
                "mission" | "catalog" => &mut self.mission,
                _ => {
                    errors.insert(name, wire::Error { value: wire::INVALID_NAME });
                    continue;
                }
            };
            match value.option {
                None => *place = None,
                Some(wire::Choice::Text(text)) if text.is_empty() => *place = None,
                Some(wire::Choice::Text(text)) => match Name::parse(&text) {
                    Ok(name) => *place = Some(name),
                    Err(_) => drop(errors.insert(name, wire::Error { value: wire::INVALID_VALUE })),
                },
                Some(_) => drop(errors.insert(name, wire::Error { value: wire::INVALID_VALUE })),
            }
        }
        wire::SetSessionOptionsResult { errors }
    }

    /// What is set.
    pub(super) fn options(&self) -> wire::GetSessionOptionsResult {
        let text = |name: &Name| wire::Value { option: Some(wire::Choice::Text(name.to_string())) };
        let all = [("purpose", &self.purpose), ("mission", &self.mission), ("catalog", &self.mission)];
        let session_options = all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), text(value.as_ref()?)))).collect();
        wire::GetSessionOptionsResult { session_options }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.bytes().map(|b| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.filter(|d| d.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// The session messages of Arrow Flight's protocol (`Flight.proto`), which arrow-flight does not generate.
pub(super) mod wire {
    use std::collections::HashMap;

    pub(crate) const INVALID_NAME: i32 = 1;
    pub(crate) const INVALID_VALUE: i32 = 2;
    pub(crate) const CLOSED: i32 = 1;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SetSessionOptionsRequest {
        #[prost(map = "string, message", tag = "1")]
        pub(crate) session_options: HashMap<String, Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Value {
        #[prost(oneof = "Choice", tags = "1, 2, 3, 4, 5")]
        pub(crate) option: Option<Choice>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Choice {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(bool, tag = "2")]
        Boolean(bool),
        #[prost(sfixed64, tag = "3")]
        Integer(i64),
        #[prost(double, tag = "4")]
        Number(f64),
        #[prost(message, tag = "5")]
        Texts(Texts),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Texts {
        #[prost(string, repeated, tag = "1")]
        pub(crate) values: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SetSessionOptionsResult {
        #[prost(map = "string, message", tag = "1")]
        pub(crate) errors: HashMap<String, Error>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Error {
        #[prost(int32, tag = "1")]
        pub(crate) value: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct GetSessionOptionsResult {
        #[prost(map = "string, message", tag = "1")]
        pub(crate) session_options: HashMap<String, Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct CloseSessionResult {
        #[prost(int32, tag = "1")]
        pub(crate) status: i32,
    }
}

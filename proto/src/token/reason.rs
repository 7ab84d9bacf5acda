//! Why a token is refused.

/// Why a token was refused. Safe for logs; callers learn only that the token is not valid, and the [`Reason::hint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Too long, or not three Base64url parts with JSON objects.
    #[error("the token is not a compact JWS, or is longer than 16 KiB")]
    Malformed,
    /// A header member that is not understood.
    #[error("the token's header holds a member that is not accepted")]
    Header,
    /// Another algorithm than the key's.
    #[error("the token's algorithm is not the key's")]
    Algorithm,
    /// Another `typ`.
    #[error("the token is of another type")]
    Type,
    /// No key has this `kid`.
    #[error("no key of the issuer has the token's kid")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    Signature,
    /// `iss` is missing, not text, or another.
    #[error("the token is from another issuer, or names none")]
    Issuer,
    /// `aud` is missing or another.
    #[error("the token is for another audience, or names none")]
    Audience,
    /// `sub` is missing, empty or not text.
    #[error("the token names no subject")]
    Subject,
    /// `exp` or `nbf` is missing or not a number.
    #[error("the token lacks exp or nbf (or iat, where the issuer's tokens begin with it)")]
    Times,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is yet to come.
    #[error("the token is not valid yet: do the clocks differ by more than 30 s?")]
    NotYet,
    /// It lives longer than the key's maximum.
    #[error("the token lives longer than is accepted")]
    Lifetime,
    /// An ID token: it tells a client who signed in, and gives nobody access.
    #[error("the token is an ID token, not an access token")]
    IdToken,
    /// Bound to a key (RFC 7800) whose possession nobody proves here.
    #[error("the token is bound to a key, whose possession is not proved here")]
    Bound,
    /// A claim that the token's kind needs is missing or of the wrong type.
    #[error("the token lacks a claim that its kind needs")]
    Claims,
}

impl Reason {
    /// What a caller may be told beside "not valid": only what the caller could read in the token.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Expired => "it has expired; get a new one",
            Self::NotYet => "it is not valid yet; do the clocks differ by more than 30 s?",
            Self::Lifetime => "it lives longer than this service accepts; ask the issuer for shorter ones",
            Self::Audience => "it is for another audience, or names none",
            Self::IdToken => "it is an ID token; send the access token that came with it",
            Self::Bound => "it is bound to a key, whose possession cannot be proved here; ask the issuer for a plain bearer token",
            Self::Times => "it lacks exp or nbf; where the issuer leaves nbf out, the gateway's operator can accept iat in its place",
            Self::Malformed => "it is not a signed JWT, or is longer than 16 KiB",
            _ => "check the issuer, the key and the token's type",
        }
    }
}

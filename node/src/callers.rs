//! Who may call what: the gateway, the department's administrators and its auditors, each by pinned client certificates.
//!
//! TLS has already required a certificate of the configured CA. That alone admits nobody: every handler asks here, and a
//! connection without a certificate is nobody.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use concordat_audit::Entry;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Name, Refusal};

use crate::config::Pins;

/// The pinned certificates.
#[derive(Debug)]
pub struct Callers {
    /// Named in refusals.
    department: Name,
    pins: RwLock<Pins>,
}

/// Who may read the log's proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// The gateway.
    Gateway,
    /// An administrator, by their certificate.
    Administrator(Fingerprint),
}

impl Callers {
    /// Takes the calls of these.
    #[must_use]
    pub fn new(department: Name, pins: Pins) -> Self {
        Self { department, pins: RwLock::new(pins) }
    }

    /// From now on takes the calls of these only, on open connections too. Gives what the log needs to be told of it.
    pub fn replace(&self, pins: Pins) -> Vec<Entry> {
        let before = std::mem::replace(&mut *self.pins.write().unwrap_or_else(PoisonError::into_inner), pins.clone());
        let roles = [
            ("gateway", before.gateway, pins.gateway),
            ("administrator", before.administrators, pins.administrators),
            ("auditor", before.auditors, pins.auditors),
        ];
        let differing = roles.iter().flat_map(|(role, before, now)| {
            let role = *role;
            let entry =
                move |event, certificate: &Fingerprint| Entry::new(event).field("role", role).field("certificate", certificate.as_str());
            let pinned = now.difference(before).map(move |certificate| entry("certificate.pinned", certificate));
            pinned.chain(before.difference(now).map(move |certificate| entry("certificate.unpinned", certificate)))
        });
        differing.collect()
    }

    fn pins(&self) -> RwLockReadGuard<'_, Pins> {
        self.pins.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gateway's certificate, if this is one.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`].
    pub fn gateway(&self, certificate: Option<Fingerprint>) -> Result<Fingerprint, Refusal> {
        self.one_of(&self.pins().gateway, certificate, "only the gateway may call this")
    }

    /// An administrator's certificate, if this is one.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`].
    pub fn administrator(&self, certificate: Option<Fingerprint>) -> Result<Fingerprint, Refusal> {
        self.one_of(&self.pins().administrators, certificate, "only this department's administrators may call this")
    }

    /// Which of the two this certificate is of.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`].
    pub fn reader(&self, certificate: Option<Fingerprint>) -> Result<Reader, Refusal> {
        let pins = self.pins();
        let either = pins.gateway.union(&pins.administrators).cloned().collect();
        let certificate = self.one_of(&either, certificate, "only the gateway and this department's administrators may call this")?;
        Ok(if pins.gateway.contains(&certificate) { Reader::Gateway } else { Reader::Administrator(certificate) })
    }

    /// The certificate of who may read the log's entries, an administrator's or an auditor's, if this is one.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`].
    pub fn auditor(&self, certificate: Option<Fingerprint>) -> Result<Fingerprint, Refusal> {
        let pins = self.pins();
        let either = pins.administrators.union(&pins.auditors).cloned().collect();
        self.one_of(&either, certificate, "only this department's administrators and auditors may read its log")
    }

    /// Whether this certificate is of anybody who is known here, whatever they may call.
    pub(crate) fn is_pinned(&self, certificate: &Fingerprint) -> bool {
        let pins = self.pins();
        [&pins.gateway, &pins.administrators, &pins.auditors].iter().any(|pinned| pinned.contains(certificate))
    }

    fn one_of(&self, pinned: &BTreeSet<Fingerprint>, certificate: Option<Fingerprint>, cause: &str) -> Result<Fingerprint, Refusal> {
        let refusal = || {
            Refusal::new(Code::Unauthenticated, cause)
                .department(&self.department)
                .advice("the client certificate's fingerprint must stand in the node's configuration")
        };
        certificate.filter(|certificate| pinned.contains(certificate)).ok_or_else(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_admitted_without_a_pinned_certificate() {
        let (gateway, administrator, auditor) = (Fingerprint::of(b"g"), Fingerprint::of(b"a"), Fingerprint::of(b"auditor"));
        let pins = |gateway: &Fingerprint| Pins {
            gateway: BTreeSet::from([gateway.clone()]),
            administrators: BTreeSet::from([administrator.clone()]),
            auditors: BTreeSet::from([auditor.clone()]),
        };
        let callers = Callers::new(Name::parse("dfe").unwrap(), pins(&gateway));
        assert_eq!(callers.gateway(Some(gateway.clone())), Ok(gateway.clone()));
        assert_eq!(callers.administrator(Some(administrator.clone())), Ok(administrator.clone()));
        for (stranger, other) in
            [(None, None), (Some(administrator.clone()), Some(gateway.clone())), (Some(Fingerprint::of(b"x")), Some(Fingerprint::of(b"x")))]
        {
            assert_eq!(callers.gateway(stranger).unwrap_err().code, Code::Unauthenticated);
            assert_eq!(callers.administrator(other).unwrap_err().code, Code::Unauthenticated);
        }
        assert_eq!(callers.reader(Some(gateway.clone())), Ok(Reader::Gateway));
        assert_eq!(callers.reader(Some(administrator.clone())), Ok(Reader::Administrator(administrator.clone())));
        for stranger in [None, Some(Fingerprint::of(b"x")), Some(auditor.clone())] {
            assert_eq!(callers.reader(stranger).unwrap_err().code, Code::Unauthenticated);
        }
        for reader in [&administrator, &auditor] {
            assert_eq!(callers.auditor(Some(reader.clone())), Ok(reader.clone()));
        }
        for stranger in [None, Some(gateway.clone()), Some(Fingerprint::of(b"x"))] {
            assert_eq!(callers.auditor(stranger).unwrap_err().code, Code::Unauthenticated, "the gateway is none");
        }
        assert_eq!(callers.administrator(Some(auditor.clone())).unwrap_err().code, Code::Unauthenticated, "auditors only read");
        for (certificate, pinned) in [(&gateway, true), (&administrator, true), (&auditor, true), (&Fingerprint::of(b"x"), false)] {
            assert_eq!(callers.is_pinned(certificate), pinned);
        }
        let renewed = Fingerprint::of(b"g2");
        let entry =
            |event, certificate: &Fingerprint| Entry::new(event).field("role", "gateway").field("certificate", certificate.as_str());
        let told = callers.replace(pins(&renewed));
        assert_eq!(told, [entry("certificate.pinned", &renewed), entry("certificate.unpinned", &gateway)]);
        assert!(callers.replace(pins(&renewed)).is_empty(), "what stays is not told");
        assert_eq!(callers.gateway(Some(renewed.clone())), Ok(renewed));
        assert_eq!(callers.gateway(Some(gateway)).unwrap_err().code, Code::Unauthenticated);
    }
}

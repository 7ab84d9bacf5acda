//! The private certificate authority of a federation that is tried out on one machine. In production each department brings
//! certificates of the authority that the parties already trust, and this module is not used.

use std::path::Path;

use chrono::{Datelike as _, Days, NaiveDate};
use concordat_policy::agreement::Fingerprint;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::layout::{Layout, read, write, write_secret};
use crate::failure::{Failure, Result};

/// How long certificates are valid, in days.
const DAYS: u64 = 365;

/// An authority that signs certificates.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    key: KeyPair,
    today: NaiveDate,
}

/// A certificate with its private key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate in PEM.
    pub certificate: String,
    /// The private key, PKCS#8 in PEM.
    pub key: String,
    /// SHA-256 of the DER certificate, as configurations pin it.
    pub fingerprint: Fingerprint,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn new(today: NaiveDate) -> Result<Self> {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = parameters(today)?.self_signed(&key).map_err(failed)?;
        Ok(Self { pem: certificate.pem(), key, today })
    }

    /// The authority that lies in a federation's folder.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn open(layout: &Layout, today: NaiveDate) -> Result<Self> {
        let key = KeyPair::from_pem(&read(&layout.ca().join("ca.key.pem"))?).map_err(failed)?;
        Ok(Self { pem: read(&layout.ca().join("ca.pem"))?, key, today })
    }

    /// Keeps the authority in a federation's folder.
    pub(super) fn save(&self, layout: &Layout) -> Result<()> {
        write(&layout.ca().join("ca.pem"), &self.pem)?;
        write_secret(&layout.ca().join("ca.key.pem"), &self.key.serialize_pem())
    }

    /// The authority's own certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name is not one.
    pub fn server(&self, name: &str, addresses: &[&str]) -> Result<Identity> {
        self.issue(name, addresses, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.issue(name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, name: &str, addresses: &[&str], usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        let names: Vec<String> = addresses.iter().map(|&a| a.to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, self.today);
        let issuer = Issuer::new(parameters(self.today)?, &self.key);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Identity { fingerprint: Fingerprint::of(certificate.der()), certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes `<stem>.pem` and, for its owner only, `<stem>.key.pem`.
    pub(super) fn save(&self, folder: &Path, stem: &str) -> Result<()> {
        write(&folder.join(format!("{stem}.pem")), &self.certificate)?;
        write_secret(&folder.join(format!("{stem}.key.pem")), &self.key)
    }
}

fn parameters(today: NaiveDate) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "Concordat: private authority for trying out");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, today);
    Ok(params)
}

/// From yesterday, because clocks differ.
fn valid(params: &mut CertificateParams, today: NaiveDate) {
    let date = |day: NaiveDate| {
        let (month, day_of_month) = (u8::try_from(day.month()).unwrap_or(1), u8::try_from(day.day()).unwrap_or(1));
        rcgen::date_time_ymd(day.year(), month, day_of_month)
    };
    params.not_before = date(today - Days::new(1));
    params.not_after = date(today + Days::new(DAYS));
}

fn failed(cause: rcgen::Error) -> Failure {
    Failure::new(format!("making a certificate failed: {cause}"))
}

//! Makes a runnable federation in a folder: certificates, keys, configurations, the estate, the agreements' copies
//! with every party's signature.
//!
//! It is for trying out on one machine: one folder holds what in production lies with the departments, the gateway, the
//! identity provider and the certificate authority separately. What the pieces may do to each other is the same.

pub mod authority;
mod copies;
pub mod describe;
pub mod issuer;
pub mod keys;
pub(crate) mod layout;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::NaiveDate;

pub use self::authority::{Authority, Identity};
pub use self::copies::{adopt, sign_again};
pub use self::describe::Federation;
pub use self::issuer::Issuer;
pub use self::keys::Fingerprints;
pub use self::layout::Layout;
pub use self::text::agreement as agreement_text;

use self::describe::Department;
use self::layout::{create_private, write};
use crate::failure::{Failure, Result};

/// The name in the gateway's server certificate.
pub const GATEWAY_SERVER_NAME: &str = "gateway.concordat.internal";

/// The name in a node's server certificate.
#[must_use]
pub fn node_server_name(department: &str) -> String {
    format!("{department}.node.concordat.internal")
}

/// A federation that was just made.
#[derive(Debug)]
pub struct Made {
    /// Where everything lies.
    pub layout: Layout,
    /// The certificate authority, for further certificates.
    pub authority: Authority,
    /// The identity provider, for tokens.
    pub issuer: Issuer,
    /// Each department's public keys' fingerprints, as in the agreements.
    pub fingerprints: BTreeMap<String, Fingerprints>,
}

/// Makes `federation` in `folder`, which must not hold one yet. Data files are not written: they may already lie there.
///
/// # Errors
/// When the description contradicts itself, or a file cannot be written.
pub fn make(federation: &Federation, folder: &Path, today: NaiveDate) -> Result<Made> {
    let layout = Layout::new(folder);
    if layout.ca().exists() {
        return Err(Failure::new(format!("{} already holds a federation", folder.display())).advice("choose another folder"));
    }
    create_private(folder)?;
    let authority = Authority::new(today)?;
    authority.save(&layout)?;
    let issuer = Issuer::make(&layout)?;
    write_estate(federation, &layout)?;
    let gateway = make_gateway(federation, &layout, &authority)?;
    let mut fingerprints = BTreeMap::new();
    for department in &federation.departments {
        let keys = make_node(department, federation, &layout, &authority, &gateway)?;
        fingerprints.insert(department.id.clone(), keys);
    }
    for agreement in &federation.agreements {
        let text = text::agreement(agreement, &federation.departments, &fingerprints)?;
        adopt(&layout, &text)?;
    }
    write(&layout.client(), &text::client(federation))?;
    write(&folder.join("README.txt"), include_str!("README.txt"))?;
    Ok(Made { layout, authority, issuer, fingerprints })
}

fn write_estate(federation: &Federation, layout: &Layout) -> Result<()> {
    let estate = layout.estate();
    write(&estate.join("departments.toml"), &text::departments(federation))?;
    write(&estate.join("purposes.toml"), &text::purposes(federation))?;
    write(&estate.join("missions.toml"), &text::missions(federation))?;
    create_private(&estate.join("agreements"))?;
    create_private(&estate.join("views"))?;
    for view in &federation.views {
        write(&estate.join("views").join(format!("{}.sql", view.name)), &view.text)?;
    }
    for objects in &federation.objects {
        write(&estate.join("missions").join(format!("{}.toml", objects.mission)), &objects.text)?;
    }
    Ok(())
}

/// What nodes need to know of the gateway.
struct Gateway {
    client: Identity,
    order_key: String,
}

fn make_gateway(federation: &Federation, layout: &Layout, authority: &Authority) -> Result<Gateway> {
    let folder = layout.gateway();
    write(&folder.join("gateway.toml"), &text::gateway(federation.limits))?;
    write(&folder.join("tls/ca.pem"), authority.pem())?;
    authority.server("gateway", &[GATEWAY_SERVER_NAME, "localhost", "127.0.0.1"])?.save(&folder.join("tls"), "gateway")?;
    let client = authority.client("gateway towards nodes")?;
    client.save(&folder.join("tls"), "client")?;
    let (pem, key) = keys::signing_key()?;
    layout::write_secret(&folder.join("keys/order.key.pem"), &pem)?;
    Ok(Gateway { client, order_key: format!("{}\n", BASE64_STANDARD.encode(key.public_spki())) })
}

fn make_node(
    department: &Department,
    federation: &Federation,
    layout: &Layout,
    authority: &Authority,
    gateway: &Gateway,
) -> Result<Fingerprints> {
    let folder = layout.node(&department.id);
    let administrator = authority.client(&format!("administrator of {}", department.id))?;
    let config = text::node(department, &gateway.client.fingerprint, &administrator.fingerprint);
    write(&folder.join("node.toml"), &config)?;
    write(&folder.join("purposes.toml"), &text::purposes(federation))?;
    write(&folder.join("tls/ca.pem"), authority.pem())?;
    authority.server(&department.id, &[&node_server_name(&department.id)])?.save(&folder.join("tls"), "node")?;
    administrator.save(&folder.join("tls"), "administrator")?;
    write(&folder.join("keys/gateway-order.spki"), &gateway.order_key)?;
    create_private(&folder.join("agreements"))?;
    keys::make(&folder.join("keys"))
}

#[cfg(test)]
mod tests;

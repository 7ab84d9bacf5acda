//! Writes the addresses that the children got into the files that others read, and leaves every other line as it is.

use std::collections::BTreeMap;

use crate::failure::Result;
use crate::federation::Layout;
use crate::federation::layout::{read, write};
use crate::federation::text::quoted;

/// The nodes' addresses, into `estate/departments.toml`.
pub(super) fn into_estate(layout: &Layout, addresses: &BTreeMap<String, String>) -> Result<()> {
    let path = layout.estate().join("departments.toml");
    let mut department = None;
    let lines = read(&path)?;
    let lines = lines.lines().map(|line| {
        if let Some(id) = value(line, "id") {
            department = Some(id);
        }
        match department.as_ref().and_then(|id| addresses.get(id)) {
            Some(address) if value(line, "address").is_some() => format!("address = {}", quoted(&format!("https://{address}"))),
            _ => line.to_owned(),
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    write(&path, &text)
}

/// The gateway's address, into `client/client.toml`.
pub(super) fn into_client(layout: &Layout, address: &str) -> Result<()> {
    set(&layout.client(), "gateway", &format!("https://{address}"))
}

/// The address that a node had, as the one it shall have again.
pub(super) fn into_node(layout: &Layout, department: &str, address: &str) -> Result<()> {
    set(&layout.node(department).join("node.toml"), "listen", address)
}

fn set(path: &std::path::Path, key: &str, new: &str) -> Result<()> {
    let text = read(path)?;
    let mut done = false;
    let lines = text.lines().map(|line| {
        if !done && value(line, key).is_some() {
            done = true;
            return format!("{key} = {}", quoted(new));
        }
        line.to_owned()
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    write(path, &text)
}

/// The text that a line `key = "text"` assigns.
fn value(line: &str, key: &str) -> Option<String> {
    let table: toml::Table = line.trim_start().strip_prefix(key).and_then(|_| line.parse().ok())?;
    table.get(key)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_land_beside_their_departments_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let path = layout.estate().join("departments.toml");
        let before = "# comment\n[[department]]\nid = \"a\"\naddress = \"https://x:1\"\n\n[[department]]\nid = 'b'\naddress = \"https://x:1\"   # here\n";
        write(&path, before).unwrap();
        let addresses = BTreeMap::from([("b".to_owned(), "127.0.0.1:7".to_owned())]);
        into_estate(&layout, &addresses).unwrap();
        assert_eq!(read(&path).unwrap(), before.replace("\"https://x:1\"   # here", "\"https://127.0.0.1:7\""));
        write(&layout.client(), "gateway = \"https://x:1\"\nserver_name = \"g\"\n").unwrap();
        into_client(&layout, "127.0.0.1:8").unwrap();
        assert_eq!(read(&layout.client()).unwrap(), "gateway = \"https://127.0.0.1:8\"\nserver_name = \"g\"\n");
    }
}

//! Names of kernel objects, derived from the store they belong to, so that stores on one host keep apart.
use sha2::{Digest, Sha256};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The network state of the default root.
const DEFAULT_STATE: &str = "/var/lib/wharf/network";

/// Hexadecimal digits of a hash in a name: `wh-` and these fit the 15 bytes of a link's name.
const DIGITS: usize = 12;

/// Name of the store's bridge.
pub(super) fn bridge(state: &Path) -> String {
    if is_default(state) {
        "wharf0".to_owned()
    } else {
        format!("wh-{}", digest(&[state.as_os_str().as_bytes()]))
    }
}

/// Name of the store's nftables table, family `ip`.
pub(super) fn table(state: &Path) -> String {
    if is_default(state) {
        "wharf_0".to_owned()
    } else {
        format!("wharf_{}", digest(&[state.as_os_str().as_bytes()]))
    }
}

/// Name of the host's end of an instance's veth pair.
pub(super) fn veth(state: &Path, instance: &str) -> String {
    format!("wv-{}", digest(&[state.as_os_str().as_bytes(), instance.as_bytes()]))
}

/// Where the store starts to look for a subnet: at the first one for the default root, elsewhere for others.
pub(super) fn subnet_preference(state: &Path) -> u32 {
    if is_default(state) {
        return 0;
    }
    let hash = Sha256::digest(state.as_os_str().as_bytes());
    u32::from(u16::from_be_bytes([hash[0], hash[1]]))
}

fn is_default(state: &Path) -> bool {
    state == Path::new(DEFAULT_STATE)
}

pub(super) fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
        // No path and no name of an instance holds a NUL, so that the parts cannot run together.
        hasher.update([0]);
    }
    let mut text = hex::encode(hasher.finalize());
    text.truncate(DIGITS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_link_and_differ_by_store_and_instance() {
        let (one, two) = (Path::new("/tmp/one"), Path::new("/tmp/two"));
        let names = [bridge(one), bridge(two), veth(one, "a"), veth(one, "b"), veth(two, "a")];
        for (position, name) in names.iter().enumerate() {
            assert!(name.len() <= 15, "{name}");
            assert!(!names[..position].contains(name), "{name} twice");
        }
        assert_ne!(table(one), table(two));
    }

    #[test]
    fn the_default_root_has_plain_names() {
        let state = Path::new(DEFAULT_STATE);
        assert_eq!((bridge(state).as_str(), table(state).as_str()), ("wharf0", "wharf_0"));
        assert_eq!(subnet_preference(state), 0);
    }
}

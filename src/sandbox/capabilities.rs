//! `process.capabilities` as five bit masks; see `capabilities(7)`.
//!
//! The methods that change the process run between clone and execve; they neither allocate nor lock.
use super::caller::OwnStatus;
use caps::Capability;
use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::str::FromStr;

/// Capabilities that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller does not hold what the config asks for.
    #[error(
        "process.capabilities.{set}: {name} is not in wharf's own bounding set; run wharf with it or drop it from the config"
    )]
    NotHeld {
        /// One of the five sets.
        set: &'static str,
        /// The capability.
        name: String,
    },
    /// The effective set must lie within the permitted one; see `capset(2)`.
    #[error(
        "process.capabilities.effective: {name} is not in process.capabilities.permitted; add it there too"
    )]
    NotPermitted {
        /// The capability.
        name: String,
    },
    /// The caller's own capabilities cannot be read.
    #[error("read the capabilities of wharf itself: {0}")]
    Own(#[source] Errno),
}

/// The five sets, one bit a capability. A process without capabilities in its config has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CapabilityMasks {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
    /// Every capability that the running kernel knows.
    known: u64,
}

impl CapabilityMasks {
    /// Compiles the sets; also returns a warning for each name that this kernel does not know.
    ///
    /// Whoever makes or joins a user namespace has all capabilities there, whatever it had before
    /// (user_namespaces(7)).
    pub(super) fn compile(
        sets: Option<&LinuxCapabilities>,
        user_namespace: bool,
    ) -> Result<(Self, Vec<String>), Error> {
        let (known, held) = own_bounding_set(user_namespace)?;
        Self::compile_for(sets, known, if user_namespace { known } else { held })
    }

    fn compile_for(
        sets: Option<&LinuxCapabilities>,
        known: u64,
        held: u64,
    ) -> Result<(Self, Vec<String>), Error> {
        let mut masks = Self { known, ..Self::default() };
        let mut unknown = Vec::new();
        let Some(sets) = sets else { return Ok((masks, unknown)) };
        for (field, names, mask) in [
            ("bounding", sets.bounding(), &mut masks.bounding),
            ("effective", sets.effective(), &mut masks.effective),
            ("permitted", sets.permitted(), &mut masks.permitted),
            ("inheritable", sets.inheritable(), &mut masks.inheritable),
            ("ambient", sets.ambient(), &mut masks.ambient),
        ] {
            *mask = mask_of(field, names.as_ref(), known, held, &mut unknown)?;
        }
        if let Some(capability) = first_of(masks.effective & !masks.permitted) {
            return Err(Error::NotPermitted { name: capability.to_string() });
        }
        // Ambient needs permitted and inheritable, capabilities(7). Not an error: `runc spec` of runc 1.1
        // writes ambient capabilities that are not inheritable, and no runtime raises them.
        let raised = masks.ambient & masks.permitted & masks.inheritable;
        if let Some(capability) = first_of(masks.ambient & !raised) {
            unknown.push(format!(
                "process.capabilities.ambient: can't raise {capability}: it is not both permitted and inheritable"
            ));
        }
        masks.ambient = raised;
        Ok((masks, unknown))
    }

    /// The five sets by the names of their members.
    pub(super) fn names(&self) -> serde_json::Value {
        let names = |mask: u64| {
            bits(mask)
                .filter_map(|bit| first_of(bit.bits()))
                .map(|capability| capability.to_string())
                .collect::<Vec<_>>()
        };
        serde_json::json!({
            "bounding": names(self.bounding),
            "effective": names(self.effective),
            "permitted": names(self.permitted),
            "inheritable": names(self.inheritable),
            "ambient": names(self.ambient),
        })
    }

    /// Drops everything else from the bounding set.
    pub(super) fn drop_bounding(&self) -> Result<(), Errno> {
        for capability in bits(self.known & !self.bounding) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
        Ok(())
    }

    /// Makes all that is permitted effective, after a change of user took it away.
    pub(super) fn raise_effective(&self) -> Result<(), Errno> {
        let mut sets = rustix::thread::capabilities(None)?;
        sets.effective = sets.permitted;
        rustix::thread::set_capabilities(None, sets)
    }

    /// Sets all five sets for good.
    pub(super) fn apply(&self) -> Result<(), Errno> {
        rustix::thread::set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::from_bits_retain(self.effective),
                permitted: CapabilitySet::from_bits_retain(self.permitted),
                inheritable: CapabilitySet::from_bits_retain(self.inheritable),
            },
        )?;
        // What is not both permitted and inheritable has just left the ambient set.
        if self.permitted & self.inheritable != 0 {
            rustix::thread::clear_ambient_capability_set()?;
        }
        for capability in bits(self.ambient) {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
        Ok(())
    }
}

fn first_of(mask: u64) -> Option<Capability> {
    let mut all: Vec<Capability> = caps::all().into_iter().filter(|c| mask & c.bitmask() != 0).collect();
    all.sort_unstable_by_key(Capability::index);
    all.first().copied()
}

fn bits(mask: u64) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|bit| 1 << bit).filter(move |bit| mask & bit != 0).map(CapabilitySet::from_bits_retain)
}

fn mask_of(
    set: &'static str,
    names: Option<&Capabilities>,
    known: u64,
    held: u64,
    unknown: &mut Vec<String>,
) -> Result<u64, Error> {
    let mut mask = 0;
    for name in names.into_iter().flatten() {
        let name = format!("CAP_{name}");
        match Capability::from_str(&name).map(|capability| capability.bitmask()) {
            Ok(bit) if known & bit == 0 => {
                unknown.push(format!("process.capabilities.{set}: this kernel has no {name}; ignored"));
            }
            Ok(bit) if held & bit == 0 => return Err(Error::NotHeld { set, name }),
            Ok(bit) => mask |= bit,
            Err(_) => unknown.push(format!("process.capabilities.{set}: unknown capability {name}; ignored")),
        }
    }
    Ok(mask)
}

/// What this kernel knows, all of it or as far as it matters to somebody who keeps the bounding set that he has, and what
/// of it the caller may hand on.
fn own_bounding_set(all: bool) -> Result<(u64, u64), Error> {
    let held = OwnStatus::get().ok_or(Error::Own(Errno::NOENT))?.bounding;
    // The highest capability held tells what the kernel knows at least. Above it the kernel is asked one by one, as far
    // as there are names: what is not held need not be dropped, and a new user namespace holds all.
    let mut known = u64::MAX >> held.leading_zeros().min(63);
    while known & 1 << 63 == 0 && (all || known < Capability::CAP_CHECKPOINT_RESTORE.bitmask()) {
        let next = CapabilitySet::from_bits_retain(known + 1);
        if rustix::thread::capability_is_in_bounding_set(next).is_err() {
            break;
        }
        known = known << 1 | 1;
    }
    Ok((known, held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CHOWN: u64 = 1;
    const KILL: u64 = 1 << 5;
    const SYS_RESOURCE: u64 = 1 << 24;
    const KNOWN: u64 = (1 << 41) - 1;

    fn compile(sets: Value) -> Result<(CapabilityMasks, Vec<String>), Error> {
        let sets: LinuxCapabilities = serde_json::from_value(sets).unwrap();
        CapabilityMasks::compile_for(Some(&sets), KNOWN, KNOWN & !SYS_RESOURCE)
    }

    #[test]
    fn each_set_has_its_own_bits() {
        let (masks, warnings) = compile(json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]
        }))
        .unwrap();
        let expected = CapabilityMasks {
            bounding: CHOWN | KILL,
            permitted: CHOWN | KILL,
            effective: CHOWN,
            inheritable: KILL,
            ambient: KILL,
            known: KNOWN,
        };
        assert_eq!((masks, warnings), (expected, Vec::new()));
    }

    #[test]
    fn a_config_without_capabilities_gives_none() {
        let (masks, _) = CapabilityMasks::compile_for(None, KNOWN, KNOWN).unwrap();
        assert_eq!(masks, CapabilityMasks { known: KNOWN, ..CapabilityMasks::default() });
    }

    #[test]
    fn ambient_capabilities_that_are_not_inheritable_are_not_raised() {
        let sets = json!({"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
        let (masks, warnings) = compile(sets).unwrap();
        assert_eq!(masks.ambient, 0);
        assert!(warnings[0].contains("can't raise CAP_KILL"), "{warnings:?}");
    }

    #[test]
    fn what_cannot_be_had_is_told_with_its_json_path() {
        let cases = [
            (
                json!({"bounding": ["CAP_SYS_RESOURCE"]}),
                "process.capabilities.bounding: CAP_SYS_RESOURCE is not in",
            ),
            (
                json!({"permitted": ["CAP_KILL"], "effective": ["CAP_KILL", "CAP_CHOWN"]}),
                "process.capabilities.effective: CAP_CHOWN is not in process.capabilities.permitted",
            ),
        ];
        for (sets, expected) in cases {
            let error = compile(sets).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn capabilities_newer_than_the_kernel_are_warned_about_and_left_out() {
        let sets: LinuxCapabilities =
            serde_json::from_value(json!({"bounding": ["CAP_BPF", "CAP_KILL"]})).unwrap();
        let (masks, warnings) = CapabilityMasks::compile_for(Some(&sets), (1 << 38) - 1, KNOWN).unwrap();
        assert_eq!(masks.bounding, KILL);
        assert_eq!(warnings, ["process.capabilities.bounding: this kernel has no CAP_BPF; ignored"]);
    }
}

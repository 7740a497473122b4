//! `linux.personality`: what the kernel says it is, `x86_64` or `i686` for example; see `personality(2)`.
use super::plan::Error;
use super::step::Step;
use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain};

pub(super) fn compile(personality: &LinuxPersonality) -> Result<Step, Error> {
    // runtime-spec config-linux.md#personality: no flag has a meaning yet.
    if let Some(flag) = personality.flags().iter().flatten().next() {
        let reason = format!("{flag:?} is not a flag; the specification defines none");
        return Err(Error::config("linux.personality.flags[0]", reason));
    }
    Ok(Step::Personality(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    }))
}

/// linux/personality.h.
const PER_LINUX32: u32 = 8;

//! `linux.memoryPolicy`: on which NUMA nodes memory is allocated; see `set_mempolicy(2)`.
use super::list_format;
use super::plan::Error;
use super::step::Step;
use crate::sys::process::{MAX_NODES, NodeMask};
use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};

pub(super) fn compile(policy: &LinuxMemoryPolicy) -> Result<Step, Error> {
    let mode = policy.mode();
    let flags = policy.flags().as_deref().unwrap_or_default();
    check_flags(mode, flags)?;
    let list = policy.nodes().as_deref().unwrap_or_default();
    let path = "linux.memoryPolicy.nodes";
    let nodes = list_format::parse(list, MAX_NODES).map_err(|reason| Error::config(path, reason))?;
    match mode {
        Mode::MpolDefault | Mode::MpolLocal if !nodes.is_empty() => {
            return Err(Error::config(path, format!("{mode} takes no nodes; leave them out")));
        }
        Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred => {}
        _ if nodes.is_empty() => return Err(Error::config(path, format!("{mode} needs at least one node"))),
        _ => {}
    }
    let mut mask = NodeMask::default();
    for node in nodes {
        mask[node / 64] |= 1 << (node % 64);
    }
    let mode = flags.iter().fold(number(mode), |mode, flag| mode | bit(*flag));
    Ok(Step::MemoryPolicy { mode, nodes: mask })
}

fn check_flags(mode: Mode, flags: &[Flag]) -> Result<(), Error> {
    let path = "linux.memoryPolicy.flags";
    if flags.contains(&Flag::MpolFStaticNodes) && flags.contains(&Flag::MpolFRelativeNodes) {
        let reason = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        return Err(Error::config(path, reason));
    }
    let balances = matches!(mode, Mode::MpolBind | Mode::MpolPreferredMany);
    if flags.contains(&Flag::MpolFNumaBalancing) && !balances {
        let reason = "MPOL_F_NUMA_BALANCING needs mode MPOL_BIND or MPOL_PREFERRED_MANY";
        return Err(Error::config(path, reason));
    }
    Ok(())
}

/// `MPOL_*` of linux/mempolicy.h.
fn number(mode: Mode) -> u32 {
    match mode {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    }
}

/// `MPOL_F_*` of linux/mempolicy.h.
fn bit(flag: Flag) -> u32 {
    match flag {
        Flag::MpolFStaticNodes => 1 << 15,
        Flag::MpolFRelativeNodes => 1 << 14,
        Flag::MpolFNumaBalancing => 1 << 13,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn policy(value: Value) -> Result<Step, String> {
        compile(&serde_json::from_value(value).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn mode_flags_and_nodes_become_the_kernels_numbers() {
        let step = policy(json!({"mode": "MPOL_BIND", "nodes": "0,64-65", "flags": ["MPOL_F_STATIC_NODES"]}));
        let Ok(Step::MemoryPolicy { mode, nodes }) = step else { panic!("{step:?}") };
        assert_eq!((mode, nodes[0], nodes[1]), (1 << 15 | 2, 1, 3));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_by_path() {
        let both = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"];
        for (value, path) in [
            (json!({"mode": "MPOL_BIND"}), "nodes"),
            (json!({"mode": "MPOL_DEFAULT", "nodes": "0"}), "nodes"),
            (json!({"mode": "MPOL_INTERLEAVE", "nodes": "1024"}), "nodes"),
            (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": both}), "flags"),
            (json!({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_NUMA_BALANCING"]}), "flags"),
        ] {
            let error = policy(value).unwrap_err();
            assert!(error.starts_with(&format!("linux.memoryPolicy.{path}: ")), "{error}");
        }
    }
}

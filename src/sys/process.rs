//! Attributes of the calling thread that neither rustix nor nix can set.
use super::clone::last_errno;
use rustix::io::Errno;

/// Policy and attributes; see `sched_setattr(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`, 1 to 99.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub runtime_ns: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub deadline_ns: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub period_ns: u64,
}

/// `struct sched_attr`, `SCHED_ATTR_SIZE_VER1`, linux/sched/types.h.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// Sets policy and attributes of the calling thread; see `sched_setattr(2)`.
///
/// # Errors
/// The kernel's.
pub fn set_scheduling(scheduling: &Scheduling) -> Result<(), Errno> {
    let Scheduling { policy, flags, nice, priority, .. } = *scheduling;
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy,
        flags,
        nice,
        priority,
        runtime: scheduling.runtime_ns,
        deadline: scheduling.deadline_ns,
        period: scheduling.period_ns,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: `attr` has the kernel's layout, states its own size and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Sets the I/O scheduling class and level of the calling thread; see `ioprio_set(2)`.
///
/// # Errors
/// The kernel's.
pub fn set_io_priority(class: u16, level: u16) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = libc::c_int::from(class) << CLASS_SHIFT | libc::c_int::from(level);
    // SAFETY: three integers; nothing is read or written through pointers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Most NUMA nodes that a mask holds: `MAX_NUMNODES` of the largest kernels.
pub const MAX_NODES: usize = 1024;

/// One bit a NUMA node.
pub type NodeMask = [u64; MAX_NODES / 64];

/// Sets the calling thread's NUMA memory policy; `mode` carries `MPOL_F_*` flags too. See
/// `set_mempolicy(2)`.
///
/// # Errors
/// The kernel's; `ENOSYS` where it is built without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &NodeMask) -> Result<(), Errno> {
    // The kernel takes one bit less than it is told.
    let bits = MAX_NODES + 1;
    // SAFETY: the mask holds MAX_NODES bits, which is what the kernel reads, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Sets the execution domain; see `personality(2)`.
///
/// # Errors
/// The kernel's.
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: takes an integer and changes only how the kernel presents itself to this process.
    let result = unsafe { libc::personality(libc::c_ulong::from(domain)) };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

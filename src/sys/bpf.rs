//! eBPF programs of the cgroup device type: `bpf(2)`, Documentation/bpf/prog_cgroup_sysctl.rst's sibling
//! for devices, and the instruction set of Documentation/bpf/standardization/instruction-set.rst.
use super::clone::last_errno;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// One eBPF instruction, of the few that a device program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: u32,
}

/// What an instruction does, for reading a program back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Loads a 32-bit word at this offset of the context.
    LoadWord(u16),
    /// Copies the lower half of a register.
    MoveRegister,
    /// Bitwise and with a value.
    And,
    /// Logical shift right.
    ShiftRight,
    /// Sets a register.
    Set,
    /// Skips this many instructions unless register and value are equal.
    JumpUnlessEqual(u16),
    /// Skips this many instructions when register and value are equal.
    JumpIfEqual(u16),
    /// Ends the program with register 0 as result.
    Exit,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const SET_64: u8 = 0xb7;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, value: u32) -> Self {
        Self { code, registers: to | from << 4, offset: 0, value }
    }

    /// `to = *(u32 *)(from + offset)`.
    pub const fn load_word(to: u8, from: u8, offset: i16) -> Self {
        Self { code: LOAD_WORD, registers: to | from << 4, offset, value: 0 }
    }

    /// `to = (u32) from`.
    pub const fn move_register(to: u8, from: u8) -> Self {
        Self::new(MOVE_REGISTER_32, to, from, 0)
    }

    /// `to &= value`, 32 bits.
    pub const fn and(to: u8, value: u32) -> Self {
        Self::new(AND_32, to, 0, value)
    }

    /// `to >>= bits`, 32 bits.
    pub const fn shift_right(to: u8, bits: u32) -> Self {
        Self::new(SHIFT_RIGHT_32, to, 0, bits)
    }

    /// `to = value`.
    pub const fn set(to: u8, value: u32) -> Self {
        Self::new(SET_64, to, 0, value)
    }

    /// Goes on with the next instruction when equal; [`Instruction::jumping`] says where otherwise.
    pub const fn jump_unless_equal(register: u8, value: u32) -> Self {
        Self::new(JUMP_UNLESS_EQUAL, register, 0, value)
    }

    /// Goes on with the next instruction unless equal; [`Instruction::jumping`] says where otherwise.
    pub const fn jump_if_equal(register: u8, value: u32) -> Self {
        Self::new(JUMP_IF_EQUAL, register, 0, value)
    }

    /// The same instruction, skipping this many.
    #[must_use]
    pub fn jumping(self, skipped: usize) -> Self {
        Self { offset: i16::try_from(skipped).unwrap_or(i16::MAX), ..self }
    }

    /// Ends the program.
    pub const fn exit() -> Self {
        Self::new(EXIT, 0, 0, 0)
    }

    /// Destination register.
    pub fn to(&self) -> u8 {
        self.registers & 0xf
    }

    /// Source register.
    pub fn from(&self) -> u8 {
        self.registers >> 4
    }

    /// Immediate value.
    pub fn value(&self) -> u32 {
        self.value
    }

    /// What it does.
    pub fn operation(&self) -> Operation {
        match self.code {
            LOAD_WORD => Operation::LoadWord(self.offset as u16),
            MOVE_REGISTER_32 => Operation::MoveRegister,
            AND_32 => Operation::And,
            SHIFT_RIGHT_32 => Operation::ShiftRight,
            SET_64 => Operation::Set,
            JUMP_UNLESS_EQUAL => Operation::JumpUnlessEqual(self.offset as u16),
            JUMP_IF_EQUAL => Operation::JumpIfEqual(self.offset as u16),
            _ => Operation::Exit,
        }
    }
}

/// The part of `union bpf_attr` that loading reads.
#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaching reads.
#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// The part of `union bpf_attr` that asking for attached programs reads and writes.
#[repr(C)]
struct QueryAttr {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that opening a program reads.
#[repr(C)]
struct OpenAttr {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// Loads a device program after the kernel has verified it.
///
/// # Errors
/// The kernel's, `EINVAL` or `EACCES` when it does not verify.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let license = c"Apache-2.0";
    let attr = LoadAttr {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attribute and what it points to (instructions of the kernel's layout, a C string)
    // outlive the call, and the size is its own.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) };
    match i32::try_from(fd) {
        // SAFETY: the kernel returned a new descriptor that nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}

/// Makes a device program the one of a cgroup v2 directory, beside those of its ancestors. An earlier one
/// is replaced in one step, so that there is no moment without a filter; `BPF_F_REPLACE`, Linux 5.6.
///
/// # Errors
/// The kernel's; `BUSY` when several programs are attached, since not all of them are wharf's.
pub fn set_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let old = attached_device_program(cgroup)?.map(open_program).transpose()?;
    attach_device_program(cgroup, program, old.as_ref().map(AsFd::as_fd))
}

/// Attaches a device program in the place of an old one, or to a directory that is known to have none.
///
/// # Errors
/// The kernel's.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let attr = AttachAttr {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: if old.is_some() { BPF_F_ALLOW_MULTI | BPF_F_REPLACE } else { BPF_F_ALLOW_MULTI },
        replaced: old.map_or(0, |old| old.as_raw_fd() as u32),
    };
    // SAFETY: the attribute outlives the call and holds open descriptors; the size is its own.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The id of the device program attached to the directory itself.
fn attached_device_program(cgroup: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
    let mut ids = [0_u32; 2];
    let mut attr = QueryAttr {
        target: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: 2,
        padding: 0,
    };
    // SAFETY: the kernel writes at most `count` ids to the array, and into the attribute at most its size;
    // both outlive the call and nothing else refers to them during it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size_of::<QueryAttr>()) };
    match (result, attr.count) {
        (0, 0) => Ok(None),
        (0, 1) => Ok(Some(ids[0])),
        (0, _) => Err(Errno::BUSY),
        _ if last_errno() == Errno::NOSPC => Err(Errno::BUSY),
        _ => Err(last_errno()),
    }
}

fn open_program(id: u32) -> Result<OwnedFd, Errno> {
    let attr = OpenAttr { id, next_id: 0, flags: 0 };
    // SAFETY: the attribute outlives the call and holds no pointer; the size is its own.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, &raw const attr, size_of::<OpenAttr>())
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel returned a new descriptor that nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}

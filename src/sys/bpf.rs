//! eBPF programs of the cgroup device type: `bpf(2)`, Documentation/bpf/prog_cgroup_sysctl.rst's sibling
//! for devices, and the instruction set of Documentation/bpf/standardization/instruction-set.rst.
use super::clone::last_errno;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

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
    /// Ends the program with register 0 as result.
    Exit,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const SET_64: u8 = 0xb7;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
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

/// Attaches a device program to a cgroup v2 directory, beside those of its ancestors.
///
/// # Errors
/// The kernel's.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = AttachAttr {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attribute outlives the call and holds two open descriptors; the size is its own.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

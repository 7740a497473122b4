//! A network namespace that is made while the caller does something else.
//!
//! To make one takes the kernel as long as everything else that a clone does, several times over. It takes a thread, of
//! which the C library knows nothing: it has a stack, makes six system calls and ends.
use super::itself::{self, checked};
use rustix::io::Errno;
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use syscalls::raw::{syscall1, syscall2, syscall3, syscall4};

/// There is one at a time.
static BUSY: AtomicBool = AtomicBool::new(false);
/// The thread's id until it has ended, then 0: `CLONE_CHILD_CLEARTID` in `clone(2)`.
static THREAD: AtomicI32 = AtomicI32::new(0);
/// What the thread has opened, or a number below 0.
static OWN: AtomicI32 = AtomicI32::new(-1);
static NEW: AtomicI32 = AtomicI32::new(-1);
static STACK: Stack = Stack(UnsafeCell::new([0; STACK_SIZE]));

const STACK_SIZE: usize = 16 << 10;
const NETWORK: &CStr = c"/proc/thread-self/ns/net";

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: whoever has set BUSY has it, and gives it to the one thread that it makes.
unsafe impl Sync for Stack {}

/// A network namespace that is made ahead of what needs it.
#[derive(Debug)]
#[must_use]
pub enum NetworkAhead {
    /// In the making.
    Making(Making),
    /// Made.
    Made(Network),
}

/// The thread at work.
#[derive(Debug)]
pub struct Making(());

/// A new network namespace, and that of whoever had it made.
#[derive(Debug)]
pub struct Network {
    /// Theirs.
    pub own: OwnedFd,
    /// The new one, which belongs to their user namespace.
    pub new: OwnedFd,
}

impl NetworkAhead {
    /// Begins to make one; `None` where that cannot be, or another one is in the making.
    pub fn begin() -> Option<Self> {
        if BUSY.swap(true, Ordering::Acquire) {
            return None;
        }
        OWN.store(-1, Ordering::Relaxed);
        NEW.store(-1, Ordering::Relaxed);
        if start_thread().is_err() {
            BUSY.store(false, Ordering::Release);
            return None;
        }
        Some(Self::Making(Making(())))
    }

    /// Waits until it is made; `None` where it could not be.
    pub fn wait(self) -> Option<Network> {
        match self {
            Self::Making(making) => {
                let made = take();
                std::mem::forget(making);
                made
            }
            Self::Made(network) => Some(network),
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        take();
    }
}

fn take() -> Option<Network> {
    loop {
        let thread = THREAD.load(Ordering::Acquire);
        if thread == 0 {
            break;
        }
        let (word, wait) = (THREAD.as_ptr() as usize, libc::FUTEX_WAIT as usize);
        // SAFETY: the word is static. The kernel wakes as those do who share it between processes, so without FUTEX_PRIVATE_FLAG.
        unsafe { syscall4(libc::SYS_futex as usize, word, wait, thread as usize, 0) };
    }
    let opened = |fd: &AtomicI32| {
        let fd = Some(fd.swap(-1, Ordering::Relaxed)).filter(|fd| *fd >= 0)?;
        // SAFETY: the thread has opened it, has ended, and nobody else knows of it.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    let (own, new) = (opened(&OWN), opened(&NEW));
    BUSY.store(false, Ordering::Release);
    Some(Network { own: own?, new: new? })
}

/// What the thread does.
extern "C" fn make() -> ! {
    let (own, kind) = (open_network(), libc::CLONE_NEWNET as usize);
    OWN.store(own, Ordering::Relaxed);
    // SAFETY: the thread alone comes to be in another namespace.
    let made = unsafe { syscall1(libc::SYS_unshare as usize, kind) };
    if made == 0 {
        let new = open_network();
        // Root of a user namespace may not return to a namespace of the host's: what it could not leave is of no use.
        // SAFETY: as above.
        let returned = unsafe { syscall2(libc::SYS_setns as usize, own as usize, kind) };
        if returned == 0 {
            NEW.store(new, Ordering::Relaxed);
        } else {
            itself::close(new, new);
        }
    }
    loop {
        // SAFETY: it ends the thread, which holds nothing.
        unsafe { syscall1(libc::SYS_exit as usize, 0) };
    }
}

fn open_network() -> i32 {
    let (at, path) = (libc::AT_FDCWD as isize as usize, NETWORK.as_ptr() as usize);
    // SAFETY: the path is null-terminated.
    let opened =
        unsafe { syscall3(libc::SYS_openat as usize, at, path, (libc::O_RDONLY | libc::O_CLOEXEC) as usize) };
    checked(opened).map_or(-1, |fd| fd as i32)
}

fn start_thread() -> Result<(), Errno> {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    let args = libc::clone_args {
        flags: flags as u64,
        pidfd: 0,
        child_tid: THREAD.as_ptr() as u64,
        parent_tid: THREAD.as_ptr() as u64,
        exit_signal: 0,
        stack: STACK.0.get() as u64,
        stack_size: STACK_SIZE as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    let (number, size) = (libc::SYS_clone3 as usize, size_of_val(&args));
    let result: usize;
    // SAFETY: the new thread begins with nothing on its stack, calls `make` and never returns; the caller goes on as after any
    // system call.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "call {make}",
            "2:",
            make = sym make,
            inlateout("rax") number => result,
            in("rdi") &raw const args,
            in("rsi") size,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "bl {make}",
            "2:",
            make = sym make,
            in("x8") number,
            inlateout("x0") (&raw const args) as usize => result,
            in("x1") size,
            lateout("lr") _,
        );
    }
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    {
        let _ = (make, number, size, args);
        result = -libc::ENOSYS as isize as usize;
    }
    checked(result).map(drop)
}

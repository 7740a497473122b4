//! The running program moved, in place, to another path of its own file: what `execveat(2)` of that path would do, without
//! a second start.
//!
//! The kernel lets a process change what its `/proc/self/exe` is once nothing of the old file is mapped any more
//! (`replace_mm_exe_file` in kernel/fork.c). So every segment is mapped anew from the same file by its other path, which is
//! possible only while nothing in memory differs from the file: before the C library's start. As in
//! [`itself`](super::itself), nothing of the C library is used here.
use super::itself::checked;
use rustix::io::Errno;
use std::ffi::c_char;
use std::os::fd::RawFd;
use std::ptr::null;
use syscalls::raw::{syscall1, syscall5, syscall6};

/// `struct prctl_mm_map`, see `PR_SET_MM_MAP` in `PR_SET_MM(2const)`.
#[repr(C)]
struct MemoryMap {
    start_code: usize,
    end_code: usize,
    start_data: usize,
    end_data: usize,
    start_brk: usize,
    brk: usize,
    start_stack: usize,
    arg_start: usize,
    arg_end: usize,
    env_start: usize,
    env_end: usize,
    /// None: the kernel keeps the one it has.
    auxv: usize,
    auxv_size: u32,
    exe_fd: u32,
}

/// What the kernel has put on the stack of a program that begins, as the x86-64 and AArch64 ABIs have it.
pub(super) struct Start {
    stack: usize,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    auxiliary: *const [usize; 2],
}

impl Start {
    /// # Safety
    /// `stack` is the stack pointer that the kernel has started the program with.
    pub(super) unsafe fn of(stack: *const usize) -> Self {
        // SAFETY: by the caller's word: the number of arguments, the arguments and a null pointer, the environment and a null
        // pointer, the auxiliary vector.
        unsafe {
            let arguments: *const *const c_char = stack.add(1).cast();
            let environment = arguments.add(stack.read() + 1);
            let mut end = environment;
            while !end.read().is_null() {
                end = end.add(1);
            }
            Self { stack: stack as usize, arguments, environment, auxiliary: end.add(1).cast() }
        }
    }

    /// The arguments of the program; a null pointer ends them.
    pub(super) fn arguments(&self) -> *const *const c_char {
        self.arguments
    }

    /// The environment of the program; a null pointer ends it.
    pub(super) fn environment(&self) -> *const *const c_char {
        self.environment
    }

    /// Whether the program runs at the addresses of its file, by where its headers are, and no interpreter came before it. Nothing
    /// else can be relied on in another one: its pointers are still to be relocated.
    pub(super) fn is_at_its_addresses(&self) -> bool {
        let (headers, end) = self.headers();
        let mut next = headers;
        while next < end {
            // SAFETY: as `headers` says.
            let segment = unsafe { &*next };
            let start = segment.p_vaddr as usize;
            let within = headers as usize >= start && end as usize <= start + segment.p_filesz as usize;
            if segment.p_type == libc::PT_LOAD && within {
                return self.auxiliary(libc::AT_BASE) == 0;
            }
            // SAFETY: as above.
            next = unsafe { next.add(1) };
        }
        false
    }

    /// The program headers, elf(5): the first one, and behind the last. The kernel tells where they are mapped.
    fn headers(&self) -> (*const libc::Elf64_Phdr, *const libc::Elf64_Phdr) {
        let first = self.auxiliary(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        // SAFETY: AT_PHNUM headers are mapped at AT_PHDR.
        (first, unsafe { first.add(self.auxiliary(libc::AT_PHNUM)) })
    }

    /// A value of the auxiliary vector, or 0; see `getauxval(3)`.
    fn auxiliary(&self, wanted: libc::c_ulong) -> usize {
        let mut next = self.auxiliary;
        loop {
            // SAFETY: by the word of the caller of `of`, up to and with AT_NULL.
            let [kind, value] = unsafe { next.read() };
            if kind == wanted as usize {
                return value;
            }
            if kind == libc::AT_NULL as usize {
                return 0;
            }
            // SAFETY: as above.
            next = unsafe { next.add(1) };
        }
    }

    /// Where the strings of the arguments, and those of the environment behind them, begin and end.
    fn strings(&self) -> Option<[usize; 3]> {
        // SAFETY: by the word of the caller of `of`: each is a C string or the null pointer that ends the array, and the
        // kernel puts the strings one behind the other.
        unsafe {
            let first = self.arguments.read();
            let mut last = null();
            let mut next = self.arguments;
            while !next.read().is_null() {
                (last, next) = (next.read(), next.add(1));
            }
            let arguments_end = end_of(last)?;
            let mut next = self.environment;
            while !next.read().is_null() {
                (last, next) = (next.read(), next.add(1));
            }
            Some([first as usize, arguments_end, end_of(last)?])
        }
    }
}

/// The address behind a C string, if there is one.
///
/// # Safety
/// It is a C string or a null pointer.
unsafe fn end_of(mut string: *const c_char) -> Option<usize> {
    if string.is_null() {
        return None;
    }
    // SAFETY: by the caller's word. Volatile, so that no compiler makes a call of the C library out of this.
    unsafe {
        while string.read_volatile() != 0 {
            string = string.add(1);
        }
    }
    Some(string as usize + 1)
}

/// Maps every segment of the program from `file`, and makes that what `/proc/self/exe` is. After an error the program runs on as
/// before, whichever of its segments are mapped from where.
///
/// # Errors
/// The kernel's, see `mmap(2)` and `PR_SET_MM(2const)`: without `CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE`, or by a kernel that
/// has no checkpoint and restore.
///
/// # Safety
/// `file` is open for reading and is the program's own, which [is at its addresses](Start::is_at_its_addresses), and nothing has run
/// yet that changes its data: it is the first to run, with the `start` that it has been given.
pub(super) unsafe fn move_to(file: RawFd, start: &Start) -> Result<(), Errno> {
    let page = start.auxiliary(libc::AT_PAGESZ);
    let (mut next, end) = start.headers();
    let [arg_start, arg_end, env_end] = start.strings().ok_or(Errno::INVAL)?;
    // SAFETY: brk(2) of nothing tells where the heap ends.
    let brk = checked(unsafe { syscall1(libc::SYS_brk as usize, 0) })?;
    let mut map = MemoryMap {
        start_code: usize::MAX,
        end_code: 0,
        start_data: 0,
        end_data: 0,
        start_brk: brk,
        brk,
        start_stack: start.stack,
        arg_start,
        arg_end,
        env_start: arg_end,
        env_end,
        auxv: 0,
        auxv_size: 0,
        exe_fd: file as u32,
    };
    while next < end {
        // SAFETY: as `headers` says.
        let segment = unsafe { &*next };
        if segment.p_type == libc::PT_LOAD && segment.p_filesz > 0 {
            // SAFETY: by the caller's word, and it is a segment of the program at a fixed address.
            unsafe { map_anew(file, segment, page) }?;
            map.include(segment);
        }
        // SAFETY: as above.
        next = unsafe { next.add(1) };
    }
    let (option, size) = (libc::PR_SET_MM_MAP as usize, size_of::<MemoryMap>());
    // SAFETY: the kernel reads a structure of this size, and checks what is in it.
    let set = unsafe {
        syscall5(
            libc::SYS_prctl as usize,
            libc::PR_SET_MM as usize,
            option,
            (&raw const map) as usize,
            size,
            0,
        )
    };
    checked(set).map(drop)
}

impl MemoryMap {
    /// As `execve(2)` reckons what `proc_pid_stat(5)` tells of code and data.
    fn include(&mut self, segment: &libc::Elf64_Phdr) {
        let start = segment.p_vaddr as usize;
        let end = start + segment.p_filesz as usize;
        if start < self.start_code {
            self.start_code = start;
        }
        if start > self.start_data {
            self.start_data = start;
        }
        if end > self.end_data {
            self.end_data = end;
        }
        if segment.p_flags & libc::PF_X != 0 && end > self.end_code {
            self.end_code = end;
        }
    }
}

/// Maps a segment where it is, from `file`.
///
/// # Safety
/// As for [`move_to`].
unsafe fn map_anew(file: RawFd, segment: &libc::Elf64_Phdr, page: usize) -> Result<(), Errno> {
    let (start, offset) = (segment.p_vaddr as usize, segment.p_offset as usize);
    let (end, within) = (start + segment.p_filesz as usize, start & (page - 1));
    let or_none =
        |flag: u32, protection: i32| if segment.p_flags & flag != 0 { protection as usize } else { 0 };
    let protection = or_none(libc::PF_R, libc::PROT_READ)
        | or_none(libc::PF_W, libc::PROT_WRITE)
        | or_none(libc::PF_X, libc::PROT_EXEC);
    let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED) as usize;
    // SAFETY: what is mapped there is replaced by the same content, even under the instructions that run.
    checked(unsafe {
        syscall6(
            libc::SYS_mmap as usize,
            start - within,
            end - start + within,
            protection,
            flags,
            file as usize,
            offset - within,
        )
    })?;
    if segment.p_memsz > segment.p_filesz && segment.p_flags & libc::PF_W != 0 {
        // What is no more of the segment in the last page of the file begins as zero.
        let mut next = end;
        while next & (page - 1) != 0 {
            // SAFETY: it lies in the page that has just been mapped, and nothing has been put there yet. Volatile, so that no
            // compiler makes a call of the C library out of this.
            unsafe { (next as *mut u8).write_volatile(0) };
            next += 1;
        }
    }
    Ok(())
}

//! Memory that a process which has done its work and only waits can give back.
use super::entry;
use syscalls::raw::syscall3;

/// The kernel refuses what is not a multiple of its pages, where those are larger.
pub(super) const PAGE: usize = 4096;

/// Gives free heap memory back to the kernel; see `malloc_trim(3)`. Does nothing with other C libraries
/// than glibc.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) only releases pages that hold no allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives back the stack of the first thread below the caller's frame. Neither allocates nor locks.
#[inline(always)]
pub fn give_back_stack() {
    /// What the caller may have below one of its variables, with room for a signal's frame.
    const NEAR: usize = PAGE;
    /// Deeper than anything before has been; the kernel keeps as much free below the stack of the first
    /// thread (`stack_guard_gap`, kernel-parameters.txt).
    const DEEP: usize = 1 << 20;
    let (madvise, forget) = (libc::SYS_madvise as usize, libc::MADV_DONTNEED as usize);
    let (frame, bottom) = ((&raw const forget) as usize & !(PAGE - 1), entry::stack_bottom());
    if frame < bottom && bottom - frame < DEEP {
        // SAFETY: it is the stack of the first thread. Nothing lives below the stack pointer but what is within
        // NEAR of it, and nothing else is mapped there.
        unsafe { syscall3(madvise, frame - DEEP, DEEP - NEAR, forget) };
    }
}

/// Blocks of this size are mapped one by one, and unmapped when they are freed.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: libc::c_int = 512 << 10;

/// Makes large blocks go back to the kernel when they are freed; see `mallopt(3)`. Left to itself, glibc raises the
/// size from which it does so to that of the largest block that was ever freed, and each thread's heap keeps what
/// is smaller. Does nothing with other C libraries.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers by value and changes settings of the allocator under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
    }
}

/// Gives back the pages of the program's file, which are read from the page cache again as they are used.
pub fn give_back_file() {
    for (start, length) in read_only_parts() {
        // SAFETY: as `read_only_parts` says, what is dropped is read back unchanged. A page that stays costs a little memory
        // and nothing else.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Where code and constants of the program are in memory, by its file's program headers (elf(5)): the first page and the
/// length, of none where a part is empty. They are private mappings of the file that nothing ever writes to
/// (relocation-model=static).
pub(super) fn read_only_parts() -> [(usize, usize); 4] {
    unsafe extern "C" {
        // Made by the linker: where the program's file begins in memory.
        static __executable_start: u8;
    }
    let mut parts = [(0, 0); 4];
    // SAFETY: a static program at a fixed address is mapped with its headers, the file's first bytes, and they tell
    // where the table is that the kernel has read, and how long it is.
    let headers = unsafe {
        let header = (&raw const __executable_start).cast::<libc::Elf64_Ehdr>();
        let table = header.byte_add((*header).e_phoff as usize).cast::<libc::Elf64_Phdr>();
        std::slice::from_raw_parts(table, (*header).e_phnum.into())
    };
    let loaded = headers.iter().filter(|part| part.p_type == libc::PT_LOAD && part.p_flags & libc::PF_W == 0);
    for (part, header) in parts.iter_mut().zip(loaded) {
        *part = (header.p_vaddr as usize & !(PAGE - 1), header.p_memsz as usize);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_on_without_its_pages() {
        assert!(read_only_parts().iter().any(|(start, length)| {
            let code = give_back_file as fn() as usize;
            (*start..start + length).contains(&code)
        }));
        give_back_file();
        give_back();
        assert_eq!("still here".len(), 10);
    }
}

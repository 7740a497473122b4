//! Memory that a process which has done its work and only waits can give back.
use super::clone::last_errno;
use super::entry;
use rustix::io::Errno;
use syscalls::raw::syscall3;

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
    /// The kernel refuses what is not a multiple of its pages, where those are larger.
    const PAGE: usize = 4096;
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

/// Unmaps for now the pages of a part of a file that is mapped and was never written to in this process:
/// the next use reads them from the page cache again. See `madvise(2)` MADV_DONTNEED.
///
/// The caller has looked at proc_pid_smaps(5): the range is one whole mapping of a file, not writable,
/// with no anonymous page in it, so nothing but the file's own contents is there.
///
/// # Errors
/// The kernel's; `EINVAL` when the range does not hold a mapping of ours, aligned.
pub fn forget_file_pages(mapping: &FileMapping) -> Result<(), Errno> {
    let length = mapping.end.saturating_sub(mapping.start);
    // SAFETY: by the invariant of FileMapping, what is dropped is read back from the file unchanged.
    let result = unsafe { libc::madvise(mapping.start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// A mapping of this process that holds nothing but what its file holds: backed by a file, not writable,
/// without anonymous pages.
#[derive(Debug, PartialEq, Eq)]
pub struct FileMapping {
    start: usize,
    end: usize,
}

/// Every such mapping, as proc_pid_smaps(5) lists them.
///
/// # Errors
/// When the list cannot be read.
pub fn file_mappings() -> std::io::Result<Vec<FileMapping>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/smaps")?))
}

fn parse(text: &str) -> Vec<FileMapping> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in text.lines() {
        if let Some(header) = parse_header(line) {
            candidate = header;
        } else if line.split_ascii_whitespace().collect::<Vec<_>>() == ["Anonymous:", "0", "kB"] {
            found.extend(candidate.take());
        }
    }
    found
}

/// `None` for a line that is no header; `Some(None)` for the header of a mapping that is not of the kind.
fn parse_header(line: &str) -> Option<Option<FileMapping>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let readable_only = words.next().is_some_and(|flags| flags == "r--p" || flags == "r-xp");
    let inode = words.nth(2).unwrap_or("0");
    Some((readable_only && inode != "0").then_some(FileMapping { start, end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untouched_mappings_of_files_are_found() {
        let text = "\
55000-56000 r--p 00000000 fe:00 42 /usr/bin/wharf\nRss: 4 kB\nAnonymous:             0 kB\nVmFlags: rd\n\
56000-58000 r-xp 00001000 fe:00 42 /usr/bin/wharf\nAnonymous:             0 kB\n\
58000-59000 r--p 00003000 fe:00 42 /usr/bin/wharf\nAnonymous:             4 kB\n\
59000-5a000 rw-p 00004000 fe:00 42 /usr/bin/wharf\nAnonymous:             0 kB\n\
5a000-5b000 r-xp 00000000 00:00 0 [vdso]\nAnonymous:             0 kB\n";
        let expected =
            [FileMapping { start: 0x55000, end: 0x56000 }, FileMapping { start: 0x56000, end: 0x58000 }];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        for mapping in file_mappings().unwrap() {
            forget_file_pages(&mapping).unwrap();
        }
        give_back();
        assert_eq!("still here".len(), 10);
    }
}

//! Memory that the allocator keeps for later.

/// Gives free heap memory back to the kernel; see `malloc_trim(3)`. Does nothing with other C libraries
/// than glibc.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) only releases pages that hold no allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}

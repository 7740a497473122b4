//! For tests: counts what children of the test program allocate between their clone and their execve.
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

/// The allocator of the test program.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// In memory that children share with the test program; null until somebody watches.
static COUNT: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
static WATCHER: AtomicI32 = AtomicI32::new(0);

// SAFETY: every call is passed on to the system's allocator as it came, but those of a child: that gets no memory, and gives
// none back. Counting touches only atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        if is_counted() { null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !is_counted() {
            // SAFETY: the caller keeps `GlobalAlloc`'s contract.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        if is_counted() { null_mut() } else { unsafe { System.realloc(pointer, layout, size) } }
    }
}

/// Counts what a child asks, and is true of it: it must not reach the system's allocator, whose lock another thread of
/// the test program may have held at the clone.
fn is_counted() -> bool {
    let shared = COUNT.load(Ordering::Acquire);
    // SAFETY: getpid(2) takes nothing and cannot fail.
    let counted = !shared.is_null() && unsafe { libc::getpid() } != WATCHER.load(Ordering::Relaxed);
    if counted {
        // SAFETY: `watch` mapped it for an AtomicU64, zeroed, and never unmaps it.
        unsafe { &*shared }.fetch_add(1, Ordering::Relaxed);
    }
    counted
}

/// How often children of this process have asked the allocator for something, or given it back, from now on.
pub(crate) fn watch() -> &'static AtomicU64 {
    let length = size_of::<AtomicU64>();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at a place of the kernel's choice.
    let memory = unsafe { libc::mmap(null_mut(), length, protection, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    // SAFETY: getpid(2) takes nothing and cannot fail.
    WATCHER.store(unsafe { libc::getpid() }, Ordering::Relaxed);
    let shared = memory.cast::<AtomicU64>();
    COUNT.store(shared, Ordering::Release);
    // SAFETY: the mapping is aligned to a page, zeroed, and stays for the life of the process.
    unsafe { &*shared }
}

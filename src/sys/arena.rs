//! The allocator of programs that live for milliseconds.
//!
//! Compiling a config takes some two thousand small blocks, and the C library's allocator, made for programs that go
//! on, spent two fifths of all instructions on them: each first block of a size is cut from its top, and each that is
//! given back is looked at for its neighbours. Here a block is the next piece of a region, and one that is given back
//! serves the next request of its size. A program that does go on, `events` say, needs no more than it needed at once.
//! Large blocks are the C library's.
use super::heap::PAGE;
use rustix::thread::sched_yield;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks are multiples of this, and aligned to it.
const UNIT: usize = 16;

/// Up to this, each multiple of the unit is a size of its own; above, each power of two.
const SMALL: usize = 1024;

/// The largest block that is cut here.
const LARGEST: usize = 32 << 10;

/// What is asked of the kernel at once.
const REGION: usize = 128 << 10;

/// How many sizes there are.
const SIZES: usize = SMALL / UNIT + 1 + (LARGEST / SMALL).ilog2() as usize;

/// A global allocator: `#[global_allocator] static ALLOCATOR: Arena = Arena;`
#[derive(Debug)]
pub struct Arena;

static BLOCKS: Locked = Locked::new();

/// Gives the kernel back what whole pages of large blocks nobody has, for a process that goes on after its work: they are
/// filled with zeros when they are used again. See `madvise(2)`. Does nothing in a program with another allocator.
pub fn give_back() {
    BLOCKS.with(|blocks| blocks.give_back());
}

#[derive(Debug)]
struct Locked {
    locked: AtomicBool,
    blocks: UnsafeCell<Blocks>,
}

#[derive(Debug)]
struct Blocks {
    next: *mut u8,
    left: usize,
    /// The first free block of each size, which holds the address of the next one.
    free: [*mut u8; SIZES],
}

/// A size of blocks: in bytes, and its place among the sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    bytes: usize,
    place: usize,
}

impl Size {
    /// The smallest block for this layout; `None` for one that is the C library's.
    fn of(bytes: usize, layout: &Layout) -> Option<Self> {
        if bytes > LARGEST || layout.align() > UNIT {
            return None;
        }
        let bytes =
            if bytes <= SMALL { bytes.max(1).next_multiple_of(UNIT) } else { bytes.next_power_of_two() };
        let place =
            if bytes <= SMALL { bytes / UNIT } else { SMALL / UNIT + (bytes / SMALL).ilog2() as usize };
        Some(Self { bytes, place })
    }
}

// SAFETY: `blocks` is reached under the lock alone.
unsafe impl Sync for Locked {}

impl Locked {
    /// One without memory; the first request fetches some.
    const fn new() -> Self {
        let blocks = Blocks { next: null_mut(), left: 0, free: [null_mut(); SIZES] };
        Self { locked: AtomicBool::new(false), blocks: UnsafeCell::new(blocks) }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Blocks) -> R) -> R {
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // Held for some instructions, unless the thread that holds it is not running.
            sched_yield();
        }
        // SAFETY: the lock is held, and `work` is not handed the arena, so nothing else refers to the blocks.
        let result = work(unsafe { &mut *self.blocks.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

impl Blocks {
    fn take(&mut self, size: Size) -> *mut u8 {
        let free = self.free[size.place];
        if !free.is_null() {
            // SAFETY: a block in a list is aligned, at least as large as a pointer, and holds that of the next one.
            self.free[size.place] = unsafe { free.cast::<*mut u8>().read() };
            return free;
        }
        if self.left < size.bytes && !self.refill(size) {
            return null_mut();
        }
        let block = self.next;
        // SAFETY: `left` bytes of the region follow `next`, and the block is no more than that.
        self.next = unsafe { block.add(size.bytes) };
        self.left -= size.bytes;
        block
    }

    /// Finds a place to cut blocks of this size from: a large block that nobody has any more, or memory of the kernel's.
    fn refill(&mut self, size: Size) -> bool {
        for (place, free) in self.free.iter_mut().enumerate().skip(size.place + 1).rev() {
            let Some(power) = place.checked_sub(SMALL / UNIT).filter(|_| !free.is_null()) else { continue };
            let region = *free;
            // SAFETY: as in `take`.
            *free = unsafe { region.cast::<*mut u8>().read() };
            (self.next, self.left) = (region, SMALL << power);
            return true;
        }
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at a place of the kernel's choice. Filled at once: a fault for each of its
        // pages takes longer, and they are going to be used.
        let region = unsafe { libc::mmap(null_mut(), REGION, access, kind | libc::MAP_POPULATE, -1, 0) };
        if region == libc::MAP_FAILED {
            return false;
        }
        (self.next, self.left) = (region.cast(), REGION);
        true
    }

    fn give_back(&self) {
        // SAFETY: nobody has what no block has been cut from.
        unsafe { forget_pages(self.next, self.left) };
        for (power, first) in self.free[SMALL / UNIT..].iter().enumerate() {
            let mut block = *first;
            while !block.is_null() {
                // SAFETY: as in `take`; the pointer stays, for it is not in the part that is forgotten.
                unsafe {
                    forget_pages(block.add(size_of::<*mut u8>()), (SMALL << power) - size_of::<*mut u8>());
                    block = block.cast::<*mut u8>().read();
                }
            }
        }
    }

    /// # Safety
    /// The block is one of this size that was taken and is given back once.
    unsafe fn give(&mut self, block: *mut u8, size: Size) {
        // SAFETY: by the caller's word it is ours, aligned and at least as large as a pointer.
        unsafe { block.cast::<*mut u8>().write(self.free[size.place]) };
        self.free[size.place] = block;
    }
}

/// Forgets the content of the whole pages in a part of a region.
///
/// # Safety
/// Nobody has it.
unsafe fn forget_pages(start: *mut u8, length: usize) {
    let skipped = start.addr().next_multiple_of(PAGE) - start.addr();
    let length = length.saturating_sub(skipped) & !(PAGE - 1);
    if length > 0 {
        // SAFETY: by the caller's word nothing is lost; the range is whole pages of an anonymous mapping of ours.
        unsafe { libc::madvise(start.add(skipped).cast(), length, libc::MADV_DONTNEED) };
    }
}

// SAFETY: blocks are aligned to `UNIT`, as large as what they are asked for, and out of the lists until they are given
// back; everything else is passed on to the system's allocator as it came, by the same layout both ways.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Size::of(layout.size(), &layout) {
            Some(size) => BLOCKS.with(|blocks| blocks.take(size)),
            // SAFETY: the caller keeps `GlobalAlloc`'s contract.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match Size::of(layout.size(), &layout) {
            // SAFETY: the caller keeps `GlobalAlloc`'s contract: it is a block of that layout.
            Some(size) => BLOCKS.with(|blocks| unsafe { blocks.give(pointer, size) }),
            // SAFETY: as above.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (old, new) = (Size::of(layout.size(), &layout), Size::of(size, &layout));
        if old.is_none() && new.is_none() {
            // SAFETY: the caller keeps `GlobalAlloc`'s contract.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        if old == new {
            return pointer;
        }
        // SAFETY: the alignment is that of a layout, and by the contract the size does not overflow with it; what is
        // copied lies in both blocks, which are not the same.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(pointer, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(bytes: usize) -> Size {
        Size::of(bytes, &Layout::from_size_align(bytes, 8).unwrap()).unwrap()
    }

    #[test]
    fn blocks_are_aligned_apart_and_used_again() {
        // SAFETY: every block is given back once.
        Locked::new().with(|blocks| unsafe {
            let (one, other) = (blocks.take(size(24)), blocks.take(size(24)));
            assert_eq!((one as usize % UNIT, other as usize - one as usize), (0, 32));
            blocks.give(one, size(24));
            assert_eq!(blocks.take(size(32)), one, "of the same class");
            assert_ne!(blocks.take(size(33)), other);
        });
    }

    #[test]
    fn pages_that_are_given_back_are_those_that_nobody_has() {
        // SAFETY: bytes are read and written within blocks that are taken, or have just been.
        Locked::new().with(|blocks| unsafe {
            let (kept, free) = (blocks.take(size(16 << 10)), blocks.take(size(16 << 10)));
            kept.write_bytes(7, 16 << 10);
            free.write_bytes(7, 16 << 10);
            blocks.give(free, size(16 << 10));
            blocks.give_back();
            assert_eq!((kept.add(8 << 10).read(), free.add(8 << 10).read()), (7, 0));
            assert_eq!(blocks.take(size(16 << 10)), free);
            assert_ne!(blocks.take(size(16 << 10)), free);
        });
    }

    #[test]
    fn contents_move_with_a_block_that_grows_and_shrinks_across_the_border() {
        let arena = Arena;
        let mut size = 1;
        // SAFETY: as above; only bytes within the present size are read.
        unsafe {
            let mut pointer = arena.alloc(Layout::from_size_align(size, 1).unwrap());
            pointer.write(7);
            for next in [2, 16, 17, 1000, 1024, 1025, 2049, 32_768, 32_769, 70_000, 1025, 1024, 40, 1] {
                pointer = arena.realloc(pointer, Layout::from_size_align(size, 1).unwrap(), next);
                size = next;
                assert_eq!(pointer.read(), 7, "at {size}");
            }
        }
    }

    #[test]
    fn wider_alignments_are_kept() {
        let arena = Arena;
        // SAFETY: nothing is read or written.
        let pointer = unsafe { arena.alloc(Layout::from_size_align(100, 64).unwrap()) };
        assert_eq!(pointer as usize % 64, 0);
    }
}

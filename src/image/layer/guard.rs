//! Bounds on what a layer's stream makes us read.
use super::Limits;
use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

/// Names, links and extended attributes of one entry; the kernel's own limits on them are far lower.
const HEADERS_LIMIT: u64 = 2 << 20;

/// Shared by the stream and by whoever walks it.
#[derive(Debug, Clone)]
pub(in crate::image) struct Guard(Rc<State>);

#[derive(Debug)]
struct State {
    /// What headers may still read; `None` while an entry's content is read.
    headers: Cell<Option<u64>>,
    total: Cell<u64>,
    /// Where the stream is.
    position: Cell<u64>,
    /// What has been read since headers were expected: padding, then whole blocks.
    header_bytes: RefCell<Vec<u8>>,
    /// Where that began.
    headers_at: Cell<u64>,
    limits: Limits,
    /// What to do about the limit on bytes, for its message.
    way_out: &'static str,
}

impl Guard {
    /// For a stream of no more than these; `way_out` ends the message when it is of more.
    pub(in crate::image) fn new(limits: Limits, way_out: &'static str) -> Self {
        Self(Rc::new(State {
            headers: Cell::new(None),
            total: Cell::new(0),
            position: Cell::new(0),
            header_bytes: RefCell::new(Vec::new()),
            headers_at: Cell::new(0),
            limits,
            way_out,
        }))
    }

    /// From here on headers are read: they are small, whatever their own size field says.
    pub(in crate::image) fn expect_headers(&self) {
        self.0.headers.set(Some(HEADERS_LIMIT));
        self.0.header_bytes.borrow_mut().clear();
        self.0.headers_at.set(self.0.position.get());
    }

    /// Calls with the headers read since they were expected, without the padding before them: a tar stream
    /// has blocks of 512 bytes.
    pub(super) fn with_headers<T>(&self, use_blocks: impl FnOnce(&[u8]) -> T) -> T {
        let padding = self.0.headers_at.get().next_multiple_of(512) - self.0.headers_at.get();
        let bytes = self.0.header_bytes.borrow();
        use_blocks(bytes.get(padding as usize..).unwrap_or_default())
    }

    /// From here on content is read.
    pub(in crate::image) fn expect_content(&self) {
        self.0.headers.set(None);
    }

    pub(in crate::image) fn stream<R: Read>(&self, inner: R) -> Guarded<R> {
        Guarded { inner, guard: self.clone() }
    }

    /// Counts bytes that the stream stands for, whether or not they are in it, such as those of a hole.
    pub(super) fn take(&self, length: u64) -> io::Result<()> {
        let state = &self.0;
        let total = state.total.get().saturating_add(length);
        state.total.set(total);
        if let Some(limit) = state.limits.bytes.filter(|limit| total > *limit) {
            let text = format!("unpacks to more than {limit} bytes; a decompression bomb{}", state.way_out);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let Some(left) = state.headers.get() else { return Ok(()) };
        let left = left.checked_sub(length).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("has headers of more than {HEADERS_LIMIT} bytes"),
            )
        })?;
        state.headers.set(Some(left));
        Ok(())
    }
}

/// A stream under guard.
pub(in crate::image) struct Guarded<R> {
    inner: R,
    guard: Guard,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.guard.take(length as u64)?;
        let state = &self.guard.0;
        state.position.set(state.position.get() + length as u64);
        if state.headers.get().is_some() {
            state.header_bytes.borrow_mut().extend_from_slice(&buffer[..length]);
        }
        Ok(length)
    }
}

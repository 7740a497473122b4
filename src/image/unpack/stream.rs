//! Decompression beside the work on what comes out of it: a thread of its own, a few chunks ahead.
use super::super::compression::{self, Compression};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Small enough for the processor's cache, large enough that handing one over costs nothing beside it.
const CHUNK: usize = 256 << 10;
/// Chunks that wait. The memory of a stream is this and two more, and the decompressor's window.
const AHEAD: usize = 4;

/// Lets `consume` read what `source` decompresses to. The source is read to its end, whatever the end of the
/// compressed stream, so that who digests it has seen all; unless `consume` stops early.
pub(super) fn decompressing<T>(
    source: impl Read + Send,
    window: compression::Window,
    consume: impl FnOnce(&mut Chunks) -> T,
) -> T {
    std::thread::scope(|scope| {
        let (filled, chunks) = sync_channel(AHEAD);
        let (spare, emptied) = channel();
        scope.spawn(move || pump(source, window, &filled, &emptied));
        let mut chunks = Chunks { chunks, spare, current: Vec::new(), position: 0, ended: false };
        consume(&mut chunks)
    })
}

type Chunk = io::Result<Vec<u8>>;

/// A reader that has gone away ends it.
fn pump(
    mut source: impl Read,
    window: compression::Window,
    filled: &SyncSender<Chunk>,
    emptied: &Receiver<Vec<u8>>,
) {
    let pumped = decompress(&mut source, window, filled, emptied);
    let done = pumped.and_then(|()| io::copy(&mut source, &mut io::sink()));
    // The channel's end is the stream's end only when all went well.
    let _ = filled.send(done.map(|_| Vec::new()));
}

fn decompress(
    source: &mut impl Read,
    window: compression::Window,
    filled: &SyncSender<Chunk>,
    emptied: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let (_, mut stream): (Compression, _) = compression::decompressed_within(source, window)?;
    loop {
        let mut chunk = emptied.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let length = fill(&mut stream, &mut chunk)?;
        chunk.truncate(length);
        if length == 0 || filled.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
}

fn fill(stream: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < chunk.len() {
        match stream.read(&mut chunk[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The decompressed stream.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: Receiver<Chunk>,
    spare: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

impl Chunks {
    /// Takes the next chunk; an empty one is the end.
    fn next(&mut self) -> io::Result<()> {
        let used = std::mem::take(&mut self.current);
        // The other side may have ended.
        let _ = self.spare.send(used);
        self.position = 0;
        self.current = match self.chunks.recv() {
            Ok(chunk) => chunk?,
            // Its thread has ended without saying how.
            Err(_) => return Err(io::Error::other("its decompression ended early")),
        };
        self.ended = self.current.is_empty();
        Ok(())
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() && !self.ended {
            self.next()?;
        }
        let length = buffer.len().min(self.current.len() - self.position);
        buffer[..length].copy_from_slice(&self.current[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}

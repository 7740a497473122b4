//! Layers as an image tool, or an attacker, would write them: each field of each tar header is the test's
//! to choose, in the forms of the POSIX and GNU tar manuals.

/// Seconds since 1970 of entries that do not say otherwise: long ago, so that the time of unpacking differs.
pub(crate) const LONG_AGO: i64 = 1_000_000_000;

/// Which of tar's dialects an entry's header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// No magic, no owner names, no device numbers.
    V7,
    /// POSIX 1003.1-1988.
    Ustar,
    /// GNU tar's own; long names in entries of their own.
    Gnu,
}

/// One entry, its header field by field.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u64,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: i64,
    /// What the header claims; the content's length otherwise.
    pub(crate) size: Option<u64>,
    pub(crate) device: (u64, u64),
    pub(crate) content: Vec<u8>,
    pub(crate) pax: Vec<(String, Vec<u8>)>,
    pub(crate) dialect: Dialect,
}

impl Entry {
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            kind,
            name: name.as_ref().to_vec(),
            link: Vec::new(),
            mode: 0o644,
            owner: (0, 0),
            mtime: LONG_AGO,
            size: None,
            device: (0, 0),
            content: Vec::new(),
            pax: Vec::new(),
            dialect: Dialect::Ustar,
        }
    }
    pub(crate) fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self { content: content.as_ref().to_vec(), ..Self::new(b'0', name) }
    }
    pub(crate) fn directory(name: impl AsRef<[u8]>) -> Self {
        Self { mode: 0o755, ..Self::new(b'5', name) }
    }
    pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { mode: 0o777, link: target.as_ref().to_vec(), ..Self::new(b'2', name) }
    }
    pub(crate) fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(b'1', name) }
    }
    pub(crate) fn fifo(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'6', name)
    }
    /// A character device.
    pub(crate) fn character(name: impl AsRef<[u8]>, major: u64, minor: u64) -> Self {
        Self { device: (major, minor), ..Self::new(b'3', name) }
    }
    pub(crate) fn block(name: impl AsRef<[u8]>, major: u64, minor: u64) -> Self {
        Self { device: (major, minor), ..Self::new(b'4', name) }
    }
    /// Hides the last name of this path: `whiteout("d/gone")`.
    pub(crate) fn whiteout(path: &str) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        Self::file(format!("{directory}/.wh.{name}"), "")
    }
    /// Hides what lower layers have in this directory.
    pub(crate) fn opaque(directory: &str) -> Self {
        Self::file(format!("{directory}/.wh..wh..opq"), "")
    }
    pub(crate) fn mode(self, mode: u64) -> Self {
        Self { mode, ..self }
    }
    pub(crate) fn owner(self, user: u64, group: u64) -> Self {
        Self { owner: (user, group), ..self }
    }
    pub(crate) fn mtime(self, mtime: i64) -> Self {
        Self { mtime, ..self }
    }
    /// A size that need not be the content's.
    pub(crate) fn claiming(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }
    pub(crate) fn dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }
    /// A record of the extended header before it.
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }
    pub(crate) fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    fn write(&self, into: &mut Vec<u8>) {
        let mut pax = self.pax.clone();
        for (key, text) in [("path", &self.name), ("linkpath", &self.link)] {
            if text.len() <= 100 {
                continue;
            }
            match self.dialect {
                Dialect::Gnu => {
                    let kind = if key == "path" { b'L' } else { b'K' };
                    let long =
                        Self { content: [text, &b"\0"[..]].concat(), ..Self::new(kind, "././@LongLink") };
                    long.dialect(Dialect::Gnu).block_and_content(into);
                }
                _ if pax.iter().any(|(given, _)| given == key) => {}
                _ => pax.push((key.to_owned(), text.clone())),
            }
        }
        if !pax.is_empty() {
            let content = pax.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
            Self { content, ..Self::new(b'x', "PaxHeaders/entry") }.block_and_content(into);
        }
        self.block_and_content(into);
    }

    fn block_and_content(&self, into: &mut Vec<u8>) {
        into.extend(self.header());
        into.extend(&self.content);
        into.resize(into.len().next_multiple_of(512), 0);
    }

    /// The 512 bytes: POSIX 1003.1, pax(1), "ustar Interchange Format".
    pub(crate) fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, &number(self.mode, 8));
        put(108, &number(self.owner.0, 8));
        put(116, &number(self.owner.1, 8));
        put(124, &number(self.size.unwrap_or(self.content.len() as u64), 12));
        put(136, &signed(self.mtime, 12));
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        match self.dialect {
            Dialect::V7 => {}
            Dialect::Ustar => put(257, b"ustar\x0000"),
            Dialect::Gnu => put(257, b"ustar  \0"),
        }
        if self.dialect != Dialect::V7 {
            put(329, &number(self.device.0, 8));
            put(337, &number(self.device.1, 8));
        }
        checksummed(block)
    }
}

/// The header with its checksum: the sum of all bytes, the field itself counted as spaces.
pub(crate) fn checksummed(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Octal when it fits, otherwise GNU's base-256: the manual's "Tar Internals", "numeric fields".
fn number(value: u64, width: usize) -> Vec<u8> {
    let octal = format!("{value:0width$o}\0", width = width - 1);
    if octal.len() <= width { octal.into_bytes() } else { base_256(value as i64, width) }
}

fn signed(value: i64, width: usize) -> Vec<u8> {
    u64::try_from(value).map_or_else(|_| base_256(value, width), |value| number(value, width))
}

fn base_256(value: i64, width: usize) -> Vec<u8> {
    let fill = if value < 0 { 0xff } else { 0 };
    let mut field = vec![fill; width];
    let bytes = value.to_be_bytes();
    let used = bytes.len().min(width);
    field[width - used..].copy_from_slice(&bytes[bytes.len() - used..]);
    field[0] |= 0x80;
    field
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
pub(crate) fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// The entries as a tar stream, with its end.
pub(crate) fn layer(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        entry.write(&mut bytes);
    }
    bytes.extend([0; 1024]);
    keep_for_fuzzing(&bytes);
    bytes
}

/// With `WHARF_FUZZ_CORPUS=DIR`, keeps a layer as a start for fuzzing: scripts/fuzz corpus.
pub(crate) fn keep_for_fuzzing(stream: &[u8]) {
    let Some(directory) = std::env::var_os("WHARF_FUZZ_CORPUS") else { return };
    let end = stream.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last + 1).next_multiple_of(512));
    let stream = &stream[..end.min(stream.len())];
    if stream.len() < 8 << 10 {
        let name = &super::layout::digest(stream)["sha256:".len()..][..16];
        std::fs::write(std::path::Path::new(&directory).join(name), stream).unwrap();
    }
}

//! An upper directory becomes a layer: a tar stream as image-spec layer.md has it, the same bytes for the same
//! tree.
//!
//! Headers are POSIX ustar; what does not fit is in PAX records: long names, times to the nanosecond, extended
//! attributes as `SCHILY.xattr.NAME`.
use super::whiteout::{OPAQUE, PREFIX};
use crate::image::Error;
use crate::image::upper::{Entry, Kind, UpperDirectory, attributes, display};
use rustix::fs::{FileType, Stat};
use std::collections::HashMap;
use std::io::{self, Read as _, Write};
use tar::{Builder, EntryType, Header};

/// Writes everything below `upper`, and the directory itself, as a layer over those that the upper lies on.
///
/// # Errors
/// Names the path that cannot be read or that no layer can hold; what was written until then is of no use.
pub(in crate::image) fn write<W: Write>(upper: &UpperDirectory<'_>, stream: W) -> Result<W, Error> {
    let mut writer = Writer { upper, tar: Builder::new(stream), links: HashMap::new() };
    writer.root()?;
    upper.walk(&(), &mut |entry, ()| writer.entry(entry))?;
    writer.tar.into_inner().map_err(unwritable)
}

fn unwritable(source: io::Error) -> Error {
    Error::File { action: "write", path: "the layer".to_owned(), source }
}

struct Writer<'a, W: Write> {
    upper: &'a UpperDirectory<'a>,
    tar: Builder<W>,
    /// Files of several names, by device and inode, and their first name.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Writer<'_, W> {
    fn root(&mut self) -> Result<(), Error> {
        let root = self.upper.root()?;
        self.directory(&root, false)
    }

    /// Writes an entry; tells whether there is more below it.
    fn entry(&mut self, entry: &Entry) -> Result<Option<()>, Error> {
        if entry.name().starts_with(PREFIX) {
            return Err(refuse(entry, "has a name that means a removal in a layer; rename or remove it"));
        }
        match entry.kind {
            Kind::Directory { opaque } => return self.directory(entry, opaque).map(Some),
            Kind::Whiteout => self.mark(&whiteout_of(&entry.path))?,
            // A layer holds no sockets; what the image has at its name is gone all the same.
            Kind::Other(FileType::Socket) => self.mark(&whiteout_of(&entry.path))?,
            Kind::Other(kind) => self.other(entry, kind)?,
        }
        Ok(None)
    }

    fn directory(&mut self, entry: &Entry, opaque: bool) -> Result<(), Error> {
        let name = if entry.path.is_empty() { b"./".to_vec() } else { [&entry.path[..], b"/"].concat() };
        let (header, records) = self.header(entry, EntryType::Directory, &name)?;
        self.append(header, &records, &mut io::empty())?;
        if opaque {
            self.mark(&[&name[..], OPAQUE].concat())?;
        }
        Ok(())
    }

    fn other(&mut self, entry: &Entry, kind: FileType) -> Result<(), Error> {
        if entry.stat.st_nlink > 1 {
            let file = (entry.stat.st_dev, entry.stat.st_ino);
            if let Some(first) = self.links.get(&file).cloned() {
                let (mut header, mut records) = self.header(entry, EntryType::Link, &entry.path)?;
                records.retain(|(key, _)| key == PATH);
                set_link(&mut header, &mut records, &first);
                return self.append(header, &records, &mut io::empty());
            }
            self.links.insert(file, entry.path.clone());
        }
        let (header, records) = match kind {
            FileType::RegularFile => return self.file(entry),
            FileType::Symlink => {
                let (mut header, mut records) = self.header(entry, EntryType::Symlink, &entry.path)?;
                set_link(&mut header, &mut records, &entry.link_target()?);
                (header, records)
            }
            FileType::Fifo => self.header(entry, EntryType::Fifo, &entry.path)?,
            FileType::CharacterDevice => self.device(entry, EntryType::Char)?,
            FileType::BlockDevice => self.device(entry, EntryType::Block)?,
            _ => return Err(refuse(entry, "is of a kind that no layer can hold")),
        };
        self.append(header, &records, &mut io::empty())
    }

    fn device(&self, entry: &Entry, kind: EntryType) -> Result<(Header, Records), Error> {
        let (mut header, records) = self.header(entry, kind, &entry.path)?;
        let number = entry.stat.st_rdev;
        header.set_device_major(rustix::fs::major(number)).map_err(unwritable)?;
        header.set_device_minor(rustix::fs::minor(number)).map_err(unwritable)?;
        Ok((header, records))
    }

    fn file(&mut self, entry: &Entry) -> Result<(), Error> {
        let (mut header, records) = self.header(entry, EntryType::Regular, &entry.path)?;
        let size = u64::try_from(entry.stat.st_size).unwrap_or(0);
        header.set_size(size);
        let mut content = entry.open_file()?.take(size);
        self.append(header, &records, &mut content)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(refuse(entry, "became shorter while it was read; commit while nothing writes to it")),
        }
    }

    /// The common part of a header, and the records for what does not fit into it.
    fn header(&self, entry: &Entry, kind: EntryType, name: &[u8]) -> Result<(Header, Records), Error> {
        let mut header = Header::new_ustar();
        let stat = &entry.stat;
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(self.inside(entry, stat.st_uid)?.into());
        header.set_gid(self.inside(entry, stat.st_gid)?.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        let mut records = Records::new();
        put(&mut header.as_old_mut().name, name, PATH, &mut records);
        if stat.st_mtime_nsec != 0 || stat.st_mtime < 0 {
            records.push(("mtime".to_owned(), pax_time(stat).into_bytes()));
        }
        for (name, value) in attributes(entry, self.upper.ids)? {
            if name.contains(['=', '\u{fffd}']) {
                return Err(refuse(entry, "has an attribute whose name no layer can hold"));
            }
            records.push((format!("SCHILY.xattr.{name}"), value));
        }
        Ok((header, records))
    }

    fn inside(&self, entry: &Entry, host: u32) -> Result<u32, Error> {
        let inside = self.upper.ids.map_or(Some(host), |ids| ids.to_inside(host));
        inside.ok_or_else(|| {
            refuse(entry, &format!("belongs to id {host} of the host, which the instance does not have"))
        })
    }

    /// An empty file whose name means something.
    fn mark(&mut self, name: &[u8]) -> Result<(), Error> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let mut records = Records::new();
        put(&mut header.as_old_mut().name, name, PATH, &mut records);
        self.append(header, &records, &mut io::empty())
    }

    fn append(
        &mut self,
        mut header: Header,
        records: &Records,
        content: &mut dyn io::Read,
    ) -> Result<(), Error> {
        if !records.is_empty() {
            let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.tar.append_pax_extensions(records).map_err(unwritable)?;
        }
        header.set_cksum();
        self.tar.append(&header, content).map_err(unwritable)
    }
}

/// Keys and values of an extended header, pax(1).
type Records = Vec<(String, Vec<u8>)>;

const PATH: &str = "path";

/// Into the header's field, or a record when it is too long for that.
fn put(field: &mut [u8], text: &[u8], key: &str, records: &mut Records) {
    let fits = text.len().min(field.len());
    field[..fits].copy_from_slice(&text[..fits]);
    if fits < text.len() {
        records.push((key.to_owned(), text.to_vec()));
    }
}

fn set_link(header: &mut Header, records: &mut Records, target: &[u8]) {
    put(&mut header.as_old_mut().linkname, target, "linkpath", records);
}

fn whiteout_of(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..end], PREFIX, &path[end..]].concat()
}

/// `seconds[.fraction]`; a timespec's nanoseconds count upwards, also before 1970.
fn pax_time(stat: &Stat) -> String {
    let nanos = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, fraction) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let text = format!("{sign}{seconds}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn refuse(entry: &Entry, reason: &str) -> Error {
    Error::invalid(display(&entry.path), reason)
}

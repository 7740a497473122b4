//! The extended headers before an entry: PAX records, pax(1) "pax Extended Header", and GNU's long names.
//!
//! A record ends where its length says. The tar crate ends it at a line break, so it loses records with a line
//! break in a name or an attribute, and could be shown records that are part of another's value. What it
//! makes of names and sizes therefore is checked against the records as they are.
use std::borrow::Cow;
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// What extended headers say of one entry.
#[derive(Debug, Default)]
pub(super) struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<(String, Vec<u8>)>,
}

impl Extended {
    /// Reads the blocks before an entry's own header.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn parse(mut blocks: &[u8]) -> Result<Self, &'static str> {
        let mut extended = Self::default();
        while let Some((block, rest)) = blocks.split_at_checked(BLOCK) {
            let header = Header::from_byte_slice(block);
            let kind = header.entry_type();
            if header.as_gnu().is_none() && header.as_ustar().is_none() {
                break;
            }
            let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok());
            let content = || size.and_then(|size| rest.get(..size)).ok_or("has a malformed extended header");
            match kind {
                EntryType::GNULongName => extended.name = Some(until_nul(content()?)),
                EntryType::GNULongLink => extended.link = Some(until_nul(content()?)),
                EntryType::XHeader => extended.records = records(content()?)?,
                _ => break,
            }
            blocks = rest.get(content()?.len().next_multiple_of(BLOCK)..).unwrap_or_default();
        }
        extended.check_repeats()?;
        Ok(extended)
    }

    pub(super) fn records(&self) -> &[(String, Vec<u8>)] {
        &self.records
    }

    /// The entry's path, as the last of those that can state it does; all must agree.
    pub(super) fn name<'a>(&'a self, header: &'a Header) -> Result<Cow<'a, [u8]>, &'static str> {
        choose(self.record("path"), self.name.as_deref())
            .map(|name| name.map_or_else(|| header.path_bytes(), Cow::Borrowed))
    }

    /// The entry's link target.
    pub(super) fn link<'a>(&'a self, header: &'a Header) -> Result<Option<Cow<'a, [u8]>>, &'static str> {
        let stated = choose(self.record("linkpath"), self.link.as_deref())?;
        Ok(stated.map(Cow::Borrowed).or_else(|| header.link_name_bytes()))
    }

    /// Whether this is the size of the entry's content. (Content decides where the next entry starts.)
    pub(super) fn check_size(&self, header: &Header, size: u64) -> Result<(), &'static str> {
        let stated = match self.record("size") {
            Some(text) if text.is_empty() || !text.iter().all(u8::is_ascii_digit) => None,
            Some(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            // A sparse file's content is shorter than the file, which the tar crate's size is of.
            None if header.entry_type() == EntryType::GNUSparse => return Ok(()),
            None => header.entry_size().ok(),
        };
        if stated == Some(size) { Ok(()) } else { Err("has a malformed size; refused") }
    }

    fn record(&self, key: &str) -> Option<&[u8]> {
        self.records.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_slice())
    }

    /// Readers disagree on which of several counts, and a layer could show each another content
    /// (CVE-2025-62518, CVE-2026-33055).
    fn check_repeats(&self) -> Result<(), &'static str> {
        let once = |key: &str| self.records.iter().filter(|(known, _)| known == key).count() <= 1;
        match ["size", "path", "linkpath"].into_iter().all(once) {
            true => Ok(()),
            false => Err("states its size or name twice; refused"),
        }
    }
}

/// The records of an extended header.
///
/// # Errors
/// What is wrong with them.
pub(super) fn records(mut content: &[u8]) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    const MALFORMED: &str = "has a malformed extended header";
    let mut records = Vec::new();
    while !content.is_empty() {
        let space = content.iter().take(20).position(|byte| *byte == b' ').ok_or(MALFORMED)?;
        let digits = content[..space].iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(&content[..space]).ok().filter(|_| digits);
        let length: usize = length.and_then(|text| text.parse().ok()).ok_or(MALFORMED)?;
        let record = content.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
        let record = record.ok_or(MALFORMED)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(MALFORMED)?;
        let key = std::str::from_utf8(&record[..equals]);
        let key = key.map_err(|_| "has an extended header that is not UTF-8")?;
        records.push((key.to_owned(), record[equals + 1..].to_vec()));
        content = &content[length..];
    }
    Ok(records)
}

fn choose<'a>(one: Option<&'a [u8]>, other: Option<&'a [u8]>) -> Result<Option<&'a [u8]>, &'static str> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err("has two different names; refused"),
        _ => Ok(one.or(other)),
    }
}

fn until_nul(text: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_ends_where_its_length_says() {
        let read = records(b"11 path=a\nb\n9 a=\n13 \n11 size=9\n".as_slice());
        assert!(read.is_err());
        let read = records(b"12 path=a\nb\n13 a=12 a=b\n\n5 c=\n").unwrap();
        let expected = [("path", &b"a\nb"[..]), ("a", b"12 a=b\n"), ("c", b"")];
        let read: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        assert_eq!(read, expected);
        for malformed in
            ["\n", "x", "5 a=b", "99 a=b\n", "3 \n", "+6 a=b\n", "6 a=b\n\0", "-6 a=b\n", "6  a=\n"]
        {
            assert!(records(malformed.as_bytes()).is_err() || malformed == "6  a=\n", "{malformed:?}");
        }
    }
}

//! Records of an extended header: pax(1), "pax Extended Header". A record ends where its length says, whatever
//! bytes are in it; readers that look for line breaks see other records than those that were written
//! (CVE-2025-62518 is of this kind).

/// Records in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    /// Reads `LENGTH KEY=VALUE\n` to the end.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (record, rest) = split(bytes).ok_or("has a malformed extended header; refused")?;
            let equals =
                record.iter().position(|byte| *byte == b'=').ok_or("has a record without '='; refused")?;
            let key = std::str::from_utf8(&record[..equals])
                .map_err(|_| "has an extended header that is not UTF-8; refused")?;
            records.push((key.to_owned(), record[equals + 1..].to_vec()));
            bytes = rest;
        }
        Ok(Self(records))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// The value of a record that must have one meaning: one that is repeated has none.
    pub(super) fn decisive(&self, wanted: &str) -> Result<Option<&[u8]>, &'static str> {
        let mut values = self.iter().filter(|(key, _)| *key == wanted).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err("states its size or name twice; refused"),
            (value, None) => Ok(value),
        }
    }

    /// A decisive number, decimal digits alone.
    pub(super) fn number(&self, wanted: &str) -> Result<Option<u64>, &'static str> {
        let Some(value) = self.decisive(wanted)? else { return Ok(None) };
        let digits = Some(value).filter(|value| value.iter().all(u8::is_ascii_digit));
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        number.map(Some).ok_or("has a malformed size or owner; refused")
    }
}

/// The first record, without its length and line break, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let digits = Some(&bytes[..space]).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_ends_where_its_length_says() {
        let records = Records::parse(b"21 user.x=\n9 size=9\n\n9 path=a\n").unwrap();
        let found: Vec<_> = records.iter().collect();
        assert_eq!(found, [("user.x", &b"\n9 size=9\n"[..]), ("path", b"a")]);
        assert_eq!(records.number("size"), Ok(None));
    }

    #[test]
    fn what_readers_disagree_on_is_refused() {
        for bad in ["9 path=a", "99 path=a\n", "0 a=b\n", "+9 path=a\n", "6 abc\n", "5 a=b\n", "x a=b\n"] {
            assert!(Records::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let twice = Records::parse(b"9 size=1\n9 size=1\n").unwrap();
        assert!(twice.decisive("size").is_err());
        for bad in [&b"11 size=+1\n"[..], b"8 size=\n"] {
            assert!(Records::parse(bad).unwrap().number("size").is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Records::parse(&bytes);
        }

        #[test]
        fn what_was_written_is_read(key in "[a-zA-Z.]{1,12}", value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let bare = key.len() + value.len() + 3;
            let length = (bare + 1..bare + 5).find(|length| bare + length.to_string().len() == *length).unwrap();
            let mut record = format!("{length} {key}=").into_bytes();
            record.extend(&value);
            record.push(b'\n');
            let records = Records::parse(&record).unwrap();
            prop_assert_eq!(records.iter().collect::<Vec<_>>(), vec![(key.as_str(), value.as_slice())]);
        }
    }
}

//! As much of protobuf's wire format as CRIU's messages need: a message is a row of fields, each a number
//! and an integer or a row of bytes, <https://protobuf.dev/programming-guides/encoding/>.

/// A message that is being put together.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

/// What a field of a received message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// `int32`, `uint32`, `bool` and enumerations.
    Integer(u64),
    /// `string`, and messages within messages.
    Bytes(&'a [u8]),
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The low three bits of a field's key: how long its value is.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

impl Message {
    /// A negative number takes ten bytes, for it is extended to 64 bits.
    pub(super) fn integer(&mut self, field: u32, value: i64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value as u64);
    }

    /// What is not set is left out; CRIU takes it for its default, false.
    pub(super) fn flag(&mut self, field: u32, set: bool) {
        if set {
            self.integer(field, 1);
        }
    }

    /// Text or other bytes.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn message(&mut self, field: u32, message: &Self) {
        self.bytes(field, &message.0);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The fields of a message in their order; those of fixed length, which CRIU does not use, are passed over.
pub(super) fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let field = key >> 3;
        match key & 7 {
            VARINT => found.push((field, Value::Integer(take_varint(&mut bytes)?))),
            LENGTH => {
                let length = usize::try_from(take_varint(&mut bytes)?).map_err(|_| Malformed)?;
                found.push((field, Value::Bytes(take(&mut bytes, length)?)));
            }
            FIXED_64 => drop(take(&mut bytes, 8)?),
            FIXED_32 => drop(take(&mut bytes, 4)?),
            _ => return Err(Malformed),
        }
    }
    Ok(found)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first().ok_or(Malformed)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_as_the_encoding_guide_shows_them() {
        let mut message = Message::default();
        message.integer(1, 150);
        assert_eq!(message.as_bytes(), [0x08, 0x96, 0x01]);
        let mut outer = Message::default();
        outer.message(3, &message);
        assert_eq!(outer.as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let mut text = Message::default();
        text.bytes(2, b"testing");
        assert_eq!(text.as_bytes(), b"\x12\x07testing");
        let mut negative = Message::default();
        negative.integer(1, -2);
        assert_eq!(negative.as_bytes(), b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        let mut unset = Message::default();
        unset.flag(9, false);
        assert!(unset.as_bytes().is_empty());
    }

    #[test]
    fn unknown_fields_are_passed_over_and_cut_ones_refused() {
        let fixed = b"\x0d\0\0\0\0\x11\0\0\0\0\0\0\0\0\x18\x07";
        assert_eq!(fields(fixed), Ok(vec![(3, Value::Integer(7))]));
        for bad in [&b"\x08"[..], b"\x08\x80", b"\x12\x05abc", b"\x0b", b"\x0d\0", &[0xff; 11]] {
            assert_eq!(fields(bad), Err(Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_bytes_make_the_reader_panic(
            field in 1u32..1 << 29, number: i64, text: Vec<u8>, noise: Vec<u8>
        ) {
            let mut message = Message::default();
            message.integer(field, number);
            message.bytes(field, &text);
            let read = fields(message.as_bytes()).expect("well-formed");
            let field = u64::from(field);
            prop_assert_eq!(read, vec![(field, Value::Integer(number as u64)), (field, Value::Bytes(&text))]);
            let _ = fields(&noise);
        }
    }
}

//! D-Bus messages as bytes: D-Bus specification "Marshaling (Wire Format)" and "Message Format".
//!
//! Only what a client of systemd needs: method calls with bodies of any type go out; of what comes in,
//! the header and the leading strings and numbers of the body are read.

/// Longer messages than this are not for us; the specification allows 128 MiB.
pub(super) const LONGEST: usize = 1 << 20;
/// The part of the header before its fields.
pub(super) const FIXED_HEADER: usize = 16;

/// A value with its D-Bus type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The signature of the elements, for an empty array has none to tell it.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".to_owned(),
            Self::Bool(_) => "b".to_owned(),
            Self::Int16(_) => "n".to_owned(),
            Self::Uint16(_) => "q".to_owned(),
            Self::Int32(_) => "i".to_owned(),
            Self::Uint32(_) => "u".to_owned(),
            Self::Int64(_) => "x".to_owned(),
            Self::Uint64(_) => "t".to_owned(),
            Self::Double(_) => "d".to_owned(),
            Self::Text(_) => "s".to_owned(),
            Self::Path(_) => "o".to_owned(),
            Self::Signature(_) => "g".to_owned(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => format!("({})", signature_of(fields)),
            Self::Variant(_) => "v".to_owned(),
        }
    }

    fn alignment(&self) -> usize {
        match self {
            Self::Byte(_) | Self::Signature(_) | Self::Variant(_) => 1,
            Self::Int16(_) | Self::Uint16(_) => 2,
            Self::Int64(_) | Self::Uint64(_) | Self::Double(_) | Self::Struct(_) => 8,
            _ => 4,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        align(out, self.alignment());
        match self {
            Self::Byte(value) => out.push(*value),
            Self::Bool(value) => out.extend(u32::from(*value).to_le_bytes()),
            Self::Int16(value) => out.extend(value.to_le_bytes()),
            Self::Uint16(value) => out.extend(value.to_le_bytes()),
            Self::Int32(value) => out.extend(value.to_le_bytes()),
            Self::Uint32(value) => out.extend(value.to_le_bytes()),
            Self::Int64(value) => out.extend(value.to_le_bytes()),
            Self::Uint64(value) => out.extend(value.to_le_bytes()),
            Self::Double(value) => out.extend(value.to_le_bytes()),
            Self::Text(text) | Self::Path(text) => {
                out.extend(length(text.len()));
                out.extend(text.bytes().chain([0]));
            }
            Self::Signature(text) => write_signature(text, out),
            Self::Array(element, values) => write_array(element, values, out),
            Self::Struct(fields) => fields.iter().for_each(|field| field.write(out)),
            Self::Variant(value) => {
                write_signature(&value.signature(), out);
                value.write(out);
            }
        }
    }
}

/// Whether a text can stand in a message: D-Bus strings end at the first NUL.
pub(super) fn is_representable(text: &str) -> bool {
    !text.contains('\0') && text.len() < LONGEST / 2
}

fn signature_of(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

fn align(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

fn write_signature(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.bytes().chain([0]));
}

/// The length counts neither itself nor the padding before the first element.
fn write_array(element: &str, values: &[Value], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend([0; 4]);
    let alignment = match element.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    };
    align(out, alignment);
    let start = out.len();
    values.iter().for_each(|value| value.write(out));
    let size = length(out.len() - start);
    out[at..at + 4].copy_from_slice(&size);
}

/// A method to be called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
}

/// The bytes of a call.
pub(super) fn call(method: Method, serial: u32, arguments: &[Value]) -> Vec<u8> {
    const METHOD_CALL: u8 = 1;
    const PROTOCOL: u8 = 1;
    let mut body = Vec::new();
    arguments.iter().for_each(|argument| argument.write(&mut body));
    let field =
        |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
    let mut fields = vec![
        field(1, Value::Path(method.path.to_owned())),
        field(2, Value::text(method.interface)),
        field(3, Value::text(method.member)),
        field(6, Value::text(method.destination)),
    ];
    if !arguments.is_empty() {
        fields.push(field(8, Value::Signature(signature_of(arguments))));
    }
    let mut message = vec![b'l', METHOD_CALL, 0, PROTOCOL];
    message.extend(length(body.len()));
    message.extend(serial.to_le_bytes());
    Value::Array("(yv)".to_owned(), fields).write(&mut message);
    align(&mut message, 8);
    message.extend(body);
    message
}

/// What a message that came in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// Serial of the call that this answers.
    pub(super) reply_to: Option<u32>,
    pub(super) member: String,
    pub(super) error: String,
    signature: String,
    body: Vec<u8>,
    big_endian: bool,
}

impl Message {
    /// The strings (also object paths, and strings in variants) that the body begins with; numbers between them are passed over.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut reader = Reader { bytes: &self.body, at: 0, big_endian: self.big_endian };
        let mut texts = Vec::new();
        for kind in self.signature.bytes() {
            let read = match kind {
                b's' | b'o' => reader.text().map(|text| texts.push(text)),
                b'v' if reader.signature().as_deref() == Some("s") => {
                    reader.text().map(|text| texts.push(text))
                }
                b'u' | b'i' | b'b' => reader.number().map(drop),
                _ => None,
            };
            if read.is_none() {
                break;
            }
        }
        texts
    }
}

/// How long the message is that begins with these bytes; `None` when that is no message, or none for us.
pub(super) fn message_length(fixed: &[u8; FIXED_HEADER]) -> Option<usize> {
    let mut reader = Reader { bytes: fixed, at: 4, big_endian: fixed[0] == b'B' };
    let body = reader.number()? as usize;
    reader.number()?;
    let fields = reader.number()? as usize;
    let header = FIXED_HEADER.checked_add(fields)?.checked_next_multiple_of(8)?;
    header.checked_add(body).filter(|length| *length <= LONGEST)
}

/// Reads a whole message; `None` when it breaks the specification's rules.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let big_endian = match bytes.first()? {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    let kind = match bytes.get(1)? {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        _ => Kind::Signal,
    };
    let mut reader = Reader { bytes, at: 12, big_endian };
    let fields_end = FIXED_HEADER.checked_add(reader.number()? as usize)?;
    let mut message = Message {
        kind,
        reply_to: None,
        member: String::new(),
        error: String::new(),
        signature: String::new(),
        body: bytes.get(fields_end.checked_next_multiple_of(8)?..)?.to_vec(),
        big_endian,
    };
    while reader.at < fields_end {
        reader.align(8);
        let code = reader.byte()?;
        match (reader.signature()?.as_str(), code) {
            ("s", 3) => message.member = reader.text()?,
            ("s", 4) => message.error = reader.text()?,
            ("g", 8) => message.signature = reader.signature()?,
            ("u", 5) => message.reply_to = Some(reader.number()?),
            ("s" | "o", _) => drop(reader.text()?),
            ("g", _) => drop(reader.signature()?),
            ("u", _) => drop(reader.number()?),
            _ => return None,
        }
    }
    Some(message)
}

#[derive(Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl Reader<'_> {
    fn align(&mut self, alignment: usize) {
        self.at = self.at.next_multiple_of(alignment);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        let big_endian = self.big_endian;
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok();
        self.byte()?;
        text
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8(self.take(length)?.to_vec()).ok();
        self.byte()?;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PING: Method = Method { destination: "a.b", path: "/a", interface: "a.b.C", member: "Ping" };

    #[test]
    fn a_call_reads_back_as_it_was_written() {
        let bytes = call(PING, 7, &[Value::Uint32(1), Value::text("two"), Value::Path("/three".to_owned())]);
        let fixed: [u8; FIXED_HEADER] = bytes[..FIXED_HEADER].try_into().unwrap();
        assert_eq!(message_length(&fixed), Some(bytes.len()));
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (Kind::Call, "Ping"));
        assert_eq!(message.texts(), ["two", "/three"]);
    }

    #[test]
    fn values_are_aligned_as_the_specification_says() {
        let properties = Value::Array(
            "(sv)".to_owned(),
            vec![Value::Struct(vec![Value::text("Id"), Value::Variant(Box::new(Value::Uint64(5)))])],
        );
        let mut out = vec![0xff];
        properties.write(&mut out);
        let expected = [
            &[0xff, 0, 0, 0][..],
            &[24, 0, 0, 0],
            &[2, 0, 0, 0, b'I', b'd', 0],
            &[1, b't', 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(out, expected);
        assert_eq!(properties.signature(), "a(sv)");
    }

    #[test]
    fn an_empty_array_keeps_its_padding() {
        let mut out = Vec::new();
        Value::Array("(sv)".to_owned(), Vec::new()).write(&mut out);
        assert_eq!(out, [0; 8]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            if let Some(message) = parse(&bytes) {
                message.texts();
            }
            if let Some(fixed) = bytes.first_chunk() {
                message_length(fixed);
            }
        }

        #[test]
        fn a_damaged_call_makes_the_reader_not_panic(at in 0..80usize, to: u8) {
            let mut bytes = call(PING, 7, &[Value::text("two"), Value::Uint32(1)]);
            let at = at % bytes.len();
            bytes[at] = to;
            if let Some(message) = parse(&bytes) {
                message.texts();
            }
        }
    }
}

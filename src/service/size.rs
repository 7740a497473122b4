//! Bytes for people.
use bytesize::ByteSize;

/// Bytes in powers of 1024, with one decimal where it says something: `64 MiB`, `1.5 GiB`.
pub fn size_in_words(bytes: u64) -> String {
    ByteSize::b(bytes).to_string().replace(".0 ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_sizes_have_no_decimals() {
        for (bytes, words) in [(0, "0 B"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (1536, "1.5 KiB")] {
            assert_eq!(size_in_words(bytes), words);
        }
    }
}

//! Protocol Buffers' zig-zag varints, and a bounds-checked reader of the fields that records are made of.

/// Reads fields off the front of a slice. Every method answers `None` instead of reading past the end; after that the
/// position is unspecified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read.
    pub(super) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }

    /// At most ten bytes.
    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(unzigzag(u64::from(first)));
        }
        let mut raw = u64::from(first & 0x7f);
        for shift in (7..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return None; // more than 64 bits
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(unzigzag(raw));
            }
        }
        None
    }

    /// A varlong that fits in 32 bits.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.varlong()?).ok()
    }

    /// A varint length and that many bytes; -1 means none.
    #[inline]
    pub(super) fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            len => Some(Some(self.take(usize::try_from(len).ok()?)?)),
        }
    }

    /// One header: a name, which is text, and a value.
    pub(super) fn header(&mut self) -> Option<(&'a str, Option<&'a [u8]>)> {
        let name = std::str::from_utf8(self.nullable_bytes()??).ok()?;
        Some((name, self.nullable_bytes()?))
    }
}

#[expect(clippy::cast_possible_wrap, reason = "zig-zag: the bits are the meaning")]
fn unzigzag(raw: u64) -> i64 {
    ((raw >> 1) as i64) ^ -((raw & 1) as i64)
}

#[expect(clippy::cast_sign_loss, reason = "zig-zag: the bits are the meaning")]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push(low_byte(raw) | 0x80);
        raw >>= 7;
    }
    out.push(low_byte(raw));
}

fn low_byte(raw: u64) -> u8 {
    raw.to_le_bytes()[0]
}

/// How many bytes [`put`] appends.
pub(super) fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_numbers_take_one_byte_as_in_kafka() {
        for (value, encoded) in [(0, [0x00]), (-1, [0x01]), (1, [0x02]), (63, [0x7e]), (-64, [0x7f])] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, encoded, "{value}");
        }
    }

    #[test]
    fn an_encoding_of_more_than_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).varlong(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varlong(), None);
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).varlong(),
            Some(i64::MIN)
        );
    }

    proptest! {
        #[test]
        fn what_is_put_is_read_back(value: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varlong(), Some(value));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.header().is_some() {}
            prop_assert!(reader.rest().len() <= bytes.len());
        }
    }
}

//! Option values as setsockopt(2) and getsockopt(2) take them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem;

use libc::{c_int, linger, socklen_t, timeval};

use crate::options::names::Name;
use crate::options::value::{OFF, Value};

/// The C type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `int`, or `unsigned int`.
    Int,
    /// `struct linger`, of seconds, or [`OFF`].
    Linger,
    /// `struct timeval`, of milliseconds.
    Timeval,
    /// A string without its null byte.
    Name,
    /// `unsigned int`; from Linux 4.20 on also `unsigned long`, where that is too small (`SO_MAX_PACING_RATE`).
    Rate,
}

/// The bytes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Payload {
    bytes: [u8; Self::SIZE],
    len: u8,
}

impl Payload {
    /// The longest.
    pub const SIZE: usize = 16;

    /// Room for a value that the kernel writes.
    #[must_use]
    pub const fn room() -> Self {
        Self { bytes: [0; Self::SIZE], len: 16 }
    }

    fn of<const N: usize>(value: [u8; N]) -> Self {
        let mut payload = Self { bytes: [0; Self::SIZE], len: 0 };
        if let (Some(target), Ok(len)) = (payload.bytes.get_mut(..N), u8::try_from(N)) {
            target.copy_from_slice(&value);
            payload.len = len;
        }
        payload
    }

    fn part<const N: usize>(&self) -> [u8; N] {
        let mut part = [0; N];
        for (to, from) in part.iter_mut().zip(&self.bytes) {
            *to = *from;
        }
        part
    }

    /// Where the value begins.
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// Where the kernel may write it.
    #[must_use]
    pub const fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Its length.
    #[must_use]
    pub fn socklen(&self) -> socklen_t {
        self.len.into()
    }
}

impl Wire {
    /// The bytes of a value; `None` if it is not of this type, which no row's kind gives.
    #[must_use]
    pub fn encode(self, value: &Value) -> Option<Payload> {
        Some(match (self, value) {
            (Self::Int | Self::Rate, Value::Int(n)) if u32::try_from(*n).is_ok() => {
                Payload::of(u32::try_from(*n).ok()?.to_ne_bytes())
            }
            (Self::Rate, Value::Int(n)) => Payload::of(n.to_ne_bytes()),
            (Self::Linger, Value::Int(n)) => {
                let seconds = c_int::try_from(*n).ok()?;
                let value = if *n == OFF { [0, 0] } else { [1, seconds] };
                // SAFETY: two ints, as struct linger.
                Payload::of(unsafe { mem::transmute::<[c_int; 2], [u8; size_of::<linger>()]>(value) })
            }
            (Self::Timeval, Value::Int(ms)) => {
                let value =
                    timeval { tv_sec: (ms / 1000).try_into().ok()?, tv_usec: (ms % 1000 * 1000).try_into().ok()? };
                // SAFETY: a timeval has no padding.
                Payload::of(unsafe { mem::transmute::<timeval, [u8; size_of::<timeval>()]>(value) })
            }
            (Self::Name, Value::Name(name)) => Payload { bytes: *name.bytes(), len: u8::try_from(name.len()).ok()? },
            _ => return None,
        })
    }

    /// The value in bytes that [`Self::encode`] has made.
    #[must_use]
    pub fn value_of(self, payload: &Payload) -> Value {
        match (self, payload.len) {
            // No setting is below zero: what does not fit in an int is an unsigned one.
            (Self::Int | Self::Rate, 4) => Value::Int(u32::from_ne_bytes(payload.part()).into()),
            _ => self.decode(payload),
        }
    }

    /// The value in bytes that the kernel has written.
    #[must_use]
    pub fn decode(self, payload: &Payload) -> Value {
        match self {
            Self::Int => Value::Int(i32::from_ne_bytes(payload.part()).into()),
            Self::Rate => Value::Int(i64::from_ne_bytes(payload.part())),
            Self::Linger => {
                // SAFETY: any bytes are two ints.
                let [on, seconds] = unsafe { mem::transmute::<[u8; size_of::<linger>()], [c_int; 2]>(payload.part()) };
                Value::Int(if on == 0 { OFF } else { seconds.into() })
            }
            Self::Timeval => {
                // SAFETY: any bytes are a timeval.
                let time = unsafe { mem::transmute::<[u8; size_of::<timeval>()], timeval>(payload.part()) };
                let (seconds, micros) = (i64::from(time.tv_sec), i64::from(time.tv_usec));
                Value::Int(seconds.saturating_mul(1000).saturating_add(micros.saturating_add(999) / 1000))
            }
            Self::Name => Value::Name(Name::of_bytes(payload.part())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::disallowed_types, reason = "not on a hook path")]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        for (wire, value, len) in [
            (Wire::Int, Value::Int(7), 4),
            (Wire::Rate, Value::Int(1000), 4),
            (Wire::Rate, Value::Int(1 << 40), 8),
            (Wire::Linger, Value::Int(OFF), 8),
            (Wire::Linger, Value::Int(0), 8),
            (Wire::Linger, Value::Int(30), 8),
            (Wire::Timeval, Value::Int(1500), 16),
            (Wire::Name, Name::new("cubic").map(Value::Name).expect("a name"), 5),
        ] {
            let payload = wire.encode(&value).expect("of this type");
            assert_eq!(wire.value_of(&payload), value);
            assert_eq!((wire.decode(&payload), payload.socklen()), (value, len));
        }
        assert_eq!(Wire::Int.encode(&Value::Auto), None);
    }

    #[test]
    fn a_large_unsigned_int_is_its_bits() {
        let payload = Wire::Int.encode(&Value::Int(0xffff_ffff)).expect("of this type");
        assert_eq!((payload.part(), Wire::Int.value_of(&payload)), ([0xff; 4], Value::Int(0xffff_ffff)));
    }
}

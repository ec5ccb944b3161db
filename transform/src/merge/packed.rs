//! States as bytes: format 2 of the changelog. (Format 1 was their JSON text, parsed and printed with every word.)
//!
//! A struct is a number whose bits say which of its fields follow, and then those in the order of their bits; a field that
//! holds nothing (none, empty, zero, false) does not follow. So a field can be added under the next bit: of what was written
//! before it reads as holding nothing, and a version that does not know the bit refuses the state, where JSON would have
//! forgotten silently what it says. A bit is never given to another field.
//!
//! A text that stood in the state before is named by its place among the first texts: three apps that agree say the same
//! names and values again and again. Equal states are equal bytes, and unequal ones are not: bytes may be compared instead.
//!
//! The bytes come from a topic that anybody may write to: every length is held against what is left, nesting is bounded.

use std::collections::{BTreeMap, BTreeSet};

use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_schemas::value::{self, Number, Value};

/// Texts that may be named by their place. Both sides count alike, so it belongs to the format.
const TEXTS_MAX: usize = 64;
/// Shorter texts are written out: naming one is no shorter.
const TEXT_BYTES_MIN: usize = 2;
/// Items for which there is room before they are read: what a length claims is worth no more.
const RESERVED_MAX: usize = 16;
/// Lists in lists: as many as a value may have, and that of a group, whose values are the members of one more.
const LISTS_MAX: usize = value::NESTING_MAX + 1;
/// States in states.
const STATES_MAX: usize = 64;

/// Bytes that are no state of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They end too soon, or go on.
    #[error("its bytes are cut off, or more than it needs")]
    Length,
    /// Something in them cannot be.
    #[error("its bytes are damaged")]
    Damaged,
    /// There is a field that this version does not know.
    #[error("a newer version of Syncline wrote it")]
    Newer,
}

/// What can be part of a state.
pub trait Packed: Sized {
    /// Whether it holds nothing.
    fn is_unset(&self) -> bool;
    /// What holds nothing.
    fn unset() -> Self;
    /// Appends it.
    fn pack(&self, out: &mut Packer);
    /// Reads what was appended.
    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable>;
}

/// Which bit stands for which field. Every field of the struct has to be there.
macro_rules! packed {
    ($name:ident { $($bit:literal $field:ident),+ $(,)? }) => {
        impl $crate::merge::packed::Packed for $name {
            fn is_unset(&self) -> bool {
                true $(&& $crate::merge::packed::Packed::is_unset(&self.$field))+
            }

            fn unset() -> Self {
                Self { $($field: $crate::merge::packed::Packed::unset()),+ }
            }

            fn pack(&self, out: &mut $crate::merge::packed::Packer) {
                use $crate::merge::packed::Packed;
                let bits = 0 $(| u64::from(!Packed::is_unset(&self.$field)) << $bit)+;
                out.number(bits);
                $(if bits & 1 << $bit != 0 {
                    Packed::pack(&self.$field, out);
                })+
            }

            fn unpack(
                from: &mut $crate::merge::packed::Unpacker<'_>,
            ) -> Result<Self, $crate::merge::packed::Unreadable> {
                use $crate::merge::packed::{Packed, Unreadable};
                let bits = from.number()?;
                if bits & !(0_u64 $(| 1 << $bit)+) != 0 {
                    return Err(Unreadable::Newer);
                }
                Ok(Self {
                    $($field: if bits & 1 << $bit != 0 { Packed::unpack(from)? } else { Packed::unset() }),+
                })
            }
        }
    };
}
pub(super) use packed;

/// The bytes of a part of a state.
pub fn to_bytes(state: &impl Packed) -> Vec<u8> {
    let mut out = Packer::default();
    state.pack(&mut out);
    out.bytes
}

/// The state that these bytes are, all of them.
pub fn from_bytes<T: Packed>(bytes: &[u8]) -> Result<T, Unreadable> {
    let mut from = Unpacker {
        rest: bytes,
        texts: Vec::new(),
        lists: 0,
        states: 0,
    };
    let state = T::unpack(&mut from)?;
    if from.rest.is_empty() {
        Ok(state)
    } else {
        Err(Unreadable::Length)
    }
}

/// Bytes being written.
#[derive(Default)]
pub struct Packer {
    bytes: Vec<u8>,
    /// Where the first texts stand.
    texts: Vec<std::ops::Range<usize>>,
}

impl Packer {
    /// Seven bits a byte, the low ones first.
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.bytes.push(number.to_le_bytes()[0]);
    }

    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63).cast_unsigned());
    }

    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }

    /// Twice its length and its bytes; or, of one that stood here before, twice its place and one.
    fn text(&mut self, text: &str) {
        let is_it = |at: &std::ops::Range<usize>| at.len() == text.len() && self.bytes[at.clone()] == *text.as_bytes();
        if let Some(place) = self.texts.iter().position(is_it) {
            return self.length(place << 1 | 1);
        }
        self.length(text.len() << 1);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        if text.len() >= TEXT_BYTES_MIN && self.texts.len() < TEXTS_MAX {
            self.texts.push(start..self.bytes.len());
        }
    }
}

/// Bytes being read.
pub struct Unpacker<'a> {
    rest: &'a [u8],
    texts: Vec<&'a str>,
    /// In how many lists it reads.
    lists: usize,
    /// In how many states.
    states: usize,
}

impl<'a> Unpacker<'a> {
    /// What [`Packer::number`] wrote.
    pub fn number(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Unreadable::Damaged)
    }

    fn signed(&mut self) -> Result<i64, Unreadable> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// Of items of which each has at least one byte.
    fn length(&mut self) -> Result<usize, Unreadable> {
        let length = usize::try_from(self.number()?).map_err(|_| Unreadable::Length)?;
        if length <= self.rest.len() {
            Ok(length)
        } else {
            Err(Unreadable::Length)
        }
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (byte, rest) = self.rest.split_first().ok_or(Unreadable::Length)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        let number = self.number()?;
        let half = usize::try_from(number >> 1).map_err(|_| Unreadable::Length)?;
        if number & 1 == 1 {
            return self.texts.get(half).copied().ok_or(Unreadable::Damaged);
        }
        let (bytes, rest) = self.rest.split_at_checked(half).ok_or(Unreadable::Length)?;
        self.rest = rest;
        let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::Damaged)?;
        if text.len() >= TEXT_BYTES_MIN && self.texts.len() < TEXTS_MAX {
            self.texts.push(text);
        }
        Ok(text)
    }
}

impl Packed for bool {
    fn is_unset(&self) -> bool {
        !*self
    }

    fn unset() -> Self {
        false
    }

    fn pack(&self, out: &mut Packer) {
        out.number(u64::from(*self));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        match from.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable::Damaged),
        }
    }
}

impl Packed for u32 {
    fn is_unset(&self) -> bool {
        *self == 0
    }

    fn unset() -> Self {
        0
    }

    fn pack(&self, out: &mut Packer) {
        out.number(u64::from(*self));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        u32::try_from(from.number()?).map_err(|_| Unreadable::Damaged)
    }
}

impl Packed for i64 {
    fn is_unset(&self) -> bool {
        *self == 0
    }

    fn unset() -> Self {
        0
    }

    fn pack(&self, out: &mut Packer) {
        out.signed(*self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        from.signed()
    }
}

impl Packed for String {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }

    fn unset() -> Self {
        String::new()
    }

    fn pack(&self, out: &mut Packer) {
        out.text(self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Ok(from.text()?.to_owned())
    }
}

impl Packed for RowKey {
    fn is_unset(&self) -> bool {
        self.0.is_empty()
    }

    fn unset() -> Self {
        Self::default()
    }

    fn pack(&self, out: &mut Packer) {
        out.text(&self.0);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Ok(Self(from.text()?.to_owned()))
    }
}

impl Packed for Position {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    fn unset() -> Self {
        Self::default()
    }

    fn pack(&self, out: &mut Packer) {
        out.number(self.epoch);
        out.number(self.lsn.0);
        out.number(self.ordinal);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Ok(Self::new(from.number()?, Lsn(from.number()?), from.number()?))
    }
}

impl Packed for Vector {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }

    fn unset() -> Self {
        Self::new()
    }

    fn pack(&self, out: &mut Packer) {
        out.length(self.iter().count());
        for (source, position) in self.iter() {
            out.text(source);
            position.pack(out);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        let mut vector = Self::new();
        for _ in 0..from.length()? {
            let source = from.text()?;
            vector.advance(source, Position::unpack(from)?);
        }
        Ok(vector)
    }
}

/// One with few digits as digits and places after the point, which are at most this many; else its text.
const SCALE_MAX: u64 = 18;

impl Packed for Number {
    fn is_unset(&self) -> bool {
        *self == Self::zero()
    }

    fn unset() -> Self {
        Self::zero()
    }

    fn pack(&self, out: &mut Packer) {
        match self.as_short() {
            Some((digits, scale)) => {
                out.number(u64::from(scale));
                out.signed(digits);
            }
            None => {
                out.number(SCALE_MAX + 1);
                out.text(&self.to_string());
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        let scale = from.number()?;
        if scale > SCALE_MAX {
            return from.text()?.parse().map_err(|_| Unreadable::Damaged);
        }
        let scale = i64::try_from(scale).map_err(|_| Unreadable::Damaged)?;
        Ok(Number::from(from.signed()?).shift(-scale))
    }
}

impl Packed for Value {
    fn is_unset(&self) -> bool {
        self.is_null()
    }

    fn unset() -> Self {
        Self::Null
    }

    fn pack(&self, out: &mut Packer) {
        match self {
            Value::Null => out.number(0),
            Value::Bool(value) => out.number(1 + u64::from(*value)),
            Value::Number(number) => {
                out.number(3);
                number.pack(out);
            }
            Value::Text(text) => {
                out.number(4);
                out.text(text);
            }
            Value::List(members) => {
                out.number(5);
                members.pack(out);
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Ok(match from.number()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Number(Packed::unpack(from)?),
            4 => Value::Text(Packed::unpack(from)?),
            5 => {
                from.lists += 1;
                if from.lists > LISTS_MAX {
                    return Err(Unreadable::Damaged);
                }
                let members = Packed::unpack(from)?;
                from.lists -= 1;
                Value::List(members)
            }
            _ => return Err(Unreadable::Damaged),
        })
    }
}

impl<T: Packed> Packed for Box<T> {
    fn is_unset(&self) -> bool {
        self.as_ref().is_unset()
    }

    fn unset() -> Self {
        Self::new(T::unset())
    }

    fn pack(&self, out: &mut Packer) {
        self.as_ref().pack(out);
    }

    /// A state within a state.
    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        from.states += 1;
        if from.states > STATES_MAX {
            return Err(Unreadable::Damaged);
        }
        let inner = T::unpack(from)?;
        from.states -= 1;
        Ok(Self::new(inner))
    }
}

impl Packed for BTreeSet<String> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }

    fn unset() -> Self {
        Self::new()
    }

    fn pack(&self, out: &mut Packer) {
        out.length(self.len());
        self.iter().for_each(|text| out.text(text));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        (0..from.length()?).map(|_| Ok(from.text()?.to_owned())).collect()
    }
}

/// Within a struct the bit says that there is one, so one that holds nothing follows all the same.
impl<T: Packed> Packed for Option<T> {
    fn is_unset(&self) -> bool {
        self.is_none()
    }

    fn unset() -> Self {
        None
    }

    fn pack(&self, out: &mut Packer) {
        if let Some(some) = self {
            some.pack(out);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        T::unpack(from).map(Some)
    }
}

impl<T: Packed> Packed for Vec<T> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }

    fn unset() -> Self {
        Vec::new()
    }

    fn pack(&self, out: &mut Packer) {
        out.length(self.len());
        self.iter().for_each(|item| item.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        let length = from.length()?;
        let mut items = Vec::with_capacity(length.min(RESERVED_MAX));
        for _ in 0..length {
            items.push(T::unpack(from)?);
        }
        Ok(items)
    }
}

impl<K: Packed + Ord, V: Packed> Packed for BTreeMap<K, V> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }

    fn unset() -> Self {
        BTreeMap::new()
    }

    fn pack(&self, out: &mut Packer) {
        out.length(self.len());
        for (key, value) in self {
            key.pack(out);
            value.pack(out);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        (0..from.length()?)
            .map(|_| Ok((K::unpack(from)?, V::unpack(from)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests;

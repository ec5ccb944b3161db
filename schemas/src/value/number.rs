//! An exact decimal number in one form, so that equal numbers are equal bytes.
//!
//! Almost every number that apps exchange (keys, counts, prices) has no more digits than a machine word holds; making a number of
//! any length of each cost more than the rest of reading a row. So there are two forms, and which of them a number has depends on
//! its value alone: equality and hashes need not look behind it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use bigdecimal::ToPrimitive as _;
use serde::{Deserialize, Serialize};

use super::ValueError;

/// How far the point may be from the digits: more than PostgreSQL's numeric has (131,072 before, 16,383 after the point).
/// A text such as `1e999999999` would otherwise be gigabytes when it is written out.
const EXPONENT_MAX: i64 = 150_000;
/// Digits after the point of a short number. Two of them brought to one scale are still within 128 bits.
const SHORT_SCALE_MAX: u32 = 18;
/// A text of so many digits is surely a short number.
const SHORT_DIGITS_MAX: usize = 18;

/// An exact decimal number without trailing zeros: equal numbers are equal bytes.
/// Serialised, it is its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Number(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    Short(Short),
    /// What is not short, without trailing zeros.
    Long(BigDecimal),
}

/// `digits` divided by ten to the power of `scale`, which is as small as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Short {
    digits: i64,
    scale: u32,
}

impl Short {
    /// None if it is no short number.
    fn new(mut digits: i128, mut scale: i64) -> Option<Self> {
        if digits == 0 {
            return Some(Self { digits: 0, scale: 0 });
        }
        while scale > 0 && digits % 10 == 0 {
            (digits, scale) = (digits / 10, scale - 1);
        }
        while scale < 0 {
            (digits, scale) = (i64::try_from(digits).ok().map(i128::from)? * 10, scale + 1);
        }
        let scale = u32::try_from(scale).ok().filter(|scale| *scale <= SHORT_SCALE_MAX)?;
        let digits = i64::try_from(digits).ok()?;
        Some(Self { digits, scale })
    }

    /// Of plain digits with or without a point; of any other text none, whatever it says.
    fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let has_point = whole.len() < unsigned.len();
        let is_plain = !whole.is_empty()
            && has_point != fraction.is_empty()
            && whole.len() + fraction.len() <= SHORT_DIGITS_MAX
            && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if !is_plain {
            return None;
        }
        let digit = |sum: i64, byte: u8| sum * 10 + i64::from(byte - b'0');
        let digits = whole.bytes().chain(fraction.bytes()).fold(0, digit);
        let digits = if text.starts_with('-') { -digits } else { digits };
        Self::new(digits.into(), i64::try_from(fraction.len()).ok()?)
    }

    /// The digits at a scale that is no smaller than its own, and no greater than the largest.
    fn digits_at(self, scale: u32) -> i128 {
        i128::from(self.digits) * 10_i128.pow(scale - self.scale)
    }

    /// The digits of both at one scale.
    fn aligned(self, other: Self) -> (i128, i128, i64) {
        let scale = self.scale.max(other.scale);
        (self.digits_at(scale), other.digits_at(scale), scale.into())
    }
}

impl Number {
    /// Zero.
    pub fn zero() -> Self {
        Self::from(0)
    }

    /// The exact decimal behind it.
    pub fn to_decimal(&self) -> BigDecimal {
        match &self.0 {
            Form::Short(short) => BigDecimal::new(short.digits.into(), short.scale.into()),
            Form::Long(decimal) => decimal.clone(),
        }
    }

    /// Multiplied by ten to the power of `exponent`, exactly.
    pub fn shift(&self, exponent: i64) -> Self {
        if let Form::Short(short) = self.0
            && let Some(scale) = i64::from(short.scale).checked_sub(exponent)
            && let Some(shifted) = Short::new(short.digits.into(), scale)
        {
            return Self(Form::Short(shifted));
        }
        let (digits, scale) = self.to_decimal().into_bigint_and_exponent();
        Self::from(BigDecimal::new(digits, scale - exponent))
    }

    /// Its digits and how many of them stand after the point (at most 18), if it is one of those numbers that almost all are.
    pub fn as_short(&self) -> Option<(i64, u32)> {
        match &self.0 {
            Form::Short(Short { digits, scale }) => Some((*digits, *scale)),
            Form::Long(_) => None,
        }
    }

    /// Without its sign.
    pub fn abs(&self) -> Self {
        if *self < Self::zero() {
            &Self::zero() - self
        } else {
            self.clone()
        }
    }

    /// Divided by `other`, to 34 digits; none if that is zero.
    pub fn over(&self, other: &Number) -> Option<Self> {
        const DIGITS: u64 = 34;
        (*other != Number::zero()).then(|| Self::from((self.to_decimal() / other.to_decimal()).with_prec(DIGITS)))
    }

    /// Whether there are no digits after the point.
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Form::Short(short) => short.scale == 0,
            Form::Long(decimal) => decimal.is_integer(),
        }
    }

    /// The result for two short numbers, if it is one too; else that of decimals.
    fn combined(
        &self,
        other: &Number,
        short: impl FnOnce(Short, Short) -> Option<Short>,
        long: impl FnOnce(BigDecimal, BigDecimal) -> BigDecimal,
    ) -> Number {
        if let (Form::Short(one), Form::Short(two)) = (&self.0, &other.0)
            && let Some(result) = short(*one, *two)
        {
            return Self(Form::Short(result));
        }
        Self::from(long(self.to_decimal(), other.to_decimal()))
    }
}

impl From<BigDecimal> for Number {
    fn from(decimal: BigDecimal) -> Self {
        let decimal = decimal.normalized();
        let (digits, scale) = decimal.as_bigint_and_exponent();
        let short = digits.to_i64().and_then(|digits| Short::new(digits.into(), scale));
        Self(short.map_or(Form::Long(decimal), Form::Short))
    }
}

impl From<i64> for Number {
    fn from(digits: i64) -> Self {
        Self(Form::Short(Short { digits, scale: 0 }))
    }
}

impl From<Number> for String {
    fn from(number: Number) -> String {
        number.to_string()
    }
}

impl TryFrom<String> for Number {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for Number {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(short) = Short::parse(text) {
            return Ok(Self(Form::Short(short)));
        }
        let wrong = || ValueError(text.to_owned(), "number");
        let decimal = BigDecimal::from_str(text).map_err(|_| wrong())?;
        let exponent = decimal.as_bigint_and_exponent().1;
        if exponent.abs() > EXPONENT_MAX {
            Err(wrong())
        } else {
            Ok(Number::from(decimal))
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Form::Short(one), Form::Short(two)) => {
                let (one, two, _) = one.aligned(*two);
                one.cmp(&two)
            }
            _ => self.to_decimal().cmp(&other.to_decimal()),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::ops::Add<&Number> for &Number {
    type Output = Number;

    fn add(self, other: &Number) -> Number {
        let short = |one: Short, two: Short| {
            let (one, two, scale) = one.aligned(two);
            Short::new(one + two, scale)
        };
        self.combined(other, short, |one, two| one + two)
    }
}

impl std::ops::Sub<&Number> for &Number {
    type Output = Number;

    fn sub(self, other: &Number) -> Number {
        let short = |one: Short, two: Short| {
            let (one, two, scale) = one.aligned(two);
            Short::new(one - two, scale)
        };
        self.combined(other, short, |one, two| one - two)
    }
}

impl std::ops::Mul<&Number> for &Number {
    type Output = Number;

    fn mul(self, other: &Number) -> Number {
        let short = |one: Short, two: Short| {
            let digits = i128::from(one.digits) * i128::from(two.digits);
            Short::new(digits, i64::from(one.scale + two.scale))
        };
        self.combined(other, short, |one, two| one * two)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Short(Short { digits, scale: 0 }) => write!(f, "{digits}"),
            Form::Short(Short { digits, scale }) => {
                let (sign, digits, unit) = (
                    if *digits < 0 { "-" } else { "" },
                    digits.unsigned_abs(),
                    10_u64.pow(*scale),
                );
                let (whole, fraction, width) = (digits / unit, digits % unit, *scale as usize);
                write!(f, "{sign}{whole}.{fraction:0width$}")
            }
            Form::Long(decimal) => f.write_str(&decimal.to_plain_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_numbers_are_equal_bytes() {
        let spellings = ["40", "40.0", "40.00", "4e1", "+40"];
        for text in spellings {
            assert_eq!(text.parse::<Number>().unwrap().to_string(), "40", "{text}");
        }
        assert_eq!("4000".parse::<Number>().unwrap().shift(-2), "40".parse().unwrap());
        assert_eq!("40".parse::<Number>().unwrap().shift(2).to_string(), "4000");
        assert!("1e999999999".parse::<Number>().is_err() && "1e-999999999".parse::<Number>().is_err());
        assert_eq!("-0.00".parse::<Number>().unwrap().to_string(), "0");
        assert!("".parse::<Number>().is_err() && "-".parse::<Number>().is_err() && "1.2.3".parse::<Number>().is_err());
    }

    /// Around the borders of what is short, above all.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "[-+]?[0-9]{1,4}(\\.[0-9]{1,4})?",
            "[-+]?[0-9]{16,21}(\\.[0-9]{1,20})?",
            "[-+]?0\\.0{0,17}[0-9]{1,4}",
            "[-+]?(922337203685477580[5-9]|[1-9])0{0,3}(\\.0{1,19}[1-9]?)?",
            "-?[0-9]{1,3}e-?[0-9]{1,2}",
        ]
    }

    proptest! {
        /// To whoever looks from outside there is one form: that of decimals of any length.
        #[test]
        fn it_does_what_decimals_do(one in texts(), two in texts(), exponent in -25_i64..25) {
            let plain = |decimal: BigDecimal| decimal.normalized().to_plain_string();
            let (a, b): (Number, Number) = (one.parse().unwrap(), two.parse().unwrap());
            let (x, y): (BigDecimal, BigDecimal) = (one.parse().unwrap(), two.parse().unwrap());
            prop_assert_eq!(a.to_string(), plain(x.clone()));
            prop_assert_eq!(a.cmp(&b), x.cmp(&y));
            prop_assert_eq!(a == b, x == y);
            prop_assert_eq!((&a + &b).to_string(), plain(&x + &y));
            prop_assert_eq!((&a - &b).to_string(), plain(&x - &y));
            prop_assert_eq!((&a * &b).to_string(), plain(&x * &y));
            prop_assert_eq!(a.abs().to_string(), plain(x.abs()));
            prop_assert_eq!(a.is_integer(), x.normalized().is_integer());
            let (digits, scale) = x.as_bigint_and_exponent();
            let shifted = a.shift(exponent);
            prop_assert_eq!(shifted.to_string(), plain(BigDecimal::new(digits, scale - exponent)));
            // However it came about.
            let again: Number = shifted.to_string().parse().unwrap();
            prop_assert_eq!(HashSet::from([shifted, again]).len(), 1);
        }
    }
}

//! Numbers: decimals of any length as unscaled two's complement bytes, money, bit strings.

use num_bigint::{BigInt, Sign};

use super::Unfit;

const NUMERIC: Unfit = Unfit("numeric");

/// The digits of a decimal without its point, and how many of them stood after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unscaled {
    digits: Digits,
    /// Digits after the point.
    pub scale: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Digits {
    Small(i128),
    Large(BigInt),
}

impl Unscaled {
    /// Nothing, with so many digits after the point.
    pub fn zero(scale: u32) -> Self {
        Self {
            digits: Digits::Small(0),
            scale,
        }
    }

    /// Reads `-12.50`. PostgreSQL prints numeric without exponent.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let scale = digits.find('.').map_or(0, |point| digits.len() - point - 1);
        let scale = u32::try_from(scale).map_err(|_| NUMERIC)?;
        let magnitude = match small(digits)? {
            Some(number) => Digits::Small(if negative { -number } else { number }),
            None => Digits::Large(large(text)?),
        };
        Ok(Self {
            digits: magnitude,
            scale,
        })
    }

    /// The same number with `scale` digits after the point, if no digit is lost.
    pub fn rescale(self, scale: u32) -> Result<Self, Unfit> {
        if scale >= self.scale {
            let factor = scale - self.scale;
            return Ok(Self {
                digits: self.digits.times_ten_to(factor),
                scale,
            });
        }
        let divisor = self.scale - scale;
        Ok(Self {
            digits: self.digits.divided_by_ten_to(divisor)?,
            scale,
        })
    }

    /// The number with `scale` digits after the point: half of the last one goes away from zero. Whether digits were lost.
    pub fn round(self, scale: u32) -> (Self, bool) {
        if scale >= self.scale {
            let factor = scale - self.scale;
            let digits = self.digits.times_ten_to(factor);
            return (Self { digits, scale }, false);
        }
        let divisor = BigInt::from(10).pow(self.scale - scale);
        let number = self.digits.to_big();
        let (quotient, rest) = (&number / &divisor, &number % &divisor);
        let lost = rest != BigInt::ZERO;
        let away = rest.magnitude() * 2u32 >= *divisor.magnitude();
        let step = match (away, number.sign()) {
            (true, Sign::Minus) => -1,
            (true, _) => 1,
            (false, _) => 0,
        };
        let digits = Digits::Large(quotient + step);
        (Self { digits, scale }, lost)
    }

    /// The number as PostgreSQL prints it, without exponent.
    pub fn plain(&self) -> String {
        let number = self.digits.to_big();
        let sign = if number.sign() == Sign::Minus { "-" } else { "" };
        let scale = usize::try_from(self.scale).unwrap_or(0);
        let digits = format!("{:0>width$}", number.magnitude().to_string(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let point = if scale > 0 { "." } else { "" };
        format!("{sign}{whole}{point}{fraction}")
    }

    /// Appends the shortest two's complement form, most significant byte first.
    pub fn write(&self, out: &mut Vec<u8>) {
        match &self.digits {
            Digits::Small(number) => out.extend_from_slice(shortest(&number.to_be_bytes())),
            Digits::Large(number) => out.extend_from_slice(&number.to_signed_bytes_be()),
        }
    }
}

impl Digits {
    fn to_big(&self) -> BigInt {
        match self {
            Digits::Small(number) => BigInt::from(*number),
            Digits::Large(number) => number.clone(),
        }
    }

    fn times_ten_to(self, exponent: u32) -> Self {
        if exponent == 0 {
            return self;
        }
        if let Digits::Small(number) = self
            && let Some(product) = 10i128
                .checked_pow(exponent)
                .and_then(|factor| number.checked_mul(factor))
        {
            return Digits::Small(product);
        }
        Digits::Large(self.to_big() * BigInt::from(10).pow(exponent))
    }

    fn divided_by_ten_to(self, exponent: u32) -> Result<Self, Unfit> {
        let divisor = BigInt::from(10).pow(exponent);
        let number = self.to_big();
        let quotient = &number / &divisor;
        if &quotient * &divisor == number {
            Ok(Digits::Large(quotient))
        } else {
            Err(Unfit("numeric of this scale"))
        }
    }
}

/// The digits as one number, or `None` if they are too many for it.
fn small(digits: &str) -> Result<Option<i128>, Unfit> {
    let (mut number, mut seen, mut points) = (0i128, false, 0);
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                let digit = i128::from(byte - b'0');
                match number.checked_mul(10).and_then(|number| number.checked_add(digit)) {
                    Some(next) => number = next,
                    None => return Ok(None),
                }
            }
            b'.' if points == 0 => points = 1,
            _ => return Err(NUMERIC),
        }
    }
    if seen { Ok(Some(number)) } else { Err(NUMERIC) }
}

fn large(text: &str) -> Result<BigInt, Unfit> {
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    digits.parse().map_err(|_| NUMERIC)
}

/// Without the leading bytes that only repeat the sign.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [first, second, ..] = rest {
        let repeats = (*first == 0 && second & 0x80 == 0) || (*first == 0xFF && second & 0x80 != 0);
        if !repeats {
            break;
        }
        rest = &rest[1..];
    }
    rest
}

/// `$1,234.50` in cents. The signs around the digits depend on the server's locale; the last two digits are the cents.
pub fn money_cents(text: &str) -> Result<Unscaled, Unfit> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let negative = text.contains('-') || text.contains('(');
    let unsigned = Unscaled::parse(&digits).map_err(|_| Unfit("money"))?;
    let digits = match unsigned.digits {
        Digits::Small(number) if negative => Digits::Small(-number),
        Digits::Small(number) => Digits::Small(number),
        Digits::Large(_) => return Err(Unfit("money")),
    };
    Ok(Unscaled { digits, scale: 2 })
}

/// As Java prints a number: `1.5`, `100.0`, `1.0E20`.
pub fn java_double(value: f64) -> String {
    java_float(&value.to_string(), &format!("{value:E}"), value.abs())
}

/// The same of half the width.
pub fn java_single(value: f32) -> String {
    java_float(&value.to_string(), &format!("{value:E}"), value.abs().into())
}

/// As Java prints a decimal: with an exponent where the number is smaller than a millionth.
pub fn java_decimal(unscaled: &BigInt, scale: u32) -> String {
    let sign = if unscaled.sign() == Sign::Minus { "-" } else { "" };
    let digits = unscaled.magnitude().to_string();
    let (scale, count) = (usize::try_from(scale).unwrap_or(0), digits.len());
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    // The power of ten of the first digit, and down to which there is no exponent.
    let places = scale + 1 - count.min(scale + 1);
    if places > 6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}E-{places}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The same from both forms that Rust prints, which for a `f32` are shorter than of the `f64` of equal value.
pub fn java_float(plain: &str, scientific: &str, magnitude: f64) -> String {
    let with_point = |digits: &str| {
        if digits.contains('.') {
            digits.to_owned()
        } else {
            format!("{digits}.0")
        }
    };
    if magnitude.is_nan() {
        return "NaN".to_owned();
    }
    if magnitude.is_infinite() {
        return plain.replace("inf", "Infinity");
    }
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return with_point(plain);
    }
    let (digits, exponent) = scientific.split_once('E').unwrap_or((scientific, "0"));
    format!("{}E{exponent}", with_point(digits))
}

/// A box, a circle, a polygon as Debezium prints it: each number as Java prints one, `<(0.0,0.0),2.0>`.
pub fn java_figure(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '-') {
        out.push_str(&rest[..start]);
        let end = rest[start..]
            .find([',', '(', ')', '[', ']', '<', '>', '{', '}'])
            .map_or(rest.len(), |length| start + length);
        let number = &rest[start..end];
        match number.parse() {
            Ok(value) => out.push_str(&java_double(value)),
            Err(_) => out.push_str(number),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// `10110000` as Debezium's Bits: least significant byte first, without leading zeros.
pub fn bits(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let start = out.len();
    for chunk in text.as_bytes().rchunks(8) {
        let mut byte = 0u8;
        for bit in chunk {
            byte = byte << 1
                | match bit {
                    b'0' => 0,
                    b'1' => 1,
                    _ => return Err(Unfit("bit string")),
                };
        }
        out.push(byte);
    }
    while out.len() > start && out.last() == Some(&0) {
        out.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str, scale: Option<u32>) -> String {
        let number = Unscaled::parse(text).unwrap();
        let number = scale.map_or(number.clone(), |scale| number.rescale(scale).unwrap());
        let mut out = Vec::new();
        number.write(&mut out);
        out.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn decimals_are_the_bytes_that_debezium_writes() {
        assert_eq!(hex("1234.567", Some(3)), "12d687");
        assert_eq!(hex("-9999999.999", Some(3)), "fdabf41c01");
        assert_eq!(hex("12345678", Some(0)), "00bc614e");
        assert_eq!(hex("128.00", Some(2)), "3200");
        assert_eq!(hex("0", Some(3)), "00");
        assert_eq!(hex("0.1", Some(3)), "64");
        assert_eq!(hex("123456789.987654321", None), "01b69b4be052fab1");
        assert_eq!(hex("-0.000000000000000000001", None), "ff");
        assert_eq!(
            hex("10000000000000000000000000000000000000000", None),
            "1d6329f1c35ca4bfabb9f5610000000000"
        );
        assert_eq!(hex("-1.00", Some(2)), "9c");
    }

    #[test]
    fn a_scale_that_would_lose_a_digit_is_refused() {
        assert!(Unscaled::parse("1.25").unwrap().rescale(1).is_err());
        assert_eq!(hex("1.50", Some(1)), "0f");
        for wrong in ["", "-", ".", "1e5", "NaN", "1.2.3", "12a", "--1"] {
            assert!(Unscaled::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rounding_says_what_it_loses() {
        let round = |text: &str, scale| {
            let (number, lost) = Unscaled::parse(text).unwrap().round(scale);
            (number.plain(), lost)
        };
        assert_eq!(round("12.34", 3), ("12.340".to_owned(), false));
        assert_eq!(round("12.35", 1), ("12.4".to_owned(), true));
        assert_eq!(round("-12.34", 1), ("-12.3".to_owned(), true));
        assert_eq!(round("-0.50", 0), ("-1".to_owned(), true));
        assert_eq!(round("7.00", 0), ("7".to_owned(), false));
    }

    #[test]
    fn decimals_are_printed_as_java_prints_them() {
        let print = |unscaled: i64, scale| java_decimal(&BigInt::from(unscaled), scale);
        assert_eq!(print(150, 2), "1.50");
        assert_eq!(print(-5, 3), "-0.005");
        assert_eq!(print(7, 0), "7");
        assert_eq!(print(1, 6), "0.000001");
        assert_eq!(print(1, 7), "1E-7");
        assert_eq!(print(-12, 8), "-1.2E-7");
        assert_eq!(print(0, 2), "0.00");
    }

    #[test]
    fn figures_are_printed_as_java_prints_them() {
        assert_eq!(java_figure("[(0,0),(1,1e+20)]"), "[(0.0,0.0),(1.0,1.0E20)]");
        assert_eq!(java_figure("<(-1.5,0),2>"), "<(-1.5,0.0),2.0>");
        assert_eq!(java_figure("{1,-1,NaN}"), "{1.0,-1.0,NaN}");
    }

    #[test]
    fn money_is_read_in_any_dress() {
        let cents = |text| {
            let mut out = Vec::new();
            money_cents(text).unwrap().write(&mut out);
            out
        };
        assert_eq!(cents("$12.34"), [0x04, 0xd2]);
        assert_eq!(cents("-$92,233,720,368,547,758.08"), i64::MIN.to_be_bytes());
        assert_eq!(cents("(1,00)"), [0x9c]);
    }

    #[test]
    fn bits_are_little_endian_and_short() {
        let bytes = |text| {
            let mut out = Vec::new();
            bits(text, &mut out).unwrap();
            out
        };
        assert_eq!(bytes("10110000"), [0xb0]);
        assert_eq!(bytes("10110000111100001010"), [0x0a, 0x0f, 0x0b]);
        assert_eq!(bytes("00000000"), Vec::<u8>::new());
        assert_eq!(bytes("101010101010101010101"), [0x55, 0x55, 0x15]);
    }
}

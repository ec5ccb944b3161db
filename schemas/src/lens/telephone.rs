//! `e164(text, 'GB')`: a telephone number as people write it, in the one form that can be dialled from anywhere: `+` and at
//! most fifteen digits (ITU-T E.164). Pure, and bounded by the length of the text.
//!
//! It is made for match keys, so it may miss and must not guess: what is not certainly one complete number is nothing. That
//! is why a number without its trunk prefix is none where such numbers may be local ones (in Germany `1234567` rings in
//! every town), why an extension makes it none (it is another telephone on the same number), and why what people type to
//! get past a form (`0000000000`, `07123456789`) is none.
//!
//! Whether a number is in use, and whether it is one person's or that of a whole office, its digits do not tell. Numbers of
//! countries that the table of plans lacks are taken as they are if they begin with `+`.

use std::fmt;

/// Country codes, prefixes and lengths.
mod plans;

use plans::{PLANS, Plan, Trunk};

/// Digits of a number with its country code: E.164.
const DIGITS_MAX: usize = 15;

/// Digits of the shortest numbers with a country code that are in use.
const DIGITS_MIN: usize = 7;

/// Digits behind a stroke, as in `030/1234567`; with fewer it stands for a second number that ends otherwise.
const BEHIND_SLASH_DIGITS_MIN: usize = 4;

/// Digits at the end of a number that make it a stand-in if they are one run.
const STAND_IN_DIGITS: usize = 7;

/// Digits that may stand before a bracket, as in `00353 (0)1`; with more of them it holds an extension.
const BEFORE_BRACKET_DIGITS_MAX: usize = 5;

/// Characters of a text that may be one number, with all that people put between its digits.
const TEXT_CHARS_MAX: usize = 64;

/// Where a number is from that does not say so: a region whose numbering plan is known here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region(&'static Plan);

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({})", self.name())
    }
}

impl Region {
    /// The region with this code of ISO 3166-1.
    pub fn named(code: &str) -> Option<Self> {
        PLANS.iter().find(|plan| plan.region == code).map(Self)
    }

    /// Its code.
    pub fn name(self) -> &'static str {
        self.0.region
    }

    /// All codes, as a message lists them.
    pub(super) fn codes() -> String {
        let codes: Vec<&str> = PLANS.iter().map(|plan| plan.region).collect();
        codes.join(", ")
    }

    /// The number that `text` is, as it is dialled from anywhere; none if it is not certainly one.
    pub(super) fn e164(self, text: &str) -> Option<String> {
        let Region(plan) = self;
        let Dialled { abroad, digits } = Dialled::read(text)?;
        let rest = plan.abroad.iter().find_map(|prefix| digits.strip_prefix(*prefix));
        match (abroad, rest) {
            (true, _) => international(&digits),
            (false, Some(rest)) => international(rest),
            (false, None) => plan.national(&digits).map(|number| plan.with_code(number)),
        }
    }
}

impl Plan {
    /// The number that is dialled like this within the country.
    fn national<'d>(&self, digits: &'d str) -> Option<&'d str> {
        match self.trunk {
            Trunk::Always(trunk) => self.complete(digits.strip_prefix(trunk)?),
            Trunk::Maybe(trunk) => digits
                .strip_prefix(trunk)
                .and_then(|rest| self.complete(rest))
                .or_else(|| self.complete(digits)),
            Trunk::Never => self.complete(digits),
        }
    }

    /// Without the trunk prefix that people write behind the country code, as in `+44 (0)20`. Where it is a 0, no complete
    /// number begins with it.
    fn without_trunk<'d>(&self, digits: &'d str) -> &'d str {
        match self.trunk {
            Trunk::Always(trunk) | Trunk::Maybe(trunk) if trunk.starts_with('0') => {
                digits.strip_prefix(trunk).unwrap_or(digits)
            }
            _ => digits,
        }
    }

    /// `digits`, if they are a complete national number.
    fn complete<'d>(&self, digits: &'d str) -> Option<&'d str> {
        let (fewest, most) = self.digits;
        let first = if digits.len() < most {
            self.short_first
        } else {
            self.first
        };
        let fits = (fewest..=most).contains(&digits.len()) && digits.starts_with(|digit: char| first.contains(digit));
        (fits && !is_stand_in(digits)).then_some(digits)
    }

    fn with_code(&self, number: &str) -> String {
        format!("+{}{number}", self.code)
    }
}

/// The number behind a `+`.
fn international(digits: &str) -> Option<String> {
    let known = PLANS
        .iter()
        .find_map(|plan| Some((plan, digits.strip_prefix(plan.code)?)));
    match known {
        Some((plan, rest)) => plan
            .complete(plan.without_trunk(rest))
            .map(|number| plan.with_code(number)),
        None => {
            let fits = (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) && !digits.starts_with('0');
            (fits && !is_stand_in(digits)).then(|| format!("+{digits}"))
        }
    }
}

/// Whether somebody had to type something: one digit again and again, or all in a row, be it behind a prefix that the form
/// wanted to see.
fn is_stand_in(digits: &str) -> bool {
    let digits = digits.as_bytes();
    let last = &digits[digits.len().saturating_sub(STAND_IN_DIGITS)..];
    let mut steps = last.windows(2).map(|pair| (pair[1] + 10 - pair[0]) % 10);
    let first = steps.next();
    matches!(first, Some(0 | 1 | 9)) && steps.all(|step| Some(step) == first)
}

/// What is dialled: digits, and whether a country code is the first of them.
struct Dialled {
    abroad: bool,
    digits: String,
}

impl Dialled {
    /// None if there is anything that does not belong to one number.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("tel:").unwrap_or(text);
        if text.chars().nth(TEXT_CHARS_MAX).is_some() {
            return None;
        }
        let mut abroad = false;
        let mut digits = String::new();
        let mut behind_slash = None;
        for c in text.chars() {
            match c {
                '+' | '\u{ff0b}' if digits.is_empty() && !abroad => abroad = true,
                '/' => behind_slash = Some(digits.len()),
                '(' | '[' | '\u{ff08}' if digits.len() > BEFORE_BRACKET_DIGITS_MAX => return None,
                c if is_between(c) => {}
                c => digits.push(digit(c)?),
            }
        }
        let one = behind_slash.is_none_or(|at| digits.len() - at >= BEHIND_SLASH_DIGITS_MIN);
        one.then_some(Self { abroad, digits })
    }
}

fn digit(c: char) -> Option<char> {
    match c {
        '0'..='9' => Some(c),
        // Full width, as in Japan.
        '\u{ff10}'..='\u{ff19}' => char::from_digit(u32::from(c) - 0xff10, 10),
        _ => None,
    }
}

/// Whether people put this between digits, or programs around a number: blanks, brackets, dots, dashes, and what nobody sees.
fn is_between(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '(' | ')' | '[' | ']' | '-' | '.' | '\u{2010}'..='\u{2015}' | '\u{2212}'
        )
        || matches!(c, '\u{ff08}' | '\u{ff09}' | '\u{ff0d}')
        || super::is_invisible(c)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(region: &str, text: &str, wanted: &str) {
        let number = Region::named(region).unwrap().e164(text);
        assert_eq!(number.as_deref().unwrap_or("-"), wanted, "{text} in {region}");
    }

    #[test]
    fn one_number_has_one_form() {
        for text in [
            "020 7946 0018",
            "(020) 7946-0018",
            "+44 20 7946 0018",
            "+44 (0)20 7946 0018",
            "+44 020 7946 0018",
            "(+44) 20.7946.0018",
            "0044 20 7946 0018",
            "tel:+44-20-7946-0018",
            "\u{202a}+44 20 7946 0018\u{202c}",
            "\u{ff0b}44\u{3000}\u{ff12}\u{ff10} 7946\u{2011}0018",
        ] {
            check("GB", text, "+442079460018");
        }
        check("US", "011 44 20 7946 0018", "+442079460018");
        check("AU", "0011 44 20 7946 0018", "+442079460018");
        check("RU", "8 10 44 20 7946 0018", "+442079460018");
    }

    #[test]
    fn each_country_has_its_plan() {
        for (region, text, wanted) in [
            ("US", "(212) 555-0123", "+12125550123"),
            ("CA", "1 416 555 0199", "+14165550199"),
            ("DE", "030/1234568", "+49301234568"),
            ("FR", "06 12 34 56 79", "+33612345679"),
            ("FR", "+33 (0)6 12 34 56 79", "+33612345679"),
            ("ES", "612 34 56 79", "+34612345679"),
            ("IT", "06 698 12345", "+390669812345"),
            ("IT", "+39 (0)6 698 12345", "+390669812345"),
            ("IT", "347 123 4568", "+393471234568"),
            ("HU", "06 30 123 4568", "+36301234568"),
            ("RU", "8 (495) 123-45-68", "+74951234568"),
            ("RU", "+7 812 123 45 68", "+78121234568"),
            ("BR", "(11) 91234-5679", "+5511912345679"),
            ("BR", "011 91234-5679", "+5511912345679"),
            ("CN", "138 1234 5679", "+8613812345679"),
            ("CN", "010 1234 5679", "+861012345679"),
            ("JP", "03-1234-5679", "+81312345679"),
            ("DK", "32 12 34 56", "+4532123456"),
            ("GB", "+234 803 123 4568", "+2348031234568"),
            ("GB", "016977 2345", "+44169772345"),
            ("GB", "0800 123 457", "+44800123457"),
            ("GB", "00353 (0)1 234 5679", "+35312345679"),
        ] {
            check(region, text, wanted);
        }
    }

    #[test]
    fn what_is_not_certainly_one_number_is_none() {
        for (region, text) in [
            ("GB", ""),
            ("GB", "  "),
            ("GB", "n/a"),
            ("GB", "+"),
            ("GB", "0"),
            ("GB", "7946 0018"),
            ("GB", "20 7946 0018"),
            ("GB", "020 7946 00"),
            ("GB", "020 7946 0018 ext 4"),
            ("GB", "020 7946 0018x4"),
            ("GB", "020 7946 0018,4"),
            ("GB", "020 7946 0018 / 07700 900123"),
            ("GB", "+44 20 7946 0018 +1"),
            ("GB", "0000000000"),
            ("GB", "0123456789"),
            ("GB", "01111 111111"),
            ("GB", "07123456789"),
            ("GB", "07000000000"),
            ("GB", "07987 654321"),
            ("AU", "0412345678"),
            ("US", "(200) 000-0000"),
            ("GB", "020 7946 001"),
            ("GB", "020 7946 0018 (4)"),
            ("GB", "020 7946 0018 [4]"),
            ("DE", "030 123 458 (12)"),
            ("GB", "+0 20 7946 0018"),
            ("GB", "+44 20 7946 00189"),
            ("GB", "+234 803 123 4567 890 123"),
            ("GB", "212 555 0123"),
            ("DE", "1234567"),
            ("DE", "030 1234567/8"),
            ("US", "555-0123"),
            ("US", "123 456 7890"),
            ("US", "555 555 5555"),
            ("HK", "001 44 20 7946 0018"),
            ("IT", "69812345"),
        ] {
            check(region, text, "-");
        }
        let endless = format!("+44 20 7946 0018{}.", " ".repeat(1_000_000));
        check("GB", &endless, "-");
    }

    #[test]
    fn the_table_is_one() {
        let regions: Vec<&str> = PLANS.iter().map(|plan| plan.region).collect();
        let mut sorted = regions.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(regions, sorted);
        let codes: BTreeSet<&str> = PLANS.iter().map(|plan| plan.code).collect();
        for code in &codes {
            let longer = codes.iter().filter(|other| other.starts_with(*code)).count();
            assert_eq!(longer, 1, "{code} begins another code");
        }
        for plan in PLANS {
            assert!(plan.code.len() + plan.digits.1 <= DIGITS_MAX, "{}", plan.region);
            let alike = PLANS.iter().filter(|other| other.code == plan.code);
            assert!(
                alike
                    .map(|other| (other.digits, other.first, other.short_first))
                    .all(|other| other == (plan.digits, plan.first, plan.short_first)),
                "{}",
                plan.region
            );
        }
    }
}

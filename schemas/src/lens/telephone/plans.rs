//! Numbering plans, as far as it takes to tell one complete number from what is none.
//!
//! Written by hand after the list of country codes of ITU-T E.164 and the national numbering plans that the ITU publishes.
//! There are no ranges in it: whether a number is in use cannot be told by its digits for long. Where carriers have prefixes
//! of their own for calls abroad, no prefix stands here, and only `+` counts.

const FROM_1: &str = "123456789";
const FROM_2: &str = "23456789";

/// What a number begins with that is dialled within its country.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trunk {
    /// This, always: without it a number may be a local one.
    Always(&'static str),
    /// This, or nothing: local numbers are shorter.
    Maybe(&'static str),
    /// Nothing.
    Never,
}

/// A numbering plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// ISO 3166-1 alpha-2.
    pub(super) region: &'static str,
    /// Country code.
    pub(super) code: &'static str,
    pub(super) trunk: Trunk,
    /// What a call abroad begins with, where that is one for all carriers.
    pub(super) abroad: &'static [&'static str],
    /// Fewest and most digits of a complete national number, without the trunk prefix.
    pub(super) digits: (usize, usize),
    /// What it may begin with.
    pub(super) first: &'static str,
    /// What it may begin with if it has fewer than the most digits.
    pub(super) short_first: &'static str,
}

impl Plan {
    /// The same, where only numbers that begin so may be shorter than others.
    const fn short_from(self, short_first: &'static str) -> Self {
        Self { short_first, ..self }
    }
}

const ZERO: Trunk = Trunk::Always("0");
const MAYBE_ZERO: Trunk = Trunk::Maybe("0");
const ONE: Trunk = Trunk::Maybe("1");
const EIGHT: Trunk = Trunk::Always("8");
const NONE: Trunk = Trunk::Never;

/// The prefix that most countries dial abroad with.
const OO: &[&str] = &["00"];

const fn plan(
    region: &'static str,
    code: &'static str,
    trunk: Trunk,
    abroad: &'static [&'static str],
    digits: (usize, usize),
    first: &'static str,
) -> Plan {
    Plan {
        region,
        code,
        trunk,
        abroad,
        digits,
        first,
        short_first: first,
    }
}

/// By region. Of several with one country code the first stands for all.
pub(super) static PLANS: &[Plan] = &[
    plan("AE", "971", ZERO, OO, (8, 9), FROM_2),
    plan("AT", "43", ZERO, OO, (6, 13), FROM_1),
    plan("AU", "61", ZERO, &["0011"], (9, 9), FROM_1),
    plan("BE", "32", ZERO, OO, (8, 9), FROM_1),
    plan("BG", "359", ZERO, OO, (7, 9), FROM_2),
    plan("BR", "55", MAYBE_ZERO, &[], (10, 11), FROM_1),
    plan("CA", "1", ONE, &["011", "00"], (10, 10), FROM_2),
    plan("CH", "41", ZERO, OO, (9, 9), FROM_2),
    plan("CL", "56", NONE, &[], (9, 9), FROM_2),
    plan("CN", "86", MAYBE_ZERO, OO, (10, 11), FROM_1),
    plan("CO", "57", NONE, &[], (10, 10), "36"),
    plan("CY", "357", NONE, OO, (8, 8), FROM_2),
    plan("CZ", "420", NONE, OO, (9, 9), FROM_2),
    plan("DE", "49", ZERO, OO, (6, 11), FROM_1),
    plan("DK", "45", NONE, OO, (8, 8), FROM_2),
    plan("EE", "372", NONE, OO, (7, 8), "3456789"),
    plan("EG", "20", ZERO, OO, (8, 10), FROM_1),
    plan("ES", "34", NONE, OO, (9, 9), "6789"),
    plan("FI", "358", ZERO, OO, (6, 10), FROM_1),
    plan("FR", "33", ZERO, OO, (9, 9), FROM_1),
    plan("GB", "44", ZERO, OO, (9, 10), "1235789").short_from("18"),
    plan("GR", "30", NONE, OO, (10, 10), "25678"),
    plan("HK", "852", NONE, &[], (8, 8), FROM_2),
    plan("HR", "385", ZERO, OO, (8, 9), FROM_1),
    plan("HU", "36", Trunk::Always("06"), OO, (8, 9), FROM_1),
    plan("IE", "353", ZERO, OO, (7, 9), FROM_1),
    plan("IL", "972", ZERO, &[], (8, 9), FROM_2),
    plan("IN", "91", MAYBE_ZERO, OO, (10, 10), FROM_1),
    plan("IS", "354", NONE, OO, (7, 7), "456789"),
    // The 0 of a landline is no trunk prefix here: it belongs to the number, also from abroad.
    plan("IT", "39", NONE, OO, (9, 11), "03"),
    plan("JP", "81", ZERO, &["010"], (9, 10), FROM_1),
    plan("KR", "82", ZERO, &[], (8, 10), FROM_1),
    plan("LU", "352", NONE, OO, (6, 9), FROM_2),
    plan("LV", "371", NONE, OO, (8, 8), FROM_2),
    plan("MT", "356", NONE, OO, (8, 8), FROM_2),
    plan("MX", "52", NONE, OO, (10, 10), FROM_2),
    plan("NL", "31", ZERO, OO, (9, 9), FROM_1),
    plan("NO", "47", NONE, OO, (8, 8), FROM_2),
    plan("NZ", "64", ZERO, OO, (8, 10), FROM_2),
    plan("PL", "48", NONE, OO, (9, 9), FROM_1),
    plan("PT", "351", NONE, OO, (9, 9), FROM_2),
    plan("RO", "40", ZERO, OO, (9, 9), FROM_2),
    plan("RU", "7", EIGHT, &["810"], (10, 10), "3456789"),
    plan("SE", "46", ZERO, OO, (7, 9), FROM_1),
    plan("SG", "65", NONE, &[], (8, 8), "3689"),
    plan("SI", "386", ZERO, OO, (8, 8), FROM_1),
    plan("SK", "421", ZERO, OO, (9, 9), FROM_2),
    plan("TR", "90", ZERO, OO, (10, 10), FROM_2),
    plan("TW", "886", ZERO, &[], (8, 9), FROM_2),
    plan("UA", "380", ZERO, OO, (9, 9), FROM_2),
    plan("US", "1", ONE, &["011", "00"], (10, 10), FROM_2),
    plan("ZA", "27", ZERO, OO, (9, 9), FROM_1),
];

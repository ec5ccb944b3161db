//! How well rows find each other: pairs of rows of two apps, each labelled with whether they are one person, and grouped
//! by what makes it hard to tell. The rows are mapped and matched by the product's own code, under rules as somebody
//! would write them.
//!
//! A wrong link mixes two people's data for good, a missed one leaves two records of one person, as there were. So what
//! is held is that links are right (99 of 100, among pairs that are nearly all chosen to mislead), and what is found is
//! told: `cargo test -p syncline-transform --test labelled_pairs -- --nocapture`.
//!
//! The few cases that no rule over two rows can know (father and son of one name on one telephone, a family's mailbox)
//! are in it, and are wrong.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use syncline_schemas::lens::{self, Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{self, Pipeline};
use syncline_schemas::value::{Number, Value};
use syncline_transform::identity;

/// A mobile is one person's, whatever he calls himself; a landline may be a household's. Mailboxes of a house are nobody's.
const PIPELINE: &str = r#"
pipeline: pairs
defaults: { kafka: "k:9092", registry: "http://r", on_conflict: latest }
systems:
  shop: { postgres: "postgres://localhost/shop" }
  crm: { postgres: "postgres://localhost/crm" }
entities:
  person:
    schema: person.avsc@1
    fields: { given: latest, family: latest, email: latest, phone: latest }
    match:
      - same:
          - "e164(phone, 'GB') >= '+447' && e164(phone, 'GB') < '+448' ? e164(phone, 'GB') : null"
          - family
      - same: ["e164(phone, 'GB')", family, given]
      - same:
          - "contains(email, '@') && !(contains(lower(email), 'info@') || contains(lower(email), 'office@') || contains(lower(email), 'sales@') || contains(lower(email), 'none@') || contains(lower(email), 'noreply@')) ? lower(email) : null"
links:
  shop.customers -> person: { key: id, given: "word(full_name, 1)", family: rest(full_name), email: email, phone: phone }
  crm.contacts -> person: { key: contact_id, given: first, family: last, email: mail, phone: tel }
"#;

const PERSON: &str = r#"{"type":"record","name":"Person","fields":[
    {"name":"given","type":["null","string"],"default":null},{"name":"family","type":["null","string"],"default":null},
    {"name":"email","type":["null","string"],"default":null},{"name":"phone","type":["null","string"],"default":null}]}"#;

/// The same people, weighed: what agrees adds up, whatever it is. A mailbox or a telephone and both names are enough, and so is
/// all but one of them; a household's telephone and mailbox are for a person to look at.
const SCORED: &str = r#"
    match:
      - score:
          "contains(email, '@') && !(contains(lower(email), 'info@') || contains(lower(email), 'office@') || contains(lower(email), 'sales@') || contains(lower(email), 'none@') || contains(lower(email), 'noreply@')) ? lower(email) : null": 8
          "e164(phone, 'GB')": 6
          "e164(phone, 'GB') >= '+447' && e164(phone, 'GB') < '+448' ? e164(phone, 'GB') : null": 4
          given: 7
          family: 5
        link: 20
        review: 17
links:"#;

/// Given names, and what people are called.
const GIVEN: [(&str, &str); 20] = [
    ("Robert", "Bob"),
    ("William", "Bill"),
    ("Elizabeth", "Liz"),
    ("Margaret", "Peggy"),
    ("Katherine", "Kate"),
    ("Thomas", "Tom"),
    ("James", "Jim"),
    ("Victoria", "Vicky"),
    ("Anthony", "Tony"),
    ("Susan", "Sue"),
    ("Christopher", "Chris"),
    ("Zoë", "Zo"),
    ("Siobhán", "Shiv"),
    ("Mohammed", "Mo"),
    ("Władysław", "Władek"),
    ("Alexandros", "Alekos"),
    ("Jean-Luc", "JL"),
    ("Priya", "Pri"),
    ("Ngozi", "Zi"),
    ("Ada", "Addie"),
];

const FAMILY: [&str; 24] = [
    "Smith",
    "Jones",
    "Taylor",
    "Brown",
    "Williams",
    "O'Neill",
    "Lovelace",
    "de la Cruz",
    "García",
    "Müller",
    "van Dijk",
    "Nguyễn",
    "Øberg",
    "Ó Súilleabháin",
    "Patel",
    "Khan",
    "McDonald",
    "Okafor",
    "Kowalski",
    "Papadopoulos",
    "Cohen",
    "Ivanova",
    "Tanaka",
    "Smith-Jones",
];

const PROVIDERS: [&str; 5] = ["gmail.com", "outlook.com", "yahoo.co.uk", "btinternet.com", "proton.me"];

/// A generator of random numbers that a seed repeats (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }

    fn of<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    fn other_than<T: Copy + PartialEq>(&mut self, not: T, among: &[T]) -> T {
        loop {
            let one = self.of(among);
            if one != not {
                return one;
            }
        }
    }

    fn mobile(&mut self) -> String {
        format!("7{}{:08}", 4 + self.below(6), self.below(100_000_000))
    }

    fn landline(&mut self) -> String {
        let area = self.of(&["203", "207", "121", "161", "131", "117"]);
        format!("{area}{:07}", self.below(10_000_000))
    }

    fn number(&mut self) -> String {
        if self.below(10) < 7 {
            self.mobile()
        } else {
            self.landline()
        }
    }
}

/// A person as he is; the telephone number without anything before it.
#[derive(Clone)]
struct Person {
    given: &'static str,
    called: &'static str,
    family: &'static str,
    mail: String,
    number: String,
}

/// What an app holds of a person.
struct Held {
    given: String,
    family: String,
    mail: Option<String>,
    phone: Option<String>,
}

impl Person {
    fn with(number: String, dice: &mut Dice) -> Self {
        Self {
            number,
            ..Self::any(dice)
        }
    }

    fn any(dice: &mut Dice) -> Self {
        let (given, called) = dice.of(&GIVEN);
        let family = dice.of(&FAMILY);
        Self {
            given,
            called,
            family,
            mail: mail(dice, given),
            number: dice.number(),
        }
    }

    /// Somebody else of the same name.
    fn namesake(&self, dice: &mut Dice) -> Self {
        Self {
            mail: mail(dice, self.given),
            number: dice.number(),
            ..self.clone()
        }
    }

    /// Of the same family and household.
    fn relative(&self, dice: &mut Dice) -> Self {
        let (given, called) = dice.other_than((self.given, self.called), &GIVEN);
        Self {
            given,
            called,
            mail: mail(dice, given),
            ..self.clone()
        }
    }

    /// Of another family.
    fn stranger(&self, dice: &mut Dice) -> Self {
        Self {
            family: dice.other_than(self.family, &FAMILY),
            ..Self::any(dice)
        }
    }

    /// As whoever typed it into an app wrote it.
    fn held(&self, dice: &mut Dice) -> Held {
        Held {
            given: self.given.to_owned(),
            family: self.family.to_owned(),
            mail: Some(mail_as_typed(dice, &self.mail)),
            phone: Some(number_as_typed(dice, &self.number)),
        }
    }
}

fn mail(dice: &mut Dice, given: &str) -> String {
    let provider = dice.of(&PROVIDERS);
    format!("{}{}@{provider}", given.to_lowercase(), dice.below(1_000_000))
}

fn mail_as_typed(dice: &mut Dice, mail: &str) -> String {
    match dice.below(4) {
        0 => mail.to_uppercase(),
        1 => format!(" {mail} "),
        _ => mail.to_owned(),
    }
}

fn number_as_typed(dice: &mut Dice, number: &str) -> String {
    let (area, rest) = number.split_at(3);
    let (middle, end) = rest.split_at(3);
    match dice.below(9) {
        0 => format!("0{number}"),
        1 => format!("0{area} {middle} {end}"),
        2 => format!("(0{area}) {middle}-{end}"),
        3 => format!("+44{number}"),
        4 => format!("+44 {area} {middle} {end}"),
        5 => format!("+44 (0){area} {middle} {end}"),
        6 => format!("0044 {area} {middle}{end}"),
        7 => format!("+44.{area}.{middle}.{end}"),
        _ => format!("\u{202a}+44\u{a0}{area}\u{a0}{middle}{end}\u{202c}"),
    }
}

/// The same name from another keyboard or export.
fn name_as_typed(dice: &mut Dice, name: &str) -> String {
    match dice.below(4) {
        0 => name.to_uppercase(),
        1 => name.to_lowercase(),
        2 => format!(" {} ", name.replace(' ', "  ")),
        _ => name
            .replace('í', "i\u{301}")
            .replace('ü', "u\u{308}")
            .replace('ú', "u\u{301}"),
    }
}

/// A letter is missing.
fn mistyped(dice: &mut Dice, name: &str) -> String {
    let mut letters: Vec<char> = name.chars().collect();
    letters.remove(1 + dice.below(letters.len() - 1));
    letters.into_iter().collect()
}

/// Two rows, of the shop and of the CRM.
type Make = fn(&mut Dice) -> (Held, Held);

/// One person in both: what is hard, how many, and how.
const SAME: [(&str, usize, Make); 12] = [
    ("both apps know everything", 900, |dice| {
        let one = Person::any(dice);
        (one.held(dice), one.held(dice))
    }),
    ("another spelling of the name", 300, |dice| {
        let one = Person::any(dice);
        let family = name_as_typed(dice, one.family);
        (
            one.held(dice),
            Held {
                family,
                ..one.held(dice)
            },
        )
    }),
    ("a nickname", 400, |dice| {
        let one = Person::any(dice);
        let given = one.called.to_owned();
        (
            one.held(dice),
            Held {
                given,
                ..one.held(dice)
            },
        )
    }),
    ("a typing error in the name", 300, |dice| {
        let one = Person::any(dice);
        let family = mistyped(dice, one.family);
        (
            one.held(dice),
            Held {
                family,
                ..one.held(dice)
            },
        )
    }),
    ("one app has no mail", 400, |dice| {
        let one = Person::any(dice);
        (
            one.held(dice),
            Held {
                mail: None,
                ..one.held(dice)
            },
        )
    }),
    ("no app has a telephone", 400, |dice| {
        let one = Person::any(dice);
        (without_phone(one.held(dice)), without_phone(one.held(dice)))
    }),
    ("one app has no telephone", 300, |dice| {
        let one = Person::any(dice);
        (one.held(dice), without_phone(one.held(dice)))
    }),
    ("mail at another provider", 300, |dice| {
        let one = Person::any(dice);
        let mail = Some(mail(dice, one.given));
        (one.held(dice), Held { mail, ..one.held(dice) })
    }),
    ("another telephone", 200, |dice| {
        let one = Person::any(dice);
        let number = dice.number();
        (one.held(dice), Person { number, ..one }.held(dice))
    }),
    ("a mail address with a tag, no telephone", 100, |dice| {
        let one = Person::any(dice);
        let mail = Some(one.mail.replace('@', "+news@"));
        let tagged = Held { mail, ..one.held(dice) };
        (without_phone(one.held(dice)), without_phone(tagged))
    }),
    ("an extension", 100, |dice| {
        let one = Person::any(dice);
        let phone = Some(format!("{} ext 12", number_as_typed(dice, &one.number)));
        (
            one.held(dice),
            Held {
                phone,
                ..one.held(dice)
            },
        )
    }),
    ("a telephone abroad", 200, |dice| {
        let one = Person::any(dice);
        let number = format!("{:08}", dice.below(100_000_000));
        let shop = Some(format!("+33 (0)6 {number}"));
        let crm = Some(format!("00336{number}"));
        let phone = |phone: Option<String>, held: Held| Held { phone, ..held };
        (phone(shop, one.held(dice)), phone(crm, one.held(dice)))
    }),
];

/// Two people.
const DIFFERENT: [(&str, usize, Make); 13] = [
    ("of one name", 500, |dice| {
        let one = Person::any(dice);
        (one.held(dice), one.namesake(dice).held(dice))
    }),
    ("of one name, no telephones", 300, |dice| {
        let one = Person::any(dice);
        let other = one.namesake(dice);
        (without_phone(one.held(dice)), without_phone(other.held(dice)))
    }),
    ("of one name, with a local number", 200, |dice| {
        let one = Person::any(dice);
        let local = format!("{:07}", dice.below(10_000_000));
        let other = one.namesake(dice);
        let phone = |held: Held| Held {
            phone: Some(local.clone()),
            ..held
        };
        (phone(one.held(dice)), phone(other.held(dice)))
    }),
    ("of one name, a digit apart", 300, |dice| {
        let one = Person::any(dice);
        let last = one.number.chars().last().and_then(|digit| digit.to_digit(10)).unwrap();
        let mut number = one.number.clone();
        number.pop();
        number.push_str(&((last + 1) % 10).to_string());
        let other = Person {
            number,
            ..one.namesake(dice)
        };
        (one.held(dice), other.held(dice))
    }),
    ("of one household, with its telephone", 500, |dice| {
        let one = Person::with(dice.landline(), dice);
        (one.held(dice), one.relative(dice).held(dice))
    }),
    ("of one household, with its telephone and mailbox", 200, |dice| {
        let one = Person::with(dice.landline(), dice);
        let other = Person {
            mail: one.mail.clone(),
            ..one.relative(dice)
        };
        (one.held(dice), other.held(dice))
    }),
    ("of one household, with its mailbox alone", 5, |dice| {
        let one = Person::any(dice);
        let other = Person {
            mail: one.mail.clone(),
            ..one.relative(dice)
        };
        (without_phone(one.held(dice)), without_phone(other.held(dice)))
    }),
    ("father and son of one name", 5, |dice| {
        let one = Person::with(dice.landline(), dice);
        let mail = mail(dice, one.given);
        (one.held(dice), Person { mail, ..one }.held(dice))
    }),
    ("of one office, with its telephone", 400, |dice| {
        let one = Person::with(dice.landline(), dice);
        let other = Person {
            number: one.number.clone(),
            ..one.stranger(dice)
        };
        (one.held(dice), other.held(dice))
    }),
    ("of one office, with its mailbox", 400, |dice| {
        let house = dice.of(&["info", "office", "sales"]);
        of_mailbox(dice, house)
    }),
    ("of one office, with a mailbox that no rule names", 5, |dice| {
        of_mailbox(dice, "bookings")
    }),
    ("one has the other's old mobile", 200, |dice| {
        let one = Person::with(dice.mobile(), dice);
        let other = Person {
            number: one.number.clone(),
            ..one.stranger(dice)
        };
        (one.held(dice), other.held(dice))
    }),
    ("of one name, who gave nothing", 300, |dice| {
        let one = Person::any(dice);
        let phone = dice.of(&["0000000000", "01234567890", "n/a", "-", " ", "07777777777"]);
        let mail = dice.of(&["n/a", "none@none.uk", "noreply@example.com", " "]);
        let nothing = |held: Held| Held {
            mail: Some(mail.to_owned()),
            phone: Some(phone.to_owned()),
            ..held
        };
        (nothing(one.held(dice)), nothing(one.namesake(dice).held(dice)))
    }),
];

fn without_phone(held: Held) -> Held {
    Held { phone: None, ..held }
}

/// Two people who write from one mailbox of their office.
fn of_mailbox(dice: &mut Dice, name: &str) -> (Held, Held) {
    let mail = format!("{name}@office{}.co.uk", dice.below(1_000_000));
    let one = Person {
        mail,
        ..Person::any(dice)
    };
    let other = Person {
        mail: one.mail.clone(),
        ..one.stranger(dice)
    };
    (without_phone(one.held(dice)), without_phone(other.held(dice)))
}

/// The product, as far as it tells who a row is.
struct Matcher(Pipeline);

impl Matcher {
    fn new() -> Self {
        Self::of(PIPELINE)
    }

    /// By weights instead of lists.
    fn scored() -> Self {
        let (before, rest) = PIPELINE.split_once("\n    match:").unwrap();
        let (_, links) = rest.split_once("\nlinks:").unwrap();
        Self::of(&format!("{before}{SCORED}{links}"))
    }

    fn of(text: &str) -> Self {
        let read = pipeline::parse("pairs.yaml", text, &|_| None, &|_| Ok(PERSON.to_owned()));
        Self(read.unwrap_or_else(|problems| {
            let all: String = problems.iter().map(ToString::to_string).collect();
            panic!("{all}")
        }))
    }

    /// The id that a row of `system` gets at first sight.
    fn cid(&self, system: &str, held: &Held) -> String {
        let link = self.0.links.iter().find(|link| link.system == system).unwrap();
        let entity = self.0.entity(&link.entity).unwrap();
        let fields = lens::get(link, &row(held)).unwrap();
        identity::cid(entity, link, &RowKey("1".to_owned()), None, &fields)
    }

    /// What two rows have in common weighs so much.
    fn weigh(&self, shop: &Held, crm: &Held) -> Number {
        let entity = &self.0.entities[0];
        let traits = |system: &str, held: &Held| {
            let link = self.0.links.iter().find(|link| link.system == system).unwrap();
            identity::traits(entity, &lens::get(link, &row(held)).unwrap())
        };
        let (ours, theirs) = (traits("shop", shop), traits("crm", crm));
        let score = entity.score.as_ref().unwrap();
        score
            .weigh(|part| ours.iter().any(|one| one.part == part && theirs.contains(one)))
            .0
    }

    /// How many of so many pairs are linked, and how many a person is asked about.
    fn judged(&self, dice: &mut Dice, pairs: usize, make: Make) -> (usize, usize) {
        let score = self.0.entities[0].score.as_ref().unwrap();
        let (mut linked, mut asked) = (0, 0);
        for _ in 0..pairs {
            let (shop, crm) = make(dice);
            let weight = self.weigh(&shop, &crm);
            linked += usize::from(weight >= score.link);
            asked += usize::from(weight < score.link && weight >= score.review);
        }
        (linked, asked)
    }

    /// How many of so many pairs are taken for one person.
    fn linked(&self, dice: &mut Dice, pairs: usize, make: Make) -> usize {
        (0..pairs)
            .filter(|_| {
                let (shop, crm) = make(dice);
                self.cid("shop", &shop) == self.cid("crm", &crm)
            })
            .count()
    }
}

/// The columns of both apps: each link looks at its own.
fn row(held: &Held) -> Row {
    let known = |value: &Option<String>| value.as_ref().map_or(Value::Null, Value::text);
    let name = format!("{} {}", held.given, held.family);
    let columns = [
        ("full_name", Value::text(name)),
        ("email", known(&held.mail)),
        ("phone", known(&held.phone)),
        ("first", Value::text(&held.given)),
        ("last", Value::text(&held.family)),
        ("mail", known(&held.mail)),
        ("tel", known(&held.phone)),
    ];
    columns
        .into_iter()
        .map(|(column, value)| (column.to_owned(), Cell::Set(value)))
        .collect()
}

#[test]
fn links_are_right_and_what_they_miss_is_told() {
    let matcher = Matcher::new();
    let mut dice = Dice(0x5EED_5EED_5EED_5EED);
    let mut of = |kinds: &[(&str, usize, Make)], label: &str| {
        let (mut pairs, mut linked) = (0, 0);
        for (kind, count, make) in kinds {
            let found = matcher.linked(&mut dice, *count, *make);
            println!("{label}, {kind}: {found} of {count} linked");
            pairs += *count;
            linked += found;
        }
        (pairs, linked)
    };
    let (same, right) = of(&SAME, "one person");
    let (different, wrong) = of(&DIFFERENT, "two people");
    println!("precision: {right} of {} links are right", right + wrong);
    println!("recall: {right} of {same} pairs of one person are linked");
    assert!(same + different >= 6_000, "{} pairs", same + different);
    assert!(
        right * 100 >= (right + wrong) * 99,
        "{wrong} of {} links are wrong",
        right + wrong
    );
    assert!(right * 2 >= same, "{right} of {same} is no use");
}

#[test]
fn weighed_links_are_right_and_what_they_miss_or_ask_is_told() {
    let matcher = Matcher::scored();
    let mut dice = Dice(0x5EED_5EED_5EED_5EED);
    let mut of = |kinds: &[(&str, usize, Make)], label: &str| {
        let (mut pairs, mut linked, mut asked) = (0, 0, 0);
        for (kind, count, make) in kinds {
            let (found, unsure) = matcher.judged(&mut dice, *count, *make);
            println!("{label}, {kind}: {found} of {count} linked, {unsure} for a person");
            pairs += *count;
            linked += found;
            asked += unsure;
        }
        (pairs, linked, asked)
    };
    let (same, right, asked_rightly) = of(&SAME, "one person");
    let (different, wrong, asked_wrongly) = of(&DIFFERENT, "two people");
    println!("precision: {right} of {} links are right", right + wrong);
    println!("recall: {right} of {same} pairs of one person are linked, {asked_rightly} more are for a person");
    println!(
        "of {} that are for a person {asked_rightly} are one",
        asked_rightly + asked_wrongly
    );
    assert!(same + different >= 2_000, "{} pairs", same + different);
    assert!(
        right * 100 >= (right + wrong) * 99,
        "{wrong} of {} links are wrong",
        right + wrong
    );
    assert!(right * 2 >= same, "{right} of {same} is no use");
}

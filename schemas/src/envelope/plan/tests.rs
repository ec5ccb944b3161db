//! Read by plan, a record is what it is to [`decode`](crate::envelope::decode).

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::codec::Out;
use crate::envelope::{self, PLACEHOLDER};
use crate::lens::{Cell, Row};

/// What a column's value is made from.
#[derive(Clone, Debug)]
struct Dice {
    is_null: bool,
    is_placeholder: bool,
    flag: bool,
    count: i64,
    text: String,
    zoned: String,
    bytes: Vec<u8>,
}

/// A type, and how a value of it is written.
type Sort = (&'static str, fn(&mut Out<'_>, &Dice));

const SORTS: [Sort; 22] = [
    (r#""boolean""#, |out, dice| out.boolean(dice.flag)),
    (r#""int""#, |out, dice| out.long(dice.count >> 32)),
    (r#""long""#, |out, dice| out.long(dice.count)),
    (r#""float""#, |out, dice| {
        let bits = u32::try_from(dice.count & 0xFFFF_FFFF).unwrap();
        out.0.extend_from_slice(&bits.to_le_bytes());
    }),
    (r#""double""#, |out, dice| {
        out.0.extend_from_slice(&dice.count.to_le_bytes())
    }),
    (r#""string""#, text),
    (r#"{"type":"string","connect.name":"io.debezium.data.Json"}"#, text),
    (
        r#"{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}"#,
        |out, dice| {
            out.text(&dice.zoned);
        },
    ),
    (
        r#"{"type":"int","connect.name":"io.debezium.time.Date"}"#,
        |out, dice| out.long(dice.count >> 40),
    ),
    (
        r#"{"type":"int","connect.name":"io.debezium.time.Time"}"#,
        |out, dice| out.long(dice.count >> 34),
    ),
    (
        r#"{"type":"long","connect.name":"io.debezium.time.MicroTime"}"#,
        |out, dice| out.long(dice.count >> 20),
    ),
    (
        r#"{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}"#,
        |out, dice| out.long(dice.count),
    ),
    (
        r#"{"type":"long","connect.name":"io.debezium.time.NanoTimestamp"}"#,
        |out, dice| out.long(dice.count),
    ),
    (r#"{"type":"long","logicalType":"timestamp-millis"}"#, |out, dice| {
        out.long(dice.count)
    }),
    (r#""bytes""#, |out, dice| match dice.is_placeholder {
        true => out.bytes(PLACEHOLDER.as_bytes()),
        false => out.bytes(&dice.bytes),
    }),
    (
        r#"{"type":"bytes","scale":2,"precision":64,"logicalType":"decimal"}"#,
        |out, dice| out.bytes(&dice.bytes),
    ),
    (
        r#"{"type":"bytes","connect.name":"io.debezium.data.Bits","connect.parameters":{"length":"12"}}"#,
        |out, dice| {
            out.bytes(&dice.bytes);
        },
    ),
    (
        r#"{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":[
            {"name":"scale","type":"int"},{"name":"value","type":"bytes"}]}"#,
        |out, dice| {
            out.long(dice.count >> 60);
            out.bytes(&dice.bytes);
        },
    ),
    (r#"{"type":"array","items":["null","long"]}"#, |out, dice| {
        out.array(&dice.bytes, |out, byte| {
            out.branch(usize::from(byte % 2 == 0));
            if byte % 2 == 0 {
                out.long(i64::from(*byte));
            }
        });
    }),
    (r#"{"type":"array","items":"string"}"#, |out, dice| {
        out.array(&[()], |out, ()| text(out, dice))
    }),
    (r#"{"type":"map","values":"string"}"#, |out, dice| {
        out.length(1);
        text(out, dice);
        text(out, dice);
        out.length(0);
    }),
    (
        r#"{"type":"enum","name":"Mood","symbols":["sad","ok"]}"#,
        |out, dice| out.branch(usize::from(dice.flag)),
    ),
];

fn text(out: &mut Out<'_>, dice: &Dice) {
    out.text(if dice.is_placeholder { PLACEHOLDER } else { &dice.text });
}

fn dice() -> impl Strategy<Value = Dice> {
    let zoned = "2024-0[1-9]-1[0-9]T0[0-9]:00:0[0-9](\\.[0-9]{0,6})?(Z|\\+01:30)?";
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.1), any::<bool>());
    let count = prop_oneof![any::<i64>(), -70_i64..70];
    let bytes = proptest::collection::vec(any::<u8>(), 0..12);
    (flags, count, ".{0,9}", zoned, bytes).prop_map(|(flags, count, text, zoned, bytes)| Dice {
        is_null: flags.0,
        is_placeholder: flags.1,
        flag: flags.2,
        count,
        text,
        zoned,
        bytes,
    })
}

/// Columns of a row, by their places among the sorts: each may be null or not.
#[derive(Clone, Debug)]
struct Columns(Vec<(usize, bool)>);

fn columns() -> impl Strategy<Value = Columns> {
    let places: Vec<usize> = (0..SORTS.len()).collect();
    let some = subsequence(places, 0..=SORTS.len()).prop_shuffle();
    (some, proptest::collection::vec(any::<bool>(), SORTS.len()))
        .prop_map(|(places, optional)| Columns(places.into_iter().zip(optional).collect()))
}

impl Columns {
    fn schema(&self) -> String {
        let field = |(place, is_optional): &(usize, bool)| {
            let sort = SORTS[*place].0;
            let of = if *is_optional {
                format!(r#"["null",{sort}]"#)
            } else {
                sort.to_owned()
            };
            format!(r#"{{"name":"c {place}","type":{of}}}"#)
        };
        let fields: Vec<String> = self.0.iter().map(field).collect();
        format!(r#"{{"type":"record","name":"Value","fields":[{}]}}"#, fields.join(","))
    }

    fn write(&self, dice: &[Dice], out: &mut Out<'_>) {
        for ((place, is_optional), dice) in self.0.iter().zip(dice) {
            if *is_optional {
                out.branch(usize::from(!dice.is_null));
            }
            if !(*is_optional && dice.is_null) {
                SORTS[*place].1(out, dice);
            }
        }
    }

    fn envelope(&self) -> Arc<ParsedSchema> {
        let schema = format!(
            r#"{{"type":"record","name":"Envelope","fields":[
                {{"name":"before","type":["null",{}]}},{{"name":"after","type":["null","Value"]}},
                {{"name":"source","type":{{"type":"record","name":"Source","fields":[
                    {{"name":"connector","type":"string"}},{{"name":"ts_ms","type":"long"}},
                    {{"name":"lsn","type":["null","long"]}},{{"name":"schema","type":["null","string"]}}]}}}},
                {{"name":"op","type":"string"}},{{"name":"ts_ms","type":["null","long"]}}]}}"#,
            self.schema()
        );
        Arc::new(ParsedSchema::parse(&schema).unwrap())
    }

    fn datum(&self, dice: &[Dice], has_row: bool) -> Vec<u8> {
        let (mut datum, first) = (Vec::new(), &dice[0]);
        let mut out = Out(&mut datum);
        for is_there in [first.flag, has_row] {
            out.branch(usize::from(is_there));
            if is_there {
                self.write(dice, &mut out);
            }
        }
        out.text("postgresql");
        out.long(first.count);
        out.optional_long((!first.is_null).then_some(first.count));
        out.optional_text(first.flag.then_some("public"));
        out.text(["c", "r", "u", "d", "t", "m"][first.text.len() % 6]);
        out.optional_long(None);
        datum
    }
}

/// The cells of a row that was read by name.
fn cells(row: &Row, columns: &[String]) -> Cells {
    assert_eq!(row.len(), columns.len());
    let mut cells = Cells::default();
    columns.iter().for_each(|name| cells.cell(&row[name]).unwrap());
    cells
}

fn same(plan: &Plan, writer: &ParsedSchema, datum: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(Some(event)) = envelope::decode(writer, datum) {
        let change = plan.read(datum, &[]).unwrap().unwrap();
        prop_assert_eq!((change.op, change.lsn), (event.op, event.source.lsn));
        let expected = event.after.map(|row| cells(&row, plan.columns()));
        prop_assert_eq!(change.after, expected);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_reads_what_decode_reads(
        columns in columns(),
        dice in proptest::collection::vec(dice(), SORTS.len()),
        has_row: bool,
    ) {
        let (writer, datum) = (columns.envelope(), columns.datum(&dice, has_row));
        let plan = Plan::new(Arc::clone(&writer)).unwrap();
        prop_assert!(envelope::decode(&writer, &datum).is_ok());
        same(&plan, &writer, &datum)?;
    }

    /// What decode refuses because of a part that a plan steps over is a record all the same; nothing else is.
    #[test]
    fn a_plan_reads_spoilt_records_as_decode_does(
        columns in columns(),
        dice in proptest::collection::vec(dice(), SORTS.len()),
        place: prop::sample::Index,
        byte in 1..=u8::MAX,
        is_cut: bool,
    ) {
        let (writer, mut datum) = (columns.envelope(), columns.datum(&dice, true));
        let place = place.index(datum.len());
        datum[place] ^= byte;
        if is_cut {
            datum.truncate(place);
        }
        same(&Plan::new(Arc::clone(&writer)).unwrap(), &writer, &datum)?;
    }

    #[test]
    fn a_key_is_that_of_its_columns(
        columns in columns(),
        dice in proptest::collection::vec(dice(), SORTS.len()),
    ) {
        let schema = columns.schema();
        let writer = Arc::new(ParsedSchema::parse(&schema).unwrap());
        let mut datum = Vec::new();
        columns.write(&dice, &mut Out(&mut datum));
        let row = envelope::decode_key(&writer, &datum).unwrap();
        let named = columns.0.iter().map(|(place, _)| format!("c {place}")).collect::<Vec<_>>();
        let values = named.iter().map(|name| match &row[name] {
            Cell::Set(value) => Some((name.as_str(), value)),
            Cell::Unchanged => None,
        });
        let expected = values.collect::<Option<Vec<_>>>().map(RowKey::new);
        prop_assert_eq!(KeyPlan::new(writer).unwrap().read(&datum).ok(), expected);
    }
}

#[test]
fn a_column_that_the_header_names_is_not_known() {
    let columns = Columns(vec![(2, false), (5, false)]);
    let dice = Dice {
        is_null: false,
        is_placeholder: false,
        flag: false,
        count: 7,
        text: "a".to_owned(),
        zoned: String::new(),
        bytes: Vec::new(),
    };
    let plan = Plan::new(columns.envelope()).unwrap();
    let datum = columns.datum(&[dice.clone(), dice], true);
    let change = plan.read(&datum, &["c 5".to_owned()]).unwrap().unwrap();
    let cells = change.after.unwrap();
    assert_eq!(
        cells.iter().collect::<Vec<_>>(),
        [Spelt::Number(b"7"), Spelt::Unchanged]
    );
}

#[test]
fn what_is_no_envelope_is_refused_and_a_heartbeat_is_no_change() {
    let plan = |json: &str| Plan::new(Arc::new(ParsedSchema::parse(json).unwrap()));
    assert!(plan(r#"{"type":"record","name":"V","fields":[{"name":"id","type":"long"}]}"#).is_err());
    assert!(plan(r#""long""#).is_err());
    let heartbeat = r#"{"type":"record","name":"Heartbeat","namespace":"io.debezium.connector.common",
        "fields":[{"name":"ts_ms","type":"long"}]}"#;
    assert_eq!(plan(heartbeat).unwrap().read(&[2], &[]), Ok(None));
}

#[test]
fn a_key_that_moved_is_read_from_its_header() {
    let key = r#"{"type":"record","name":"Key","fields":[{"name":"b","type":"int"},{"name":"a","type":"string"}]}"#;
    let plan = KeyPlan::new(Arc::new(ParsedSchema::parse(key).unwrap())).unwrap();
    let read = plan.read_header(br#"{"a":"x","b":7}"#);
    assert_eq!(read, Some(RowKey(r#"{"b":7,"a":"x"}"#.to_owned())));
    assert_eq!(plan.read_header(br#"{"a":"x"}"#), None);
    let empty = KeyPlan::new(Arc::new(
        ParsedSchema::parse(r#"{"type":"record","name":"Key","fields":[]}"#).unwrap(),
    ));
    assert_eq!(empty.unwrap().read(&[]), Ok(RowKey::new([])));
}

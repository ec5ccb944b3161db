//! A table of twelve columns, the one that `tests/bench` writes, and its log as pgoutput sends it.

use std::sync::Arc;

use bytes::Bytes;
use syncline_bus::InRecord;
use syncline_capture::assemble::{Assembler, Rules};
use syncline_capture::envelope::Registered;
use syncline_capture::form::Form;
use syncline_capture::postgres::catalog::{ColumnInfo, TableInfo, TypeInfo, TypeKind};
use syncline_capture::postgres::pgoutput::{Begin, Message, ReplicaIdentity};
use syncline_capture::table::{Limits, Table, relation_of};
use syncline_schemas::envelope::POSITION_HEADER;
use syncline_schemas::position::{Lsn, Position};

/// Object id of the table.
pub const OID: u32 = 16_384;
/// Ids of the schemas of key and value.
pub const IDS: (u32, u32) = (1, 2);

/// Name, type, its modifier, whether NULL is allowed.
const COLUMNS: [(&str, &str, i32, bool); 12] = [
    ("id", "int8", -1, false),
    ("account_id", "int8", -1, false),
    ("status", "text", -1, false),
    ("description", "text", -1, false),
    ("amount", "numeric", (14 << 16 | 2) + 4, false),
    ("tax", "numeric", (12 << 16 | 4) + 4, false),
    ("created_at", "timestamptz", -1, false),
    ("updated_at", "timestamptz", -1, false),
    ("active", "bool", -1, false),
    ("attrs", "jsonb", -1, false),
    ("ref", "uuid", -1, false),
    ("note", "text", -1, true),
];

/// The plan of the table.
pub fn registered() -> Arc<Registered> {
    let column = |(index, (name, kind, modifier, nullable)): (usize, &(&str, &str, i32, bool))| ColumnInfo {
        number: i16::try_from(index + 1).unwrap_or_default(),
        name: (*name).to_owned(),
        type_info: TypeInfo {
            oid: 7,
            schema: "pg_catalog".to_owned(),
            name: (*kind).to_owned(),
            domain: None,
            kind: TypeKind::Base,
        },
        type_modifier: *modifier,
        not_null: !nullable,
        default: None,
        default_is_literal: false,
        generated: false,
        computed: false,
        identity: false,
    };
    let key = || vec![COLUMNS[0].0.to_owned()];
    let info = TableInfo {
        oid: OID,
        schema: "public".to_owned(),
        table: "bench".to_owned(),
        columns: COLUMNS.iter().enumerate().map(column).collect(),
        primary_key: key(),
        unique_key: Vec::new(),
        identity: ReplicaIdentity::Default,
        identity_columns: key(),
        partitioned: false,
        partition: false,
        rows_estimate: None,
    };
    let names: Vec<String> = info.columns.iter().map(|column| column.name.clone()).collect();
    let (form, relation) = (Form::default(), relation_of(&info, &names));
    let table = Table::new(
        &relation,
        Some(&info),
        "shop.public.bench".to_owned(),
        &form,
        Limits::default(),
    );
    Arc::new(Registered::new(table, (Some(IDS.0), IDS.1), &form, "shop", "shop"))
}

/// The body of an XLogData message: row `number` was inserted.
pub fn insert(number: u64) -> Bytes {
    let cents = (number * 7919) % 100_000_000;
    let tax = (number * 104_729) % 10_000_000;
    let second = number % 60;
    let cells = [
        Some(number.to_string()),
        Some(((number * 7919) % 100_000).to_string()),
        Some(
            ["new", "pending", "shipped", "delivered", "cancelled"][usize::try_from(number % 5).unwrap_or(0)]
                .to_owned(),
        ),
        Some(format!(
            "order line {number:012} of the north western distribution centre, revision 000001"
        )),
        Some(format!("{}.{:02}", cents / 100, cents % 100)),
        Some(format!("{}.{:04}", tax / 10_000, tax % 10_000)),
        Some(format!("2024-01-01 00:00:{second:02}.000003+00")),
        Some(format!("2024-06-01 00:00:{second:02}.000003+00")),
        Some(if number.is_multiple_of(2) { "t" } else { "f" }.to_owned()),
        Some(format!(
            "{{\"qty\": {}, \"sku\": \"A-{:08}\", \"ver\": 1, \"tags\": [\"red\", \"large\"]}}",
            number % 50,
            (number * 15_485_863) % 99_999_999
        )),
        Some(format!("{:08x}-0000-4000-8000-{number:012x}", number % 0xFFFF_FFFF)),
        (!number.is_multiple_of(4)).then(|| format!("note {number:016}")),
    ];
    let mut message = vec![b'I'];
    message.extend_from_slice(&OID.to_be_bytes());
    message.push(b'N');
    message.extend_from_slice(&u16::try_from(cells.len()).unwrap_or_default().to_be_bytes());
    for cell in cells {
        match cell {
            Some(text) => {
                message.push(b't');
                message.extend_from_slice(&u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
                message.extend_from_slice(text.as_bytes());
            }
            None => message.push(b'n'),
        }
    }
    Bytes::from(message)
}

/// Capture's assembler within a transaction that does not end, with the table known.
pub fn assembler() -> anyhow::Result<Assembler> {
    let mut assembler = Assembler::new(Position::new(1, Lsn(0x100), 0), Rules::default());
    assembler.define(OID, Some(registered()));
    let begin = Begin {
        final_lsn: Lsn(0x1000),
        commit_us: NOW_NS / 1000,
        xid: 77,
    };
    assembler.push(CHANGE, &Message::Begin(begin), NOW_NS)?;
    Ok(assembler)
}

/// Where the changes stand.
pub const CHANGE: Lsn = Lsn(0x900);
/// When they are read, nanoseconds since 1970.
pub const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// The record that the last message came to, as it comes back from Kafka.
pub fn captured(assembler: &Assembler) -> Option<InRecord> {
    let records = assembler.records();
    let row = records.rows().first()?;
    Some(InRecord {
        topic: "shop.public.bench".to_owned(),
        partition: 0,
        offset: 0,
        timestamp_ms: NOW_NS / 1_000_000,
        key: records.slice(&row.key).map(<[u8]>::to_vec),
        value: records.slice(&row.value).map(<[u8]>::to_vec),
        headers: vec![(POSITION_HEADER.to_owned(), row.position.to_string().into_bytes())],
    })
}

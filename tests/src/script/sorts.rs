//! What columns of random tables can be: types, with values that have made trouble somewhere.

/// A sort of column.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    /// Its type.
    pub sql: &'static str,
    /// Values, as texts of the type; the first one also serves as a default.
    pub values: &'static [&'static str],
    /// An expression of some kilobytes, for types that are stored out of line.
    pub large: Option<&'static str>,
}

impl Sort {
    /// Whether Debezium has a value for every value of it. Where it has none, it ends at a column that is NOT NULL.
    pub fn is_kept(&self) -> bool {
        let lost = ["name", "numeric", "bit(8)[]", "timestamp", "timestamp(3)"];
        let placed = ["text", "varchar(4000)", "jsonb"];
        !lost.contains(&self.sql) && (self.large.is_none() || placed.contains(&self.sql))
    }
}

const fn sort(sql: &'static str, values: &'static [&'static str]) -> Sort {
    Sort {
        sql,
        values,
        large: None,
    }
}

const fn large(sql: &'static str, values: &'static [&'static str], large: &'static str) -> Sort {
    Sort {
        sql,
        values,
        large: Some(large),
    }
}

const TEXT: &str = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 120) i)";

/// Sorts that every server has. `mood`, `pair`, `whole` and `price` are made by every script in its own schema.
pub const SORTS: &[Sort] = &[
    sort("int2", &["7", "-32768", "32767", "0"]),
    sort("int4", &["-1", "2147483647", "-2147483648", "128"]),
    sort(
        "int8",
        &["9000000000", "-9223372036854775808", "9223372036854775807", "0"],
    ),
    sort("oid", &["5", "4294967295"]),
    sort(
        "numeric",
        &[
            "3.14",
            "-0.000000000000000000001",
            "1e40",
            "NaN",
            "100",
            "Infinity",
            "7.2500",
            "20.0",
            "0.000",
        ],
    ),
    sort("numeric(10,3)", &["12.5", "-9999999.999", "0.001", "0"]),
    sort("numeric(5,0)", &["99999", "-1"]),
    sort("money", &["9.99", "-92233720368547758.08", "0"]),
    sort("float4", &["1.5", "NaN", "-Infinity", "1e-45", "16777216"]),
    sort("float8", &["2.25", "NaN", "Infinity", "1e308", "0.1", "-0"]),
    sort("bool", &["true", "false"]),
    large("text", &["it's", "", "line\n\t\"q\" \\ 🦀", "{}"], TEXT),
    large("varchar(4000)", &["abc", "", "ü"], TEXT),
    sort("varchar(8)", &["abc", ""]),
    sort("char(4)", &["xy", ""]),
    sort("\"char\"", &["q", ""]),
    sort("name", &["a name", ""]),
    large(
        "bytea",
        &["\\x0102", "\\x", "\\x00ff10"],
        "(SELECT decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 250) i)",
    ),
    sort("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    sort("json", &["{\"a\":  1}", "null", "[1, null, \"x\"]", "1e3"]),
    large(
        "jsonb",
        &["[]", "{\"b\": 1, \"a\": [true, null]}", "\"s\""],
        "(SELECT jsonb_object_agg('k' || i, md5(i::text)) FROM generate_series(1, 120) i)",
    ),
    sort("xml", &["<a b=\"1\">x</a>", "text"]),
    sort(
        "date",
        &[
            "2020-02-29",
            "0001-01-01",
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "9999-12-31",
            "1582-10-10",
        ],
    ),
    sort("time", &["12:34:56.789012", "00:00:00", "24:00:00"]),
    sort("time(0)", &["13:14:15", "24:00:00"]),
    sort("time(3)", &["12:34:56.789", "23:59:59.999"]),
    sort(
        "timetz",
        &[
            "12:34:56.789012+02",
            "23:59:59.999999-15:59",
            "24:00:00+00",
            "00:00:00+00",
        ],
    ),
    sort(
        "timestamp",
        &[
            "2020-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00 BC",
            "9999-12-31 23:59:59.999999",
        ],
    ),
    sort(
        "timestamp(3)",
        &["2020-01-01 00:00:00.123", "infinity", "1582-10-10 00:00:00"],
    ),
    sort(
        "timestamptz",
        &[
            "2020-01-01 00:00:00+02",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "12345-01-01 00:00:00+00",
            "2024-03-31 02:30:00.120+01",
        ],
    ),
    sort("timestamptz(0)", &["2020-01-01 00:00:00+02", "1969-12-31 23:59:59+00"]),
    sort(
        "interval",
        &[
            "1 day 02:00:00",
            "1 year 2 mons 3 days 04:05:06.789012",
            "-1 mons +3 days",
            "1.235 s",
            "0",
        ],
    ),
    sort("inet", &["10.0.0.1", "192.168.1.5/24", "::1"]),
    sort("cidr", &["10.0.0.0/8", "::/0"]),
    sort("macaddr", &["08:00:2b:01:02:03"]),
    sort("bit(1)", &["1", "0"]),
    sort("bit(9)", &["000001111", "100000000", "000000000"]),
    sort("varbit", &["1011", "", "101010101010101010101"]),
    sort("varbit(7)", &["1", "1111111"]),
    sort("tsvector", &["a fat cat", ""]),
    sort("point", &["(1.5,-2)", "(NaN,Infinity)"]),
    sort("int4range", &["[1,10)", "empty", "(,5]"]),
    sort("numrange", &["[1.5,2.5]", "(,)"]),
    sort("tstzrange", &["[2024-01-01 00:00+00,)", "empty"]),
    sort("mood", &["ok", "sad", "it's, \"happy\""]),
    sort("whole", &["3", "2147483647"]),
    sort("price", &["1.50", "-99.99"]),
    // What Debezium leaves out.
    sort("pg_lsn", &["16/B374D848"]),
    sort("pair", &["(1,\"x y\")"]),
    sort("tsquery", &["'fat' & 'cat'"]),
    sort("lseg", &["[(0,0),(1,1)]"]),
    sort("circle", &["<(0,0),2>"]),
    sort("polygon", &["((0,0),(1,1),(1,0))"]),
    sort("int4multirange", &["{[1,3),[5,7)}", "{}"]),
    // Arrays.
    sort("int2[]", &["{1,-2}", "{}"]),
    large(
        "int4[]",
        &["{1,NULL,3}", "{}", "{{1,2},{3,4}}", "[2:3]={7,8}"],
        "(SELECT array_agg(i * 1000) FROM generate_series(1, 1000) i)",
    ),
    large(
        "int8[]",
        &["{9000000000}", "{}"],
        "(SELECT array_agg(i::int8) FROM generate_series(1, 1000) i)",
    ),
    large(
        "text[]",
        &["{a,NULL,\"c d\",\"NULL\"}", "{}", "{\"e,f\",\"g\\\"h\",\"\"}"],
        "(SELECT array_agg(md5(i::text)) FROM generate_series(1, 120) i)",
    ),
    large(
        "numeric[]",
        &["{1.5,-2.25}", "{}", "{NULL,1e10,1.50,20.0}"],
        "(SELECT array_agg(i + 0.5) FROM generate_series(1, 800) i)",
    ),
    sort("numeric(10,2)[]", &["{1.5,NULL}", "{}"]),
    sort("varchar(10)[]", &["{ab}", "{}"]),
    sort("char(3)[]", &["{a,abc}"]),
    sort("float4[]", &["{1.5,NaN}"]),
    sort("float8[]", &["{2.5,Infinity}", "{}"]),
    sort("bool[]", &["{t,f,NULL}"]),
    sort("date[]", &["{2024-02-29}", "{}"]),
    sort("time[]", &["{13:14:15.5}"]),
    sort("timetz[]", &["{13:14:15+02}"]),
    sort("timestamp[]", &["{2024-02-29 13:14:15.123456}"]),
    large(
        "timestamptz[]",
        &["{2024-02-29 13:14:15.123456+02,NULL}", "{}"],
        "(SELECT array_agg(timestamptz '2024-01-01 00:00+00' + i * interval '1 day') FROM generate_series(1, 600) i)",
    ),
    large(
        "uuid[]",
        &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "{}"],
        "(SELECT array_agg(md5(i::text)::uuid) FROM generate_series(1, 250) i)",
    ),
    sort("json[]", &["{\"{\\\"a\\\": 1}\"}"]),
    sort("jsonb[]", &["{\"[1, 2]\",null}"]),
    large(
        "bytea[]",
        &["{\"\\\\x00ff\"}", "{}"],
        "(SELECT array_agg(md5(i::text)::bytea) FROM generate_series(1, 120) i)",
    ),
    sort("inet[]", &["{10.0.0.1,NULL}"]),
    sort("mood[]", &["{sad,ok}", "{}"]),
    sort("int4range[]", &["{\"[1,3)\"}"]),
    sort("bit(8)[]", &["{10110000}"]),
    sort("money[]", &["{1.50}"]),
    sort("interval[]", &["{1 day}"]),
    sort("point[]", &["{\"(1,2)\"}"]),
    sort("whole[]", &["{1,2}"]),
];

/// Sorts of extensions that not every server has.
pub const EXTENSIONS: &[Sort] = &[
    large(
        "hstore",
        &["k=>v", "", "\"a b\"=>\"x\", c=>NULL"],
        "(SELECT hstore(array_agg('k' || i), array_agg(md5(i::text))) FROM generate_series(1, 120) i)",
    ),
    sort("citext", &["CiText", ""]),
    sort("ltree", &["Top.Science", ""]),
    sort("hstore[]", &["{a=>1}"]),
    sort("citext[]", &["{Ab,NULL}", "{}"]),
    sort("ltree[]", &["{a.b}"]),
];

/// Sorts that a key can have: the type, and how the number `$` becomes a value that no other number becomes.
pub const KEYS: &[(&str, &str)] = &[
    ("int4", "$"),
    ("int8", "$ * 10000000000"),
    ("int2", "$"),
    ("text", "'key ' || $"),
    ("varchar(20)", "'ü' || $"),
    ("uuid", "md5($::text)::uuid"),
    ("numeric(8,2)", "$ + 0.25"),
    ("numeric", "$ / 8.0"),
    (
        "timestamptz",
        "timestamptz '2020-01-01 00:00+00' + $ * interval '1 minute'",
    ),
    ("timestamp", "timestamp '2020-01-01 00:00' + $ * interval '1.5 s'"),
    ("date", "date '2020-01-01' + $"),
    ("bytea", "int4send($)"),
    ("inet", "inet '10.0.0.0' + $"),
    ("char(10)", "'c' || $"),
];

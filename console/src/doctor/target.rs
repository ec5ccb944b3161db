//! A database that is written, as the role of the sink sees it. It asks; it judges nothing and changes nothing.

use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_capture::postgres::quote::TableName;
use syncline_runtime::Outcome;
use syncline_schemas::pipeline::{Link, Secret};

use super::facts::{Books, Target, WrittenTable};
use super::source::{connection, role};

/// Asks the database of this system about the tables of these links.
pub fn gather(name: &str, dsn: &Secret, links: &[&Link]) -> Outcome<Target> {
    let dsn = Dsn::parse(dsn.expose())?;
    let control = Control::connect(&dsn)?;
    let role = role(&control)?;
    let sql = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool";
    let read_only = control.one(sql, &[], "asking whether writes are taken")?.get(0);
    let tables = links.iter().map(|link| table(&control, link));
    Ok(Target {
        name: name.to_owned(),
        may_make_schemas: role.create,
        connection: connection(&control, &dsn)?,
        books: books(&control)?,
        tables: tables.collect::<Outcome<_>>()?,
        role,
        read_only,
    })
}

/// The sink makes schema and tables unless all of them are there.
fn books(control: &Control) -> Outcome<Books> {
    let sql = "SELECT count(*) = 7,
                      coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE')
                               AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                               AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')), false)
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'syncline'
                  AND c.relname IN ('offsets', 'applied', 'parked', 'waiting', 'merged', 'runs', 'replica_rows')";
    let row = control.one(sql, &[], "looking for the schema syncline")?;
    Ok(match (row.get(0), row.get(1)) {
        (false, _) => Books::Absent,
        (true, true) => Books::Usable,
        (true, false) => Books::Denied,
    })
}

fn table(control: &Control, link: &Link) -> Outcome<WrittenTable> {
    let name = TableName::new(&link.schema, &link.table);
    let mut columns: Vec<&str> = link.columns_read();
    columns.extend(link.columns_written());
    columns.sort_unstable();
    columns.dedup();
    let sql = "SELECT c.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
                      ARRAY(SELECT r FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS p(r, i)
                             WHERE has_table_privilege(c.oid, r) IS FALSE ORDER BY i),
                      ARRAY(SELECT w FROM unnest($3::text[]) AS w WHERE NOT EXISTS (SELECT FROM pg_attribute a
                             WHERE a.attrelid = c.oid AND a.attname = w AND a.attnum > 0 AND NOT a.attisdropped)),
                      ARRAY(SELECT format('%I.%I', m.nspname, s.relname)
                              FROM pg_attrdef d
                              JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                                              AND p.refclassid = 'pg_class'::regclass
                              JOIN pg_class s ON s.oid = p.refobjid
                              JOIN pg_namespace m ON m.oid = s.relnamespace
                             -- In a CASE, since asking that of what is no sequence is an error.
                             WHERE d.adrelid = c.oid
                               AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') END
                             ORDER BY 1),
                      coalesce(row_security_active(c.oid), false),
                      ARRAY(SELECT g.tgname::text FROM pg_trigger g
                             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' ORDER BY 1)
                 FROM (SELECT $1::text AS schema_name, $2::text AS table_name) w
                 LEFT JOIN pg_namespace n ON n.nspname = w.schema_name
                 LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
                                     AND c.relkind IN ('r', 'p', 'v', 'f')";
    let doing = format!("looking at {name}");
    let row = control.one(sql, &[&name.schema, &name.table, &columns], &doing)?;
    let missing: Vec<String> = row.get(2);
    let rights = ["SELECT", "INSERT", "UPDATE", "DELETE"].into_iter();
    Ok(WrittenTable {
        name,
        exists: row.get(0),
        schema: row.get(1),
        missing: rights
            .filter(|right| missing.iter().any(|other| other == right))
            .collect(),
        absent_columns: row.get(3),
        sequences: row.get(4),
        row_security: row.get(5),
        triggers: row.get(6),
    })
}

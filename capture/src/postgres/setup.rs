//! What must be true of the source before capture begins: checked, and made true where the role may.
//!
//! Where it may not, the failure's hint is the exact SQL for somebody who may. Adding a table to a publication is the
//! one step here that can hurt the app: without a replica identity its own UPDATE and DELETE begin to fail. So identity
//! is checked *before* a table is added, and that it is already so for a published table is only said.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use syncline_runtime::failure::{Class, Failure, Outcome};

use crate::postgres::catalog::{self, ColumnInfo, TableInfo};
use crate::postgres::control::Control;
use crate::postgres::pgoutput::ReplicaIdentity;
use crate::postgres::quote::{Ident, TableName};
pub use crate::postgres::slot::{SlotState, drop_slot, slot_state};

/// What becomes of the publication: `publication.autocreate.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublicationMode {
    /// It is made for the captured tables, and given those that it lacks.
    #[default]
    Filtered,
    /// It is made for all tables, if there is none.
    AllTables,
    /// It has to be there, and is left as it is.
    Disabled,
}

/// Which tables there are to capture, and under whose name the rows of partitioned ones come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Tables whose rows can be told apart; partitioned ones under their own names, so that a publication that names the
    /// partitions instead is refused.
    #[default]
    Roots,
    /// Whatever is published, as Debezium takes it: tables without a key with what they are given, partitioned tables and
    /// partitions each as tables of their own.
    Published {
        /// What a publication that is made says: `publish.via.partition.root`.
        via_root: bool,
    },
}

/// What the pipeline needs of a source.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name of the publication.
    pub publication: String,
    /// Name of the slot.
    pub slot: String,
    /// What becomes of the publication.
    pub mode: PublicationMode,
    /// Under whose name rows of partitioned tables come.
    pub reach: Reach,
    /// The tables that it reads.
    pub tables: Vec<TableName>,
}

/// The source as it was found, or made.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The publication, with all wanted tables in it.
    pub publication: Publication,
    /// The wanted tables, in the order asked for.
    pub tables: Vec<TableInfo>,
    /// The slot, if it is there. Making it is for [`crate::postgres::client::ReplicationClient::create_slot`].
    pub slot: Option<SlotState>,
}

/// Checks server, tables, publication and slot, in this order, and makes the publication.
pub fn prepare(control: &Control, wanted: &Wanted) -> Outcome<Prepared> {
    check_server(control)?;
    let mut tables = catalog::tables(control, &wanted.tables)?;
    let publication = match wanted.mode {
        PublicationMode::Filtered => None,
        PublicationMode::AllTables => Some(publication_of_all(control, wanted)?),
        PublicationMode::Disabled => Some(publication_as_it_is(control, wanted, &tables)?),
    };
    if let Some(publication) = &publication {
        // What is not published is never heard of again, so it is not read either.
        let relatives = match wanted.reach {
            Reach::Roots => Vec::new(),
            Reach::Published { .. } => relatives(control, &publication.name)?,
        };
        tables.retain(|table| publication.publishes(table) || relatives.contains(&table.oid));
    }
    check_readable(control, &tables)?;
    let publication = match publication {
        Some(found) => {
            check_existing(&found, wanted.reach, &tables)?;
            found
        }
        None => ensure_publication(control, wanted, &tables)?,
    };
    let slot = slot_state(control, &wanted.slot)?;
    match &slot {
        Some(slot) => slot.check(control)?,
        None => check_free_slots(control)?,
    }
    Ok(Prepared {
        publication,
        tables,
        slot,
    })
}

// ---- the server ----

fn check_server(control: &Control) -> Outcome<()> {
    let sql = "SELECT current_setting('wal_level'), pg_is_in_recovery(), current_setting('max_slot_wal_keep_size')";
    let row = control.one(sql, &[], "checking the source's settings")?;
    let (level, standby, keep): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
    if standby {
        let text = "the source is a standby; what it holds may be undone by a failover";
        return Err(Failure::definite("SOURCE_IS_STANDBY", text).hint("connect to the primary"));
    }
    if level != "logical" {
        return Err(Failure::definite(
            "WAL_LEVEL",
            format!("the source's wal_level is {level}, logical is needed"),
        )
        .hint("ALTER SYSTEM SET wal_level = logical; and restart the server"));
    }
    if keep == "-1" {
        tracing::warn!("max_slot_wal_keep_size is -1: a slot that nobody reads can fill the source's disk");
    }
    Ok(())
}

fn check_free_slots(control: &Control) -> Outcome<()> {
    let sql = "SELECT current_setting('max_replication_slots')::int8 - (SELECT count(*) FROM pg_replication_slots),
                      current_setting('max_wal_senders')::int8 - (SELECT count(*) FROM pg_stat_replication)";
    let row = control.one(sql, &[], "counting the source's slots")?;
    for (index, setting) in ["max_replication_slots", "max_wal_senders"].into_iter().enumerate() {
        if row.get::<_, i64>(index) <= 0 {
            return Err(
                Failure::definite("SOURCE_SLOTS_FULL", format!("the source's {setting} is used up")).hint(format!(
                    "raise {setting} and restart the server, or drop what is not needed (pg_replication_slots)"
                )),
            );
        }
    }
    Ok(())
}

fn check_readable(control: &Control, tables: &[TableInfo]) -> Outcome<()> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let sql =
        "SELECT n.nspname, c.relname, current_user::text, has_table_privilege(c.oid, 'SELECT'), c.relpersistence = 'p'
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1) ORDER BY 1, 2";
    for row in control.rows(sql, &[&oids], "checking what this role may read")? {
        let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let (user, readable, logged): (String, bool, bool) = (row.get(2), row.get(3), row.get(4));
        if !readable {
            let grant = format!("GRANT SELECT ON {} TO {}", name.quoted()?, Ident::new(&user)?);
            return Err(Failure::definite("SOURCE_PERMISSION", format!("{user} may not read {name}")).hint(grant));
        }
        if !logged {
            return Err(Failure::definite(
                "TABLE_NOT_LOGGED",
                format!("{name} is unlogged or temporary: its changes are not in the log"),
            )
            .hint(format!("ALTER TABLE {} SET LOGGED", name.quoted()?)));
        }
    }
    Ok(())
}

// ---- replica identity ----

/// Why changes of the table cannot be captured, with the SQL that mends it.
pub fn identity_problem(table: &TableInfo) -> Outcome<Option<Failure>> {
    let name = TableName::new(&table.schema, &table.table);
    let quoted = name.quoted()?;
    let without_key = table.identity_columns.is_empty() && table.identity != ReplicaIdentity::Full;
    if without_key {
        let text =
            format!("{name} has no replica identity: once it is published, the app's own UPDATE and DELETE of it fail");
        let remedy = match table.primary_key.is_empty() {
            true => format!("ALTER TABLE {quoted} ADD PRIMARY KEY (..), or ALTER TABLE {quoted} REPLICA IDENTITY FULL"),
            false => format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT"),
        };
        return Ok(Some(Failure::definite("NO_REPLICA_IDENTITY", text).hint(remedy)));
    }
    let lacks_key = table
        .primary_key
        .iter()
        .any(|column| !table.identity_columns.contains(column));
    if table.identity == ReplicaIdentity::Index && lacks_key {
        let text = format!(
            "the replica identity of {name} is an index without its primary key: a changed key would leave a ghost row"
        );
        let remedy = format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT (or FULL)");
        return Ok(Some(Failure::definite("IDENTITY_NOT_PRIMARY_KEY", text).hint(remedy)));
    }
    Ok(None)
}

// ---- the publication ----

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Name.
    pub name: String,
    /// `insert`, `update`, `delete`, `truncate`: what it publishes.
    pub operations: Vec<&'static str>,
    /// Changes of partitions are published as those of the root.
    pub via_root: bool,
    /// Stored generated columns are published too (from PostgreSQL 18).
    pub generated: bool,
    /// This role may alter it.
    pub ours: bool,
    /// Its tables, in order of their names.
    pub tables: Vec<PublishedTable>,
}

/// A table in a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTable {
    /// Which.
    pub name: TableName,
    /// The published columns, if they are fewer than all (from PostgreSQL 15).
    pub columns: Option<Vec<String>>,
    /// The row filter, if there is one (from PostgreSQL 15).
    pub filter: Option<String>,
}

impl Publication {
    /// 16 hexadecimal digits that change when what is published changes.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        // Parts end with a byte that no name can contain, so that no two publications read alike.
        let mut part = |text: &str| {
            hasher.update(text);
            hasher.update([0]);
        };
        part(&self.name);
        part(&self.operations.join(","));
        part(if self.via_root { "root" } else { "partitions" });
        if self.generated {
            part("generated");
        }
        for table in &self.tables {
            part(&table.name.schema);
            part(&table.name.table);
            part(table.filter.as_deref().unwrap_or_default());
            table.columns.iter().flatten().for_each(|column| part(column));
            part("");
        }
        hasher.finalize()[..8].iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The columns of a table that the log will have.
    pub fn columns_of(&self, info: &TableInfo) -> Vec<String> {
        let columns = info.columns.iter().filter(|column| self.has_column(info, column));
        columns.map(|column| column.name.clone()).collect()
    }

    fn publishes(&self, table: &TableInfo) -> bool {
        self.table(table).is_some()
    }

    fn table(&self, table: &TableInfo) -> Option<&PublishedTable> {
        self.tables.iter().find(|published| published.is(table))
    }

    /// Whether the log has the column: one that is generated only if it is stored and asked for.
    pub fn has_column(&self, table: &TableInfo, column: &ColumnInfo) -> bool {
        match self.table(table).and_then(|table| table.columns.as_ref()) {
            Some(listed) => listed.contains(&column.name),
            None => !column.generated || self.generated && !column.computed,
        }
    }
}

impl PublishedTable {
    fn is(&self, table: &TableInfo) -> bool {
        self.name.schema == table.schema && self.name.table == table.table
    }
}

/// Reads a publication.
pub fn publication(control: &Control, name: &str) -> Outcome<Option<Publication>> {
    let doing = format!("reading the publication {name:?}");
    // What a server does not know yet is NULL of the row as JSON.
    let sql = "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, pg_has_role(pubowner, 'USAGE'),
                      coalesce(to_jsonb(p)->>'pubgencols' = 's', false)
                 FROM pg_publication p WHERE pubname = $1";
    let Some(row) = control.rows(sql, &[&name], &doing)?.into_iter().next() else {
        return Ok(None);
    };
    let operations = ["insert", "update", "delete", "truncate"].into_iter().enumerate();
    let operations = operations
        .filter(|(index, _)| row.get(*index))
        .map(|(_, operation)| operation)
        .collect();
    // Column lists and row filters came with 15; as JSON a column that does not exist is NULL. From 15 on attnames is
    // all the columns that are published, whether there is a list or not.
    let sql = "SELECT t.schemaname::text, t.tablename::text, to_jsonb(t)->>'rowfilter',
                      ARRAY(SELECT jsonb_array_elements_text(to_jsonb(t)->'attnames')),
                      ARRAY(SELECT a.attname::text FROM pg_attribute a
                              JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname = t.schemaname AND c.relname = t.tablename
                               AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
                 FROM pg_publication_tables t WHERE t.pubname = $1 ORDER BY 1, 2";
    let tables = control.rows(sql, &[&name], &doing)?;
    let tables = tables.iter().map(|row| {
        let (listed, all): (Vec<String>, Vec<String>) = (row.get(3), row.get(4));
        PublishedTable {
            name: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
            columns: Some(listed)
                .filter(|listed| !listed.is_empty() && all.iter().any(|column| !listed.contains(column))),
            filter: row.get(2),
        }
    });
    let tables = tables.collect();
    Ok(Some(Publication {
        name: name.to_owned(),
        operations,
        via_root: row.get(4),
        generated: row.get(6),
        ours: row.get(5),
        tables,
    }))
}

/// The partitioned tables of which partitions are published, and the partitions of published ones.
fn relatives(control: &Control, publication: &str) -> Outcome<Vec<u32>> {
    // By oid: what casts a name needs a privilege on its schema, and a plan may cast names of tables that are not
    // published at all.
    let sql = "SELECT DISTINCT x.relid::oid FROM pg_publication_tables t
                 JOIN pg_namespace n ON n.nspname = t.schemaname
                 JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
                CROSS JOIN LATERAL pg_partition_root(c.oid) r(root)
                CROSS JOIN LATERAL pg_partition_tree(r.root) x WHERE t.pubname = $1";
    let rows = control.rows(sql, &[&publication], "looking for partitions")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Makes the publication, or adds the tables that it lacks.
fn ensure_publication(control: &Control, wanted: &Wanted, tables: &[TableInfo]) -> Outcome<Publication> {
    let name = &wanted.publication;
    match publication(control, name)? {
        None => {
            check_identities(tables.iter())?;
            run_or_hint(
                control,
                &create_statement(wanted, tables)?,
                &format!("making the publication {name:?}"),
            )?;
        }
        Some(found) => {
            check_existing(&found, wanted.reach, tables)?;
            let missing: Vec<&TableInfo> = tables.iter().filter(|table| !found.publishes(table)).collect();
            if missing.is_empty() {
                return Ok(found);
            }
            check_identities(missing.iter().copied())?;
            let statement = format!(
                "ALTER PUBLICATION {} ADD TABLE {}",
                Ident::new(name)?,
                list(missing.iter().copied())?
            );
            run_or_hint(
                control,
                &statement,
                &format!("adding tables to the publication {name:?}"),
            )?;
        }
    }
    publication(control, name)?.ok_or_else(|| gone(name))
}

/// The publication as it is; made for all tables if there is none. That takes a superuser.
fn publication_of_all(control: &Control, wanted: &Wanted) -> Outcome<Publication> {
    let name = &wanted.publication;
    if let Some(found) = publication(control, name)? {
        return Ok(found);
    }
    let root = via_root(wanted.reach == Reach::Published { via_root: true });
    let statement = format!("CREATE PUBLICATION {} FOR ALL TABLES{root}", Ident::new(name)?);
    run_or_hint(
        control,
        &statement,
        &format!("making the publication {name:?} for all tables"),
    )?;
    publication(control, name)?.ok_or_else(|| gone(name))
}

fn publication_as_it_is(control: &Control, wanted: &Wanted, tables: &[TableInfo]) -> Outcome<Publication> {
    let name = &wanted.publication;
    if let Some(found) = publication(control, name)? {
        return Ok(found);
    }
    let text =
        format!("there is no publication {name:?}, and it is not to be made (publication.autocreate.mode=disabled)");
    Err(Failure::definite("PUBLICATION_MISSING", text).hint(format!(
        "as an owner of the tables: {};",
        create_statement(wanted, tables)?
    )))
}

fn gone(name: &str) -> Failure {
    Failure::transient(
        "PUBLICATION_GONE",
        format!("the publication {name:?} vanished while it was made"),
    )
}

fn create_statement(wanted: &Wanted, tables: &[TableInfo]) -> Outcome<String> {
    let root = match wanted.reach {
        Reach::Roots => tables.iter().any(|table| table.partitioned),
        Reach::Published { via_root } => via_root,
    };
    Ok(format!(
        "CREATE PUBLICATION {} FOR TABLE {}{}",
        Ident::new(&wanted.publication)?,
        list(tables.iter())?,
        via_root(root)
    ))
}

fn via_root(root: bool) -> &'static str {
    match root {
        true => " WITH (publish_via_partition_root = true)",
        false => "",
    }
}

fn list<'a>(tables: impl Iterator<Item = &'a TableInfo>) -> Outcome<String> {
    // ONLY, as the snapshot reads: tables that inherit are captured under their own name if at all.
    let names = tables.map(|table| {
        let only = if table.partitioned { "" } else { "ONLY " };
        TableName::new(&table.schema, &table.table)
            .quoted()
            .map(|name| format!("{only}{name}"))
    });
    Ok(names.collect::<Outcome<Vec<_>>>()?.join(", "))
}

fn check_identities<'a>(tables: impl Iterator<Item = &'a TableInfo>) -> Outcome<()> {
    for table in tables {
        if let Some(problem) = identity_problem(table)? {
            return Err(problem);
        }
    }
    Ok(())
}

fn check_existing(found: &Publication, reach: Reach, tables: &[TableInfo]) -> Outcome<()> {
    let partitioned = tables.iter().find(|table| table.partitioned && reach == Reach::Roots);
    if let (false, Some(table)) = (found.via_root, partitioned) {
        let name = TableName::new(&table.schema, &table.table);
        let text = format!(
            "{name} is partitioned, and the publication {:?} names its partitions instead",
            found.name
        );
        let remedy = format!(
            "ALTER PUBLICATION {} SET (publish_via_partition_root = true)",
            Ident::new(&found.name)?
        );
        return Err(Failure::definite("PUBLICATION_PARTITIONS", text).hint(remedy));
    }
    for operation in ["insert", "update", "delete"] {
        if !found.operations.contains(&operation) {
            tracing::warn!(
                publication = found.name,
                "does not publish {operation}: such changes are never seen"
            );
        }
    }
    for table in tables.iter().filter(|table| found.publishes(table)) {
        if let Some(problem) = identity_problem(table)? {
            tracing::warn!(hint = problem.hint, "{problem}");
        }
    }
    Ok(())
}

/// Runs a statement; if the role may not, the statement is the hint.
fn run_or_hint(control: &Control, statement: &str, doing: &str) -> Outcome<()> {
    tracing::info!(statement, "{doing}");
    control
        .execute(statement, doing)
        .map_err(|failure| match failure.class {
            Class::Transient => failure,
            _ => Failure::definite("PUBLICATION_MISSING", failure.message)
                .hint(format!("as an owner of the tables: {statement};")),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(primary_key: &[&str], identity: ReplicaIdentity, identity_columns: &[&str]) -> TableInfo {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        TableInfo {
            oid: 1,
            schema: "public".to_owned(),
            table: "t".to_owned(),
            columns: Vec::new(),
            primary_key: owned(primary_key),
            unique_key: Vec::new(),
            identity,
            identity_columns: owned(identity_columns),
            partitioned: false,
            partition: false,
            rows_estimate: None,
        }
    }

    fn problem(table: &TableInfo) -> Option<&'static str> {
        identity_problem(table).unwrap().map(|problem| problem.code)
    }

    #[test]
    fn which_identities_can_be_captured() {
        use ReplicaIdentity::{Default, Full, Index, Nothing};
        assert_eq!(problem(&table(&["id"], Default, &["id"])), None);
        assert_eq!(problem(&table(&[], Full, &[])), None);
        assert_eq!(problem(&table(&["id"], Index, &["x", "id"])), None);
        assert_eq!(problem(&table(&[], Index, &["x"])), None);
        assert_eq!(problem(&table(&[], Default, &[])), Some("NO_REPLICA_IDENTITY"));
        assert_eq!(problem(&table(&["id"], Nothing, &[])), Some("NO_REPLICA_IDENTITY"));
        assert_eq!(
            problem(&table(&["id"], Index, &["x"])),
            Some("IDENTITY_NOT_PRIMARY_KEY")
        );
    }

    #[test]
    fn a_partitioned_table_is_published_by_its_root() {
        let mut root = table(&["id"], ReplicaIdentity::Default, &["id"]);
        let statement = |reach, table: &TableInfo| {
            let wanted = Wanted {
                publication: "p".to_owned(),
                slot: "s".to_owned(),
                mode: PublicationMode::Filtered,
                reach,
                tables: Vec::new(),
            };
            create_statement(&wanted, std::slice::from_ref(table)).unwrap()
        };
        assert_eq!(
            statement(Reach::Roots, &root),
            r#"CREATE PUBLICATION "p" FOR TABLE ONLY "public"."t""#
        );
        root.partitioned = true;
        assert_eq!(
            statement(Reach::Roots, &root),
            r#"CREATE PUBLICATION "p" FOR TABLE "public"."t" WITH (publish_via_partition_root = true)"#
        );
        assert_eq!(
            statement(Reach::Published { via_root: false }, &root),
            r#"CREATE PUBLICATION "p" FOR TABLE "public"."t""#
        );
    }

    #[test]
    fn the_hash_follows_what_is_published() {
        let mut publication = Publication {
            name: "p".to_owned(),
            operations: vec!["insert"],
            via_root: false,
            generated: false,
            ours: true,
            tables: Vec::new(),
        };
        let before = publication.hash();
        publication.ours = false;
        assert_eq!(publication.hash(), before);
        publication.operations.push("delete");
        assert_ne!(publication.hash(), before);
        assert_eq!(before.len(), 16);
    }
}

//! What the role of capture may do, and what it need not.
//!
//! Both matter: too little stops a run, too much makes a stolen password worth more. REPLICATION alone reads the whole
//! cluster, so nothing beyond it should come along.

use super::server::alter_role;
use super::{Findings, quoted};
use crate::doctor::facts::{Role, Source, Table};
use crate::doctor::finding::Finding;

/// Roles whose members can do more than read.
const POWERFUL: &[&str] = &[
    "pg_write_all_data",
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_signal_backend",
    "rds_superuser",
    "cloudsqlsuperuser",
    "azure_pg_admin",
];

/// Too little and too much.
pub fn judge(source: &Source) -> Vec<Finding> {
    let mut findings = Findings::at(&source.name);
    let role = &source.role;
    if !role.replication && !role.superuser {
        let mend = match &role.provider {
            Some(provider) => format!("GRANT {} TO {};", quoted(provider), quoted(&role.name)),
            None => alter_role(&role.name, "REPLICATION"),
        };
        let what = format!("the role {} may not stream the log", role.name);
        findings.stops(
            "NO_REPLICATION",
            what,
            "slots are made and read only by roles that may replicate",
            mend,
        );
    }
    attributes(role, &mut findings);
    tables(source, &mut findings);
    findings.done()
}

/// Attributes beyond need, of a source's role as of a target's.
pub(super) fn attributes(role: &Role, findings: &mut Findings) {
    let name = &role.name;
    let attributes = [
        (
            role.superuser,
            "SUPERUSER",
            "NOSUPERUSER",
            "it can read and change everything, files of the server included",
        ),
        (
            role.create_role && !role.superuser,
            "CREATEROLE",
            "NOCREATEROLE",
            "it can give rights to others, and to itself",
        ),
        (
            role.create_db && !role.superuser,
            "CREATEDB",
            "NOCREATEDB",
            "it can fill the server's disk",
        ),
        (
            role.bypass_rls && !role.superuser,
            "BYPASSRLS",
            "NOBYPASSRLS",
            "it sees rows that policies would hide from it",
        ),
    ];
    for (_, attribute, without, why) in attributes.into_iter().filter(|(has, ..)| *has) {
        let what = format!("the role {name} has {attribute}, which is not needed");
        findings.risk("PRIVILEGE_BEYOND_NEED", what, why, alter_role(name, without));
    }
    // A superuser counts as a member of every role.
    let member_of = role
        .member_of
        .iter()
        .filter(|other| POWERFUL.contains(&other.as_str()) && !role.superuser);
    for other in member_of {
        findings.risk(
            "PRIVILEGE_BEYOND_NEED",
            format!("the role {name} is a member of {other}, which is not needed"),
            "whoever has its password can do all that this role can",
            format!("REVOKE {} FROM {};", quoted(other), quoted(name)),
        );
    }
}

/// One finding for all tables: there may be a thousand.
fn tables(source: &Source, findings: &mut Findings) {
    let role = &source.role;
    if role.superuser {
        return;
    }
    let owned = names(&source.tables, |table| table.rights.own);
    if !owned.is_empty() {
        findings.note(
            "PRIVILEGE_BEYOND_NEED",
            format!("the role {} owns {}", role.name, owned.join(", ")),
            "an owner can change and drop its tables; to read them, a grant is enough",
            format!(
                "give the tables another owner: REASSIGN OWNED BY {} TO OWNER;",
                quoted(&role.name)
            ),
        );
    }
    let written = names(&source.tables, |table| table.rights.write && !table.rights.own);
    if !written.is_empty() {
        let list = written.join(", ");
        findings.note(
            "PRIVILEGE_BEYOND_NEED",
            format!("the role {} may write {list}", role.name),
            "capture only reads; if the sink writes here, give it a role of its own",
            format!(
                "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {list} FROM {};",
                quoted(&role.name)
            ),
        );
    }
}

fn names(tables: &[Table], which: impl Fn(&Table) -> bool) -> Vec<String> {
    let names = tables
        .iter()
        .filter(|table| which(table))
        .map(|table| super::tables::name(&table.name));
    names.collect()
}

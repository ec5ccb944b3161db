//! The shapes of tables: from what the log or the catalogue says of a table to a plan with schema ids.
//!
//! The one place where capture waits for the catalogue and the registry, once per shape and never per row. While it streams
//! it does not wait for the registry long: the table does, alone ([`crate::behind`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use syncline_bus::Registry;
use syncline_bus::admin::{self, TopicSpec};
use syncline_runtime::{Class, Failure, Outcome};
use syncline_schemas::topic;

use crate::asking::{Asking, Schema};
use crate::companions::Companion;
use crate::config::{Reach, SourceConfig};
use crate::envelope::Registered;
use crate::form::Fidelity;
use crate::outlet::Addressed;
use crate::postgres::catalog::{self, TableInfo, TypeInfo, TypeKind};
use crate::postgres::control::Control;
use crate::postgres::pgoutput::Relation;
use crate::postgres::quote::TableName;
use crate::table::{self, Limits, Table};

/// What a table is, as the log announces it.
pub enum Announced {
    /// Not wanted.
    Unwanted,
    /// Its plan.
    Plan(Arc<Registered>),
    /// Its plan without ids: the registry has not answered yet. No record may be written by it.
    Waits(Arc<Registered>),
}

impl Announced {
    /// The plan, whether it has ids or not.
    pub fn plan(self) -> Option<Arc<Registered>> {
        match self {
            Announced::Unwanted => None,
            Announced::Plan(plan) | Announced::Waits(plan) => Some(plan),
        }
    }
}

/// Key and value.
type Ids = (Option<u32>, u32);

/// Makes plans and keeps what was said about each.
pub struct Shapes<'a> {
    config: &'a SourceConfig,
    registry: &'a Arc<Registry>,
    /// What the log announced and the registry has not answered.
    asking: Asking,
    control: Control,
    database: String,
    wanted: BTreeSet<TableName>,
    ensured: BTreeSet<String>,
    warned: BTreeSet<(String, String)>,
    known: HashMap<u32, Arc<Registered>>,
    /// The labels of enums as they were at the start, by object id; none before the first table.
    labels: Option<HashMap<u32, Vec<String>>>,
}

impl<'a> Shapes<'a> {
    /// For the tables `wanted`; rows of others are passed over.
    pub fn new(
        config: &'a SourceConfig,
        registry: &'a Arc<Registry>,
        control: Control,
        database: &str,
        wanted: impl IntoIterator<Item = TableName>,
    ) -> Self {
        Self {
            config,
            registry,
            asking: Asking::default(),
            control,
            database: database.to_owned(),
            wanted: wanted.into_iter().collect(),
            ensured: BTreeSet::new(),
            warned: BTreeSet::new(),
            known: HashMap::new(),
            labels: None,
        }
    }

    /// Name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The connection to the catalogue.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The tables whose rows are wanted.
    pub fn wanted(&self) -> Vec<TableName> {
        self.wanted.iter().cloned().collect()
    }

    /// The questions to the registry.
    pub fn asking(&self) -> &Asking {
        &self.asking
    }

    /// The plan of a table as the log announces it.
    pub fn announced(&mut self, relation: &Relation) -> Outcome<Announced> {
        let name = TableName::new(&relation.schema, &relation.table);
        if !self.wanted.contains(&name) && !self.is_new(&name) {
            return Ok(Announced::Unwanted);
        }
        let info = match catalog::tables(&self.control, &[name]) {
            Ok(found) => found
                .into_iter()
                .next()
                .map(|info| self.as_remembered(info))
                .transpose()?,
            Err(failure) if failure.class == Class::Transient => return Err(failure),
            // The table is gone by now; the log goes on for a while without it.
            Err(_) => None,
        };
        self.registered(relation, info.as_ref(), Self::ids_soon)
    }

    /// Whether a table that was not there at the start is wanted, as Debezium wants it: where the publication says which
    /// there are, and the lists let it through.
    fn is_new(&self, name: &TableName) -> bool {
        let config = self.config;
        let by_lists = config.tables.is_none() && config.reach != Reach::Roots;
        by_lists && config.form.selection.has_table(&name.schema, &name.table)
    }

    /// Debezium reads the labels of an enum once and never again.
    fn as_remembered(&mut self, mut info: TableInfo) -> Outcome<TableInfo> {
        if self.config.form.fidelity == Fidelity::Debezium {
            if self.labels.is_none() {
                self.labels = Some(catalog::labels(&self.control)?);
            }
            let labels = self.labels.get_or_insert_default();
            for column in &mut info.columns {
                remember(&mut column.type_info, labels);
            }
        }
        Ok(info)
    }

    /// The plan of a table as the catalogue describes it, of the columns named.
    pub fn described(&mut self, info: &TableInfo, columns: &[String]) -> Outcome<Arc<Registered>> {
        let info = self.as_remembered(info.clone())?;
        let ids = |shapes: &mut Self, table: &Table| shapes.ids(table).map(Some);
        let announced = self.registered(&table::relation_of(&info, columns), Some(&info), ids)?;
        announced
            .plan()
            .ok_or_else(|| Failure::definite("TABLE_UNWANTED", "a table without a plan"))
    }

    fn registered(
        &mut self,
        relation: &Relation,
        info: Option<&TableInfo>,
        ids_of: impl Fn(&mut Self, &Table) -> Outcome<Option<Ids>>,
    ) -> Outcome<Announced> {
        let config = self.config;
        let topic = config
            .form
            .topics
            .table(&config.prefix, &relation.schema, &relation.table);
        self.ensure(&topic)?;
        let mut table = Table::new(relation, info, topic.clone(), &self.config.form, Limits::default());
        check_names(&table)?;
        if self.known.get(&relation.oid).is_some_and(|known| known.table == table) {
            return Ok(Announced::Plan(self.known[&relation.oid].clone()));
        }
        let ids = match ids_of(self, &table) {
            // Apicurio takes a schema with `"default":"{}"` for one of another kind and refuses it.
            Err(failure) if failure.class == Class::Definite && has_object_default(&table) => {
                tracing::warn!(
                    table = table.full_name(),
                    "the registry refuses a JSON object as a default; left out"
                );
                table = Table::new(
                    relation,
                    info,
                    topic,
                    &self.config.form,
                    Limits {
                        no_object_defaults: true,
                    },
                );
                ids_of(self, &table)?
            }
            ids => ids?,
        };
        let config = self.config;
        let plan = |table, ids| {
            Arc::new(Registered::new(
                table,
                ids,
                &config.form,
                &config.prefix,
                &self.database,
            ))
        };
        let Some(ids) = ids else {
            let none = (table.key_schema.as_ref().map(|_| 0), 0);
            return Ok(Announced::Waits(plan(table, none)));
        };
        let registered = plan(table, ids);
        self.warn(&registered.table);
        self.known.insert(relation.oid, registered.clone());
        Ok(Announced::Plan(registered))
    }

    /// A topic beside those of tables, made when its first record comes.
    pub fn companion(&mut self, companion: Companion) -> Outcome<Addressed> {
        let config = self.config;
        let named = config.snapshots.notification_topic.as_ref();
        let topic = match named.filter(|_| companion == Companion::Notification) {
            Some(name) => name.clone(),
            None => companion.topic(&config.prefix, &config.form),
        };
        // One partition: what it says is about the whole source, and its order counts.
        admin::ensure(&config.bus, &[TopicSpec::new(&topic, 1)])?;
        let register = |subject: String, schema: &str| self.registry.register(&subject, schema);
        Ok(Addressed {
            key_id: register(topic::key_subject(&topic), companion.key_schema())?,
            value_id: register(topic::value_subject(&topic), &companion.value_schema(&config.form))?,
            topic,
        })
    }

    fn ids(&self, table: &Table) -> Outcome<Ids> {
        let register = |(subject, schema): (String, &str)| self.registry.register(&subject, schema);
        let (key, value) = schemas(table);
        Ok((key.map(register).transpose()?, register(value)?))
    }

    /// The same; none if the registry does not answer soon.
    fn ids_soon(&mut self, table: &Table) -> Outcome<Option<Ids>> {
        let (key, value) = schemas(table);
        let unknown = |(subject, schema): &(String, &str)| self.registry.known(subject, schema).is_none();
        let asked = key.into_iter().chain([value]).filter(unknown);
        let asked: Vec<Schema> = asked.map(|(subject, schema)| (subject, schema.to_owned())).collect();
        if !asked.is_empty() {
            match self.asking.ask(self.registry, asked)? {
                None => return Ok(None),
                Some(answered) => answered?,
            }
        }
        self.ids(table).map(Some)
    }

    fn ensure(&mut self, topic: &str) -> Outcome<()> {
        if !self.ensured.contains(topic) {
            admin::ensure(&self.config.bus, &[TopicSpec::new(topic, self.config.partitions)])?;
            self.ensured.insert(topic.to_owned());
        }
        Ok(())
    }

    fn warn(&mut self, table: &Table) {
        for column in table.foreign_columns() {
            if self.warned.insert((table.full_name(), column.to_owned())) {
                tracing::warn!(
                    table = table.full_name(),
                    column,
                    "is of a type without a form of its own: written as text"
                );
            }
        }
    }
}

/// Subject and text of the schemas of key and value.
fn schemas(table: &Table) -> (Option<(String, &str)>, (String, &str)) {
    let key = table.key_schema.as_deref();
    (
        key.map(|schema| (topic::key_subject(&table.topic), schema)),
        (topic::value_subject(&table.topic), &table.value_schema),
    )
}

/// Gives the type the labels that it had, or keeps those that it has.
fn remember(info: &mut TypeInfo, known: &mut HashMap<u32, Vec<String>>) {
    match &mut info.kind {
        TypeKind::Enum(labels) => {
            let first = known.entry(info.oid).or_insert_with(|| labels.clone()).clone();
            *labels = first;
        }
        TypeKind::Array(element) => remember(element, known),
        _ => (),
    }
}

/// Names are not adjusted where that is set, and then what Avro cannot bear stops the table, as it stops Debezium.
fn check_names(table: &Table) -> Outcome<()> {
    let names = table.illegal_names();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!("{}: Avro cannot bear the column names {names:?}", table.full_name());
    Err(Failure::definite("NAME_ILLEGAL", text)
        .hint("set field.name.adjustment.mode to avro, or leave the columns out"))
}

fn has_object_default(table: &Table) -> bool {
    let object = |default: &String| default.trim_start().starts_with('{');
    table
        .columns
        .iter()
        .any(|column| column.default.as_ref().is_some_and(object))
}

//! The checked model: what the pipeline file says once it is known to make sense.
//!
//! Nothing here knows YAML or spans; a rule remembers only the line that a conflict record names. Whoever holds a
//! [`Pipeline`] may rely on what was checked: names refer to something, every two-way field obeys the lens law.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::care::Care;
use super::guards::Guards;
use super::migrate::Migration;
use super::mode::Mode;
use super::reference::Reference;
use super::rule::{Check, Group, RuleRef, Strategy, Terms};
use super::secret::Secret;
use super::setting::Setting;
use crate::lens::Expr;
use crate::schedule::Window;
use crate::value::Number;

/// A whole pipeline file. Lists keep the order of the file: the order of `systems` is the order of authority for ties.
#[derive(Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// Name; the first part of the names of its topics.
    pub name: String,
    /// The file it was read from, as it is named in messages and conflict records.
    pub file: String,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// Further properties of the Kafka client (`security.protocol` and the like).
    pub kafka_properties: BTreeMap<String, String>,
    /// URL of the schema registry.
    pub registry: String,
    /// Partitions of the topics that Syncline makes.
    pub partitions: i32,
    /// How capture writes to Kafka.
    pub delivery: Delivery,
    /// How far ahead of Kafka's time a source's clock may run before its stamps are clamped.
    pub max_clock_skew_ms: i64,
    /// IANA name of the time zone that local times are read in.
    pub timezone: String,
    /// The apps.
    pub systems: Vec<System>,
    /// What the apps agree on.
    pub entities: Vec<Entity>,
    /// Which table speaks for which entity.
    pub links: Vec<Link>,
    /// Tables that are copied as they are.
    pub replicas: Vec<Replica>,
    /// What stops a source.
    pub guards: Guards,
}

/// How capture writes to Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Rows and progress in one Kafka transaction.
    #[default]
    ExactlyOnce,
    /// Progress after the acknowledged rows: a crash may repeat rows, which map, merge and sink recognise.
    AtLeastOnce,
}

/// An app and its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Name, as links and rules use it.
    pub name: String,
    /// Connection string; none if Syncline neither captures nor writes it.
    pub postgres: Option<Secret>,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication.
    pub publication: String,
    /// First part of the names of its capture topics.
    pub topic_prefix: String,
    /// Who writes its capture topics.
    pub capture: CapturedBy,
    /// Tables to capture as `schema.table`, beyond those that links and replicas read; none if the file does not say.
    pub tables: Option<Vec<String>>,
    /// Which of two right answers its capture gives; none if the file does not say.
    pub fidelity: Option<Fidelity>,
    /// Debezium's properties for its capture, under Debezium's names; none if the file has no such map. What they mean is
    /// known to capture.
    pub debezium: Option<Vec<Setting>>,
    /// What its capture does when something goes wrong.
    pub care: Care,
    /// When nothing is written into it.
    pub maintenance: Option<Window>,
}

/// Which of two right answers capture gives where Debezium's own loses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fidelity {
    /// The right value.
    Exact,
    /// What Debezium writes.
    Debezium,
}

/// Who writes the capture topics of a system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CapturedBy {
    /// `syncline-capture`.
    #[default]
    Syncline,
    /// A Debezium connector.
    Debezium,
}

/// Something that several apps hold and should agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Name.
    pub name: String,
    /// Version of its schema: the N of `path@N` and of the canonical topic.
    pub version: u32,
    /// The Avro record of its fields, as its author wrote it.
    pub schema_json: String,
    /// The fields that are kept in agreement, in the order of the file.
    pub fields: Vec<Field>,
    /// Fields that win together, in the order of the file.
    pub groups: Vec<Group>,
    /// What the agreed record has to meet.
    pub checks: Vec<Check>,
    /// What rows are matched by at first sight: of these lists the first that a row has all of. A part is a field, or an
    /// expression over fields ([`crate::lens::key()`]).
    pub match_on: Vec<Vec<Expr>>,
    /// How rows that got different records at first sight are found to be one all the same.
    pub score: Option<Score>,
    /// Fields that refer to another entity, in the order of the file.
    pub references: Vec<Reference>,
    /// What a delete in a system means, where the file says it for that system.
    pub on_delete: BTreeMap<String, DeletePolicy>,
    /// What a delete means in every other system.
    pub default_delete: DeletePolicy,
    /// What becomes of the fields of its older versions.
    pub migrate: Migration,
    /// Systems whose deletes win and into which nothing is ever written: no mark tells what their users had seen.
    pub only_read: BTreeSet<String>,
    /// Identifies the rules: first 16 hex digits of a SHA-256 over the rules, not over spelling or line numbers.
    pub rules: String,
}

/// A field of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, the same as in the schema.
    pub name: String,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether the schema lets it be null.
    pub nullable: bool,
    /// What decides between words that did not see each other.
    pub strategy: Strategy,
    /// On what terms.
    pub terms: Terms,
    /// What its agreed value has to meet.
    pub check: Option<Check>,
    /// Which edits are jumps, that wait for a person: a condition on `old` and `new`.
    pub guard: Option<Check>,
    /// Where the file says so.
    pub rule: RuleRef,
}

/// What a field holds, by its Avro type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `string`, and whatever travels as text.
    Text,
    /// `boolean`.
    Bool,
    /// `int`, `long` (scale 0), `bytes` with `decimal` (its scale), `float`, `double` (no scale).
    Number {
        /// Digits after the point that the schema has room for; none if it does not say.
        scale: Option<u32>,
    },
    /// `int` with `date`: a text such as `2026-01-02`.
    Date,
    /// A timestamp logical type: a text such as `2026-01-02T03:04:05.123456Z`.
    Timestamp,
    /// `array`.
    List(ElementKind),
}

/// What a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementKind {
    /// `string`.
    Text,
    /// `int` or `long`.
    Integer,
}

/// What a delete in an app means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletePolicy {
    /// The entity is deleted everywhere, also against a concurrent edit.
    DeleteWins,
    /// The entity lives if somebody edited it without having seen the delete.
    UpdateWins,
    /// Like `update_wins`, but neither the delete nor the edits go anywhere until a person decides.
    Hold,
    /// The record is flagged as deleted, rows stay.
    Soft,
    /// Only the link of that app ends.
    #[default]
    Ignore,
}

/// Which way a link goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `->`: the table is read.
    Into,
    /// `<-`: the table is written.
    OutOf,
    /// `<->`: both.
    Both,
}

/// A table that speaks for an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The system the table is in.
    pub system: String,
    /// The table's schema, `public` unless the file names one.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The entity it speaks for.
    pub entity: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Key columns of the table.
    pub key: Vec<String>,
    /// How columns and fields correspond.
    pub fields: Vec<LinkField>,
    /// Columns with the key of another app's row that is the same entity, by the name of the app.
    pub same_as: Vec<(String, String)>,
    /// When it is written.
    pub mode: Mode,
    /// Where the file says so.
    pub rule: RuleRef,
}

/// What it weighs that two rows hold the same, and what that has to come to. After Fellegi and Sunter: the weight of a part
/// is how much likelier it is that two rows of one agree in it than that two rows of different ones do, as a logarithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Parts, as those of `match_on`, and their weights, in the order of the file.
    pub weights: Vec<(Expr, Number)>,
    /// From here on they are one.
    pub link: Number,
    /// From here on a person is asked.
    pub review: Number,
}

impl Pipeline {
    /// Whether rows of this entity are compared with others when they are first seen.
    pub fn compares(&self, entity: &Entity) -> bool {
        let named = self
            .links
            .iter()
            .any(|link| link.entity == entity.name && !link.same_as.is_empty());
        entity.score.is_some() || named
    }
}

impl Score {
    /// What the parts weigh in which two rows agree, and which they are, as the file says them.
    pub fn weigh(&self, agrees: impl Fn(&str) -> bool) -> (Number, Vec<String>) {
        let (mut sum, mut agreed) = (Number::zero(), Vec::new());
        for (part, weight) in &self.weights {
            let part = part.to_string();
            if agrees(&part) {
                sum = &sum + weight;
                agreed.push(part);
            }
        }
        (sum, agreed)
    }

    /// The parts by one of which rows have to agree to come to `review`: all but the lightest that cannot without another.
    pub fn keys(&self) -> Vec<&Expr> {
        let mut by_weight: Vec<&(Expr, Number)> = self.weights.iter().collect();
        by_weight.sort_by(|(_, one), (_, other)| one.cmp(other));
        let mut sum = Number::zero();
        let mut left_out = 0;
        for (_, weight) in &by_weight {
            sum = &sum + weight;
            if sum >= self.review {
                break;
            }
            left_out += 1;
        }
        by_weight.into_iter().skip(left_out).map(|(part, _)| part).collect()
    }
}

/// How columns correspond to one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkField {
    /// The field.
    pub field: String,
    /// What the field holds.
    pub kind: FieldKind,
    /// Whether its list is a set (strategy `union`).
    pub set: bool,
    /// The group it is written with, or left alone with.
    pub group: Option<String>,
    /// Whether what the app says of it is listened to; false for `<-`, where `get` serves the sink alone.
    pub reads: bool,
    /// The field from the columns. None only if it is written by a `put` without a `get`.
    pub get: Option<Expr>,
    /// The columns from the field; empty if it is never written.
    pub put: Vec<(String, Expr)>,
}

/// Tables of one system kept identical in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The system read.
    pub from: String,
    /// The system written.
    pub to: String,
    /// `schema.table` of each table; none for every table captured.
    pub tables: Option<Vec<String>>,
}

impl Pipeline {
    /// The system of that name.
    pub fn system(&self, name: &str) -> Option<&System> {
        self.systems.iter().find(|system| system.name == name)
    }

    /// The entity of that name.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.name == name)
    }

    /// The links of an entity, in the order of the file.
    pub fn links_of<'a>(&'a self, entity: &'a str) -> impl Iterator<Item = &'a Link> + 'a {
        self.links.iter().filter(move |link| link.entity == entity)
    }

    /// The names of the systems by falling authority: what decides where nothing else does.
    pub fn authority(&self) -> impl Iterator<Item = &str> {
        self.systems.iter().map(|system| system.name.as_str())
    }

    /// `schema.table` of every table of `system` that has to be captured; links and replicas first, in the order of the
    /// file. A replica of all tables adds none here.
    pub fn captured_tables(&self, system: &str) -> Vec<String> {
        let links = self
            .links
            .iter()
            .filter(|link| link.system == system && link.reads())
            .map(Link::qualified_table);
        let replicas = self.replicas.iter().filter(|replica| replica.from == system);
        let replicated = replicas.flat_map(|replica| replica.tables.clone().unwrap_or_default());
        let named = self
            .system(system)
            .and_then(|system| system.tables.clone())
            .unwrap_or_default();
        let mut seen = BTreeSet::new();
        links
            .chain(replicated)
            .chain(named)
            .filter(|table| seen.insert(table.clone()))
            .collect()
    }
}

/// Properties and URLs may carry passwords, so only names are shown.
impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.name)
            .field("file", &self.file)
            .field("systems", &self.systems)
            .field("entities", &self.entities)
            .field("links", &self.links)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

impl Entity {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether there are conditions on agreed values.
    pub fn has_checks(&self) -> bool {
        !self.checks.is_empty() || self.fields.iter().any(|field| field.check.is_some())
    }

    /// Whether a held field of it may expire, or a lock end that others wait for, so that it has to be told the time.
    pub fn has_deadlines(&self) -> bool {
        let groups = self.groups.iter().map(|group| &group.terms);
        let fields = self.fields.iter().map(|field| &field.terms);
        fields.chain(groups).any(|terms| terms.expires.is_some() || terms.queue)
    }

    /// The group that a field wins with.
    pub fn group_of(&self, field: &str) -> Option<&Group> {
        self.groups
            .iter()
            .find(|group| group.fields.iter().any(|member| member == field))
    }

    /// What decides about a group, or a field, and on what terms.
    pub fn rule_of(&self, name: &str) -> Option<(&Strategy, &Terms)> {
        let group = self.groups.iter().find(|group| group.name == name);
        let field = || self.field(name).map(|field| (&field.strategy, &field.terms));
        group.map(|group| (&group.strategy, &group.terms)).or_else(field)
    }

    /// What a delete in `system` means.
    pub fn delete_policy(&self, system: &str) -> DeletePolicy {
        self.on_delete.get(system).copied().unwrap_or(self.default_delete)
    }
}

impl Link {
    /// `shop.public.customers`.
    pub fn name(&self) -> String {
        format!("{}.{}.{}", self.system, self.schema, self.table)
    }

    /// `public.customers`.
    pub fn qualified_table(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// Whether the table is read.
    pub fn reads(&self) -> bool {
        self.direction != Direction::OutOf
    }

    /// Whether the table is written.
    pub fn writes(&self) -> bool {
        self.direction != Direction::Into
    }

    /// How columns correspond to `field`.
    pub fn field(&self, field: &str) -> Option<&LinkField> {
        self.fields.iter().find(|mapped| mapped.field == field)
    }

    /// Every column that is looked at, key columns first, then by name.
    pub fn columns_read(&self) -> Vec<&str> {
        let names = self
            .fields
            .iter()
            .filter_map(|field| field.get.as_ref())
            .flat_map(Expr::names);
        self.after_key(names.collect())
    }

    /// Every column that a field is written to, by name.
    pub fn columns_written(&self) -> Vec<&str> {
        let columns = self
            .fields
            .iter()
            .flat_map(|field| &field.put)
            .map(|(column, _)| column.as_str());
        columns.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn after_key<'a>(&'a self, columns: BTreeSet<&'a str>) -> Vec<&'a str> {
        let key = self.key.iter().map(String::as_str);
        let others = columns
            .into_iter()
            .filter(|column| !self.key.iter().any(|key| key == column));
        key.chain(others).collect()
    }
}

impl LinkField {
    /// Whether the sink writes it.
    pub fn writes(&self) -> bool {
        !self.put.is_empty()
    }
}

/// As in the file.
impl fmt::Display for DeletePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeletePolicy::DeleteWins => "delete_wins",
            DeletePolicy::UpdateWins => "update_wins",
            DeletePolicy::Hold => "hold",
            DeletePolicy::Soft => "soft",
            DeletePolicy::Ignore => "ignore",
        })
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldKind::Text => "text",
            FieldKind::Bool => "true or false",
            FieldKind::Number { .. } => "number",
            FieldKind::Date => "date",
            FieldKind::Timestamp => "timestamp",
            FieldKind::List(_) => "list",
        })
    }
}

/// As in the file.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Into => "->",
            Direction::OutOf => "<-",
            Direction::Both => "<->",
        })
    }
}

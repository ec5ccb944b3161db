//! The steps before the stream, in their order; each attempt takes all of them. See `stage` for why this order.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_bus::Registry;
use syncline_bus::admin::{self, TopicSpec};
use syncline_runtime::{Failure, Outcome, Shutdown};
use syncline_schemas::pipeline::care::OnPoison;
use syncline_schemas::position::Lsn;
use syncline_schemas::progress::{Progress, SnapshotState};
use syncline_schemas::topic;

use crate::config::{Reach, Repair, SourceConfig};
use crate::errands::Errands;
use crate::form::Fidelity;
use crate::incremental::agenda::Agenda;
use crate::known::Known;
use crate::load::{Load, Pending};
use crate::moved;
use crate::notify::{self, Notification};
use crate::outlet::Outlet;
use crate::poison::Refused;
use crate::postgres::catalog::TableInfo;
use crate::postgres::client::ReplicationClient;
use crate::postgres::control::Control;
use crate::postgres::quote::TableName;
use crate::postgres::session::SessionSettings;
use crate::postgres::setup::{self, Prepared, Publication, SlotState, Wanted};
use crate::postgres::snapshot::Snapshot;
use crate::postgres::stream::{Stream, StreamSettings};
use crate::progress;
use crate::shapes::Shapes;
use crate::snapshots::Mode;
use crate::start::{self, Server, Start};
use crate::takeover;

mod making;

use making::Making;

/// How often an idle log is heard of where its end is waited for.
const AWAITED_IDLE_MS: u64 = 20;

/// What outlives an attempt.
pub struct Carried {
    /// What a person decided; spent when it has been carried out.
    repair: Repair,
    /// With `snapshot.mode` always: whether this process has said that all tables are to be read.
    reread: bool,
    /// Whether this process has streamed: then a standby at the address is a failover under way.
    pub streamed: bool,
    /// Records that the broker has refused.
    pub refused: Refused,
    /// Up to where to capture, with `until_current`: the end of the log when the process began.
    pub target: Option<Lsn>,
}

impl Carried {
    /// At the start of the process.
    pub fn new(config: &SourceConfig) -> Self {
        Self {
            repair: config.repair,
            reread: false,
            streamed: false,
            refused: Refused::default(),
            target: None,
        }
    }
}

/// A source ready to be streamed.
pub struct Opened<'a> {
    /// The log.
    pub stream: Stream,
    /// The way out.
    pub outlet: Outlet,
    /// The shapes of the tables.
    pub shapes: Shapes<'a>,
    /// From where.
    pub progress: Progress,
    /// What is known of the tables.
    pub known: Known,
    /// What signals have asked for.
    pub errands: Errands,
}

/// What the steps that only the one writer may take lead to.
struct Ready<'a> {
    stream: Stream,
    shapes: Shapes<'a>,
    progress: Progress,
    known: Known,
    errands: Errands,
}

/// Takes the steps; none if a wish to stop came between.
pub fn open<'a>(
    config: &'a SourceConfig,
    registry: &'a Arc<Registry>,
    shutdown: &Shutdown,
    carried: &mut Carried,
) -> Outcome<Option<Opened<'a>>> {
    let control = Control::connect(&config.dsn)?;
    let prepared = prepare(config, &control).map_err(|failure| match failure.code {
        "SOURCE_IS_STANDBY" if carried.streamed => Failure::transient(failure.code, failure.message),
        _ => failure,
    })?;
    if !carried.repair.resnapshot
        && let Some(lost) = prepared.slot.as_ref().and_then(|slot| slot.lost(&config.command))
    {
        if config.snapshots.mode != Mode::WhenNeeded {
            return Err(lost);
        }
        tracing::warn!(
            code = lost.code,
            "all tables are read again (snapshot.mode when_needed): {lost}"
        );
        carried.repair.resnapshot = true;
    }
    lease(prepared.slot.as_ref())?;
    if config.until_current && carried.target.is_none() {
        carried.target = Some(control.current_lsn()?);
    }
    ensure_topics(config, &prepared.tables)?;
    let mut outlet = Outlet::open(config, registry, carried.refused.clone())?;
    match fenced(config, registry, shutdown, carried, control, &prepared, &mut outlet) {
        Ok(Some(ready)) => Ok(Some(Opened {
            stream: ready.stream,
            outlet,
            shapes: ready.shapes,
            progress: ready.progress,
            known: ready.known,
            errands: ready.errands,
        })),
        Ok(None) => {
            outlet.abandon();
            Ok(None)
        }
        Err(failure) => {
            let failure = carried.refused.learn(failure, &outlet, config.care.on_poison);
            outlet.abandon();
            Err(failure)
        }
    }
}

/// The steps that only the one writer may take.
fn fenced<'a>(
    config: &'a SourceConfig,
    registry: &'a Arc<Registry>,
    shutdown: &Shutdown,
    carried: &mut Carried,
    control: Control,
    prepared: &Prepared,
    outlet: &mut Outlet,
) -> Outcome<Option<Ready<'a>>> {
    let stored = progress::read(config, registry)?;
    let mut client = ReplicationClient::connect(&config.dsn, &SessionSettings::default())?;
    let identity = client.identify_system()?;
    let slot = setup::slot_state(&control, &config.slot)?;
    let hash = prepared.publication.hash();
    let server = Server {
        identity: &identity,
        slot: slot.as_ref(),
        publication_hash: &hash,
        fork: client.fork(stored.as_ref(), &identity)?,
    };
    let names: Vec<String> = prepared.tables.iter().map(full_name).collect();
    let taken = takeover::progress(config, registry, stored.as_ref(), server, &prepared.tables)?;
    let start = start::decide(
        config,
        taken.as_ref().or(stored.as_ref()),
        server,
        carried.repair,
        &names,
    )?;
    let others = progress::of_others(config, registry)?;
    let asked = config.care.reread.iter().cloned().collect();
    let epoch_min = moved::epoch_min(config, stored.as_ref(), &others, &names, &asked)?;
    let mut known = Known::read(config, registry)?;
    let again = again(config, &control, prepared, &mut known, carried)?;
    let mut making = Making {
        config,
        control: &control,
        outlet,
        server,
        tables: &names,
        agenda: None,
        halt: shutdown,
    };
    let reread = config.snapshots.mode == Mode::Always && !carried.reread;
    let mut agenda = Agenda::read(stored.as_ref().and_then(|stored| stored.agenda.as_deref()))?;
    let is_first = !carried.reread;
    let (mut progress, snapshot) = match start {
        Start::Anew { epoch, drop_slot } => {
            agenda = agenda.fulfilled();
            making.agenda = agenda.written()?;
            making.anew(&mut client, epoch.max(epoch_min), drop_slot)?
        }
        Start::Continue(mut progress) => {
            progress.raise_epoch(epoch_min);
            // As if it were new. And one that is not captured any more is new when it comes back.
            progress
                .tables
                .retain(|table| names.contains(&table.table) && !again.contains_key(&table.table));
            (making.go_on(*progress, stored.as_ref(), reread)?, None)
        }
    };
    making.pass_over(&mut progress, &agenda)?;
    outlet.send_known(&known)?;
    outlet.commit(&progress)?;
    known.said();
    (carried.repair, carried.reread) = (Repair::default(), true);
    let wanted = prepared
        .tables
        .iter()
        .map(|table| TableName::new(&table.schema, &table.table));
    let mut shapes = Shapes::new(config, registry, control, &identity.dbname, wanted);
    let pending = pending(config, prepared, &progress, &agenda);
    if pending.is_empty() && is_first {
        notify::tell(config, outlet, &mut shapes, Notification::initial("SKIPPED"))?;
    }
    if !pending.is_empty() {
        let snapshot = snapshot.map_or_else(|| Snapshot::fresh(&config.dsn), Ok)?;
        let load = Load {
            config,
            snapshot,
            outlet,
            progress: &mut progress,
            known: &mut known,
            shutdown,
            unread: config.snapshots.signals_in_log().map(ToString::to_string),
        };
        if !load.run(&pending, &mut shapes)? {
            return Ok(None);
        }
    }
    // What blocking snapshots had begun with is read by now.
    agenda.blocked_before_the_stream();
    let written = agenda.written()?;
    let begun = progress.begun();
    if known.is_unsaid() || outlet.is_open() || written != progress.agenda || begun != progress.position {
        (progress.agenda, progress.position) = (written, begun);
        outlet.send_known(&known)?;
        outlet.commit(&progress)?;
        known.said();
    }
    if config.snapshots.mode == Mode::InitialOnly {
        tracing::info!(
            source = config.name,
            "all tables are in Kafka (snapshot.mode initial_only)"
        );
        return Ok(None);
    }
    Ok(Some(Ready {
        stream: stream(config, client, &progress)?,
        errands: Errands::open(config, agenda)?,
        shapes,
        progress,
        known,
    }))
}

/// Tables to be read whole although progress says that they have been, with why.
fn again(
    config: &SourceConfig,
    control: &Control,
    prepared: &Prepared,
    known: &mut Known,
    carried: &Carried,
) -> Outcome<BTreeMap<String, String>> {
    let tables: Vec<TableName> = prepared
        .tables
        .iter()
        .map(|table| TableName::new(&table.schema, &table.table))
        .collect();
    let mut again = known.look(control, &tables)?;
    let asked = config.care.reread.iter().filter(|_| !carried.reread);
    again.extend(asked.map(|name| (name.clone(), "--reread".to_owned())));
    again.extend(known.to_be_read(config.care.auto_backfill, !carried.reread));
    for (table, why) in &again {
        tracing::warn!(
            code = "TABLE_REREAD",
            source = config.name,
            table,
            "will be read again: {why}"
        );
    }
    Ok(again)
}

fn full_name(table: &TableInfo) -> String {
    format!("{}.{}", table.schema, table.table)
}

fn prepare(config: &SourceConfig, control: &Control) -> Outcome<Prepared> {
    let mut tables = match &config.tables {
        Some(tables) => tables.clone(),
        None => selected(config, all_tables(control, config.reach)?)?
            .into_iter()
            .filter(|table| config.share.has(&format!("{}.{}", table.schema, table.table)))
            .collect(),
    };
    if let Some(signals) = config.snapshots.signals_in_log()
        && !tables.contains(signals)
        && is_there(control, signals)?
    {
        tables.push(signals.clone());
    }
    let wanted = Wanted {
        publication: config.publication.clone(),
        slot: config.slot.clone(),
        mode: config.publication_mode,
        reach: config.reach,
        tables,
    };
    setup::prepare(control, &wanted)
}

/// A signalling table that is not there is no reason to stop: signals may come by other ways, or later.
fn is_there(control: &Control, signals: &TableName) -> Outcome<bool> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    let row = control.one(sql, &[&signals.quoted()?], "looking for the signalling table")?;
    let is_there: bool = row.get(0);
    if !is_there {
        tracing::warn!(
            table = %signals,
            "the signalling table is not there: CREATE TABLE {} (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048))",
            signals.quoted()?
        );
    }
    Ok(is_there)
}

/// Those that the lists let through.
fn selected(config: &SourceConfig, mut tables: Vec<TableName>) -> Outcome<Vec<TableName>> {
    let all = tables.len();
    tables.retain(|name| config.form.selection.has_table(&name.schema, &name.table));
    if tables.is_empty() && all > 0 {
        let text = format!("none of the database's {all} tables is let through by the include and exclude lists");
        return Err(Failure::definite("NO_TABLES", text)
            .hint("the lists match the whole of schema.table; see table.include.list and schema.include.list"));
    }
    Ok(tables)
}

/// Every table of the apps: not the system's, not ours. Unless all of them are asked for: not single partitions, and of
/// those without a primary key only such as name their rows in another way, because of any other the apps' own UPDATE
/// would fail once it is published.
pub fn all_tables(control: &Control, reach: Reach) -> Outcome<Vec<TableName>> {
    let sql = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND ($1 OR NOT c.relispartition)
                  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'syncline') AND n.nspname !~ '^pg_'
                  AND ($1 OR c.relreplident IN ('f', 'i')
                       OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
                ORDER BY 1, 2";
    let rows = control.rows(sql, &[&(reach != Reach::Roots)], "listing the tables")?;
    Ok(rows
        .iter()
        .map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)))
        .collect())
}

/// A slot that somebody streams is theirs. Whoever hangs loses it when the server's patience ends.
fn lease(slot: Option<&SlotState>) -> Outcome<()> {
    match slot.and_then(|slot| Some((slot, slot.active_pid?))) {
        None => Ok(()),
        Some((slot, pid)) => {
            let text = format!(
                "slot {} is streamed by another process (server process {pid}); waiting for it",
                slot.name
            );
            Err(Failure::transient("SLOT_ACTIVE", text))
        }
    }
}

/// Two tables in one topic would be one table to every reader.
fn check_topics(config: &SourceConfig, tables: &[TableInfo]) -> Outcome<()> {
    let mut owners = BTreeMap::new();
    for table in tables {
        let topic = config.form.topics.table(&config.prefix, &table.schema, &table.table);
        if let Some(other) = owners.insert(topic.clone(), full_name(table)) {
            let text = format!("{other} and {} would share the topic {topic}", full_name(table));
            return Err(Failure::definite("TOPIC_SHARED", text)
                .hint("rename one of them, or capture it as a system of its own with another topic_prefix"));
        }
    }
    Ok(())
}

/// Topics are made beforehand: a topic that the broker makes by itself has the wrong number of partitions.
fn ensure_topics(config: &SourceConfig, tables: &[TableInfo]) -> Outcome<()> {
    check_topics(config, tables)?;
    let for_ever = |mut spec: TopicSpec| {
        spec.config.push(("retention.ms".to_owned(), "-1".to_owned()));
        spec
    };
    let mut specs = vec![
        TopicSpec::new(topic::progress(&config.prefix), 1).compacted(),
        TopicSpec::new(topic::tables(&config.prefix), 1).compacted(),
        // The end of a snapshot is said once, and whoever reads the topics years later must hear it.
        for_ever(TopicSpec::new(topic::marks(&config.prefix), config.partitions)),
    ];
    if config.care.on_poison == OnPoison::DeadLetter {
        specs.push(TopicSpec::new(topic::capture_dead_letters(&config.prefix), 1));
    }
    specs.extend(tables.iter().map(|table| {
        TopicSpec::new(
            config.form.topics.table(&config.prefix, &table.schema, &table.table),
            config.partitions,
        )
    }));
    admin::ensure(&config.bus, &specs)
}

/// Tables that are not in Kafka yet, with their published columns.
fn pending<'a>(
    config: &'a SourceConfig,
    prepared: &'a Prepared,
    progress: &Progress,
    agenda: &'a Agenda,
) -> Vec<Pending<'a>> {
    let tables = prepared.tables.iter().enumerate();
    tables
        .filter(|(_, info)| progress.table(&full_name(info)) != SnapshotState::Done)
        .map(|(number, info)| Pending {
            info,
            columns: read(config, info, &prepared.publication),
            select: agenda
                .select(&full_name(info))
                .or(config.snapshots.select(&full_name(info))),
            number,
            whole: agenda.select(&full_name(info)).is_none(),
        })
        .collect()
}

/// The columns that are read: those that the log will have. Debezium reads all of them.
fn read(config: &SourceConfig, info: &TableInfo, publication: &Publication) -> Vec<String> {
    match config.form.fidelity {
        Fidelity::Debezium => info.columns.iter().map(|column| column.name.clone()).collect(),
        Fidelity::Exact => publication.columns_of(info),
    }
}

fn stream(config: &SourceConfig, client: ReplicationClient, progress: &Progress) -> Outcome<Stream> {
    // One less: progress within a transaction stands one byte into its commit record, and that one must come again.
    // At rest it makes no difference, because no record starts there.
    let from = Lsn(progress.position.lsn.0.saturating_sub(1));
    let bounds = StreamSettings::default();
    let settings = StreamSettings {
        row_bytes_max: config.care.row_bytes_max.and_then(|bytes| usize::try_from(bytes).ok()),
        idle_interval_ms: match config.until_current {
            true => AWAITED_IDLE_MS,
            false => bounds.idle_interval_ms,
        },
        ..bounds
    };
    client.start_stream(&config.slot, &config.publication, from, settings)
}

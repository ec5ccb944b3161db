//! What the properties fill in: a source's configuration in the making, with the parts that are only whole at the end.

use std::collections::BTreeMap;

use crate::config::{PublicationMode, Reach, SourceConfig};
use crate::form::{Fidelity, Form, Names};
use crate::postgres::dsn::Dsn;

use super::kafka::Side;

/// A source in the making. Setters write into it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What needs no second look. Its `dsn`, `bus` and `registry` are filled in at the end.
    pub source: SourceConfig,
    /// The connection in libpq's words.
    pub connection: BTreeMap<String, String>,
    /// Kafka and the registry.
    pub kafka: Side,
}

impl Draft {
    /// What a connector's configuration begins with: Debezium's defaults, where they are not ours.
    pub fn of_connector() -> Self {
        let mut source = SourceConfig::new("", Dsn::nowhere());
        source.slot = "debezium".to_owned();
        source.publication = "dbz_publication".to_owned();
        source.publication_mode = PublicationMode::AllTables;
        source.reach = Reach::Published { via_root: false };
        source.form = Form {
            fidelity: Fidelity::Debezium,
            schema_names: Names::None,
            field_names: Names::None,
            ..Form::default()
        };
        Self::of(source)
    }

    /// What a system of a pipeline file begins with: what the file says in its own words.
    pub fn of(source: SourceConfig) -> Self {
        Self {
            source,
            connection: BTreeMap::new(),
            kafka: Side::default(),
        }
    }
}

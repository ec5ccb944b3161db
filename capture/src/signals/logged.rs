//! Pure: the signalling table, seen in the log. An inserted row is a signal; what becomes of the row later is nothing.

use std::collections::HashMap;

use crate::postgres::pgoutput::{Insert, Relation, TupleCell};
use crate::postgres::quote::TableName;

use super::Signal;

/// Picks signals out of the log.
#[derive(Debug)]
pub struct Logged {
    table: Option<TableName>,
    /// Where id, type and data stand in a row of the table, by its object id: by their names or, as Debezium takes them, in turn.
    places: HashMap<u32, [Option<usize>; 3]>,
}

impl Logged {
    /// For the signalling table, if there is one.
    pub fn new(table: Option<TableName>) -> Self {
        Self {
            table,
            places: HashMap::new(),
        }
    }

    /// The log announces a table.
    pub fn announced(&mut self, relation: &Relation) {
        let is_ours = |table: &TableName| table.schema == relation.schema && table.table == relation.table;
        if self.table.as_ref().is_some_and(is_ours) {
            let columns = &relation.columns;
            let place = |(index, name)| {
                let named = columns.iter().position(|column| column.name == name);
                named.or(Some(index)).filter(|&index| index < columns.len())
            };
            let names = [(0, "id"), (1, "type"), (2, "data")];
            self.places.insert(relation.oid, names.map(place));
        }
    }

    /// The signal that an inserted row is.
    pub fn signal(&self, insert: &Insert) -> Option<Signal> {
        let [id, kind, data] = self.places.get(&insert.relation)?;
        let text = |place: &Option<usize>| match insert.new.get((*place)?)? {
            TupleCell::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        };
        Some(Signal {
            id: text(id).unwrap_or_default(),
            kind: text(kind).unwrap_or_default(),
            data: text(data),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::pgoutput::{Column, ReplicaIdentity};

    fn relation(oid: u32, table: &str) -> Relation {
        let column = |name: &str| Column {
            name: name.to_owned(),
            type_oid: 1043,
            type_modifier: -1,
            is_key: name == "id",
        };
        Relation {
            oid,
            schema: "public".to_owned(),
            table: table.to_owned(),
            identity: ReplicaIdentity::Default,
            columns: ["data", "id", "type"].map(column).to_vec(),
        }
    }

    #[test]
    fn a_row_of_the_signalling_table_is_a_signal_wherever_its_columns_stand() {
        let mut logged = Logged::new(Some(TableName::new("public", "signals")));
        logged.announced(&relation(7, "signals"));
        logged.announced(&relation(8, "other"));
        let text = |text: &'static str| TupleCell::Text(bytes::Bytes::from_static(text.as_bytes()));
        let row = |relation| Insert {
            relation,
            new: vec![TupleCell::Null, text("s1"), text("pause-snapshot")],
        };
        let expected = Signal {
            id: "s1".to_owned(),
            kind: "pause-snapshot".to_owned(),
            data: None,
        };
        assert_eq!(logged.signal(&row(7)), Some(expected));
        assert_eq!(logged.signal(&row(8)), None);
    }
}

//! What a system's capture does when something goes wrong, as the file or the command line says it.
//!
//! Every field has a default that stops rather than loses: what drops a slot or passes over a row is declared, by name.

/// How a source is looked after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// `wal_budget`: how much log the source may keep for capture.
    pub wal_budget: Option<WalBudget>,
    /// `failover_slot`: whether the slot is made to be carried over to standbys (PostgreSQL 17 and later); none: if the
    /// server can.
    pub failover_slot: Option<bool>,
    /// `on_poison`: what to do with a row that cannot be written.
    pub on_poison: OnPoison,
    /// `max_row_bytes`: a message of the log beyond this is refused before memory is taken for it.
    pub row_bytes_max: Option<u64>,
    /// `auto_backfill`: tables whose values changed without an event are read again without being asked.
    pub auto_backfill: bool,
    /// Tables to be read again at the start; only the command line says so.
    pub reread: Vec<String>,
    /// `slots`: groups of tables, each with a slot of its own; none: one slot for all.
    pub slots: Vec<SlotGroup>,
}

impl Care {
    /// The group through whose slot a table (`schema.table`) comes; none if there is one slot for all.
    pub fn group_of(&self, table: &str) -> Option<&SlotGroup> {
        let names = |group: &&SlotGroup| group.tables.iter().flatten().any(|named| named == table);
        let has_rest = |group: &&SlotGroup| group.tables.is_none();
        let mut groups = self.slots.iter();
        groups.find(names).or_else(|| self.slots.iter().find(has_rest))
    }
}

/// How much log a source may keep for a slot, and what is done at the limit. At half of it there is an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalBudget {
    /// The limit.
    pub bytes: u64,
    /// What is done there.
    pub at_limit: AtLimit,
}

/// What is done when a slot holds back more log than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLimit {
    /// Go on, and keep raising the alarm.
    #[default]
    Keep,
    /// Drop the slot, so that the source's disk stays free; its tables have to be read again.
    Drop,
}

/// What is done with a row that cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPoison {
    /// Capture stops in front of it.
    #[default]
    Stop,
    /// Its table stops; all others go on.
    StopTable,
    /// It goes to `<prefix>.syncline.dead_letters`; its table goes on.
    DeadLetter,
}

/// Some tables of a system with a slot, a publication and a progress of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotGroup {
    /// Name; added to that of slot and publication.
    pub name: String,
    /// `schema.table`; none: all that no other group names.
    pub tables: Option<Vec<String>>,
}

/// A smaller `max_row_bytes` could not tell a row from the shape of a table with very many columns.
pub const ROW_BYTES_MIN: u64 = 256 << 10;

const UNITS: [(&str, u32); 5] = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// Reads `20GiB`, `512 MiB`, `1048576`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" => Some(0),
        unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, shift)| *shift),
    };
    let read = || 1_u64.checked_shl(shift?)?.checked_mul(number.parse::<u64>().ok()?);
    read()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("`{text}` is no size: write a whole number and a unit: 512MiB, 20GiB"))
}

/// Reads a `max_row_bytes`.
pub fn row_bytes(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    if bytes < ROW_BYTES_MIN {
        return Err(format!(
            "{bytes} bytes are too few for a row: say {} KiB or more",
            ROW_BYTES_MIN >> 10
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_through_the_slot_that_names_it_or_that_of_all_others() {
        let group = |name: &str, tables: Option<&str>| SlotGroup {
            name: name.to_owned(),
            tables: tables.map(|table| vec![table.to_owned()]),
        };
        let care = Care {
            slots: vec![group("rest", None), group("hot", Some("public.orders"))],
            ..Care::default()
        };
        let of = |table: &str| care.group_of(table).map(|group| group.name.as_str());
        assert_eq!([of("public.orders"), of("public.t")], [Some("hot"), Some("rest")]);
        assert_eq!(Care::default().group_of("public.t"), None);
    }

    #[test]
    fn a_size_has_a_unit_and_fits() {
        assert_eq!(bytes("20GiB"), Ok(20 << 30));
        assert_eq!(bytes(" 512 MiB "), Ok(512 << 20));
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(row_bytes("1MiB"), Ok(1 << 20));
        assert!(row_bytes("100KiB").is_err());
        for wrong in ["", "GiB", "-1", "1.5GiB", "20 GB", "0", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}

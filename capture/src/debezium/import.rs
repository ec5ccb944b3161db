//! From a connector's configuration to the pipeline file that means the same.
//!
//! The file is written for people: what has no effect is left out and listed, what both sides take for granted is not said,
//! and no secret is in it. A secret that the configuration holds becomes a `${env:NAME}`, and the head of the file says
//! which are needed.

use std::path::Path;

use super::connector::{self, Beside, Connector};
use super::providers::Env;
use super::system::own_words;
use super::table::{self, Effect};
use super::written::{self, Property, Written};
use crate::takeover::Offsets;

/// What Debezium does if nothing is said, where a pipeline file does something else.
const DEBEZIUMS_OWN: [(&str, &str); 4] = [
    ("publication.autocreate.mode", "all_tables"),
    ("publish.via.partition.root", "false"),
    ("schema.name.adjustment.mode", "none"),
    ("field.name.adjustment.mode", "none"),
];

/// Words of libpq and the properties that say them, in the order of a connection string.
const CONNECTION: [(&str, &str); 9] = [
    ("host", "database.hostname"),
    ("port", "database.port"),
    ("user", "database.user"),
    ("password", "database.password"),
    ("dbname", "database.dbname"),
    ("sslmode", "database.sslmode"),
    ("sslcert", "database.sslcert"),
    ("sslkey", "database.sslkey"),
    ("sslrootcert", "database.sslrootcert"),
];

/// The pipeline file for the configuration in `path`; or everything that keeps it from being run.
pub fn import(path: &Path, beside: &Beside, env: Env<'_>) -> Result<String, Vec<String>> {
    let connector = connector::load(path, beside, env)?;
    let told = |wrongs: Vec<written::Wrong>| -> Vec<String> {
        wrongs
            .iter()
            .map(|wrong| wrong.told(&path.display().to_string()))
            .collect()
    };
    let written = written::read(path, env).map_err(told)?;
    Ok(write(&written, &connector))
}

/// The same for a configuration at hand.
pub fn write(written: &Written, connector: &Connector) -> String {
    let mut out = Out::default();
    out.defaults(connector);
    out.system(written, connector);
    out.head(written, connector) + &out.body
}

#[derive(Default)]
struct Out {
    body: String,
    /// Environment variables that the file needs, and what each holds.
    needs: Vec<(String, String)>,
}

impl Out {
    fn line(&mut self, indent: usize, key: &str, value: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let key = match key.chars().all(plain) {
            true => key.to_owned(),
            false => quoted(key),
        };
        let blank = if value.is_empty() { "" } else { " " };
        self.body
            .push_str(&format!("{}{key}:{blank}{value}\n", "  ".repeat(indent)));
    }

    /// A value that is not to be written down.
    fn secret(&mut self, name: &str, what: &str) -> String {
        if !self.needs.iter().any(|(needed, _)| needed == name) {
            self.needs.push((name.to_owned(), what.to_owned()));
        }
        format!("${{env:{name}}}")
    }

    /// The value of a property as a pipeline file can hold it, without quotes.
    fn value(&mut self, property: &Property) -> String {
        let secret = property.name.ends_with("password") || property.name.ends_with("jaas.config");
        if property.raw.contains("${env:") && !property.raw.contains("${file:") {
            return property.raw.replace("${env::", "${env:");
        }
        if secret || property.raw != property.value {
            return self.secret(&variable(&property.name), &property.name);
        }
        literal(&property.value)
    }

    fn defaults(&mut self, connector: &Connector) {
        let source = &connector.source;
        self.line(0, "pipeline", &quoted(&source.name));
        self.line(0, "defaults", "");
        self.line(1, "kafka", &quoted(&literal(&source.bus.bootstrap)));
        let registry = match source.registry.contains('@') {
            true => self.secret("SCHEMA_REGISTRY_URL", "the registry's URL with its login"),
            false => literal(&source.registry),
        };
        self.line(1, "registry", &quoted(&registry));
        if source.partitions != 1 {
            self.line(1, "partitions", &source.partitions.to_string());
        }
        if !source.bus.properties.is_empty() {
            self.line(1, "kafka_properties", "");
        }
        for (name, value) in &source.bus.properties {
            let value = match name.contains("password") {
                true => self.secret(&format!("KAFKA_{}", variable(name)), name),
                false => literal(value),
            };
            self.line(2, name, &quoted(&value));
        }
    }

    fn system(&mut self, written: &Written, connector: &Connector) {
        let source = &connector.source;
        self.line(0, "systems", "");
        self.line(1, &source.name, "");
        let postgres = self.connection(written);
        self.line(2, "postgres", &quoted(&postgres));
        self.line(2, "topic_prefix", &quoted(&source.prefix));
        self.line(2, "slot", &quoted(&source.slot));
        self.line(2, "publication", &quoted(&source.publication));
        self.line(2, "fidelity", "debezium");
        self.line(2, "debezium", "");
        for (name, value) in DEBEZIUMS_OWN {
            if written.get(name).is_none() {
                self.line(3, name, &quoted(value));
            }
        }
        if let (Some(Offsets::Topic(topic)), None) = (&source.offsets, written.get("offsets.storage.topic")) {
            self.line(3, "offsets.storage.topic", &quoted(&literal(topic)));
        }
        for property in written.properties.iter().filter(|property| is_carried(&property.name)) {
            let value = self.value(property);
            self.line(3, &property.name, &quoted(&value));
        }
    }

    /// `host='db' port='5432' ..`, with `'` and `\` of plain values escaped.
    fn connection(&mut self, written: &Written) -> String {
        let mut words = Vec::new();
        for (word, name) in CONNECTION {
            let Some(property) = written.properties.iter().find(|property| property.name == name) else {
                continue;
            };
            if property.value.is_empty() {
                continue;
            }
            let value = self.value(property);
            let value = match value.contains("${env:") {
                true => value,
                false => value.replace('\\', r"\\").replace('\'', r"\'"),
            };
            words.push(format!("{word}='{value}'"));
        }
        words.join(" ")
    }

    fn head(&self, written: &Written, connector: &Connector) -> String {
        let mut head = format!("# From {}, by: syncline import-debezium\n", written.file);
        if !self.needs.is_empty() {
            head.push_str(
                "# It needs in the environment (in a connection string `'` is written \\' and `\\` is written \\\\):\n",
            );
        }
        for (name, what) in &self.needs {
            head.push_str(&format!("#   {name}: {what}\n"));
        }
        // What the worker says of itself was never the connector's.
        let left_out = connector
            .meaningless
            .iter()
            .filter(|(name, _)| written.get(name).is_some());
        let left_out: Vec<_> = left_out.collect();
        if !left_out.is_empty() {
            head.push_str("# Left out, because it has no effect here:\n");
        }
        for (name, why) in left_out {
            head.push_str(&format!("#   {name}: {why}\n"));
        }
        head
    }
}

/// Whether a property goes into the `debezium:` map.
fn is_carried(name: &str) -> bool {
    let works = table::find(name).is_some_and(|(row, _)| !matches!(row.effect, Effect::Meaningless(_)));
    works && own_words(name).is_none() && !["connector.class", "transforms"].contains(&name)
}

/// `database.password` as the name of an environment variable.
fn variable(name: &str) -> String {
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(fits).collect()
}

/// A value in which nothing is to be put in.
fn literal(value: &str) -> String {
    value.replace("${", "$${")
}

/// YAML's double quotes escape as JSON's do.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use secrecy::ExposeSecret as _;
    use syncline_schemas::pipeline;

    use super::*;
    use crate::config::{self, Args, SourceConfig};

    const WORKER: &str = "bootstrap.servers=kafka:9092\noffset.storage.topic=connect-offsets\nsecurity.protocol=SASL_SSL\n\
        sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"ada\" password=\"kafkasecret\";\n\
        value.converter=io.confluent.connect.avro.AvroConverter\nvalue.converter.schema.registry.url=http://registry:8081\n";

    fn env(name: &str) -> Option<String> {
        match name {
            "DATABASE_PASSWORD" => Some("dbsecret".to_owned()),
            "KAFKA_SASL_PASSWORD" => Some("kafkasecret".to_owned()),
            "DB_HOST" => Some("db.example".to_owned()),
            _ => None,
        }
    }

    fn written(text: &str) -> Written {
        written::parse("connector.json", text, &env, &|_| Err("none".to_owned())).unwrap()
    }

    fn of_connector(text: &str) -> (Written, Connector) {
        let connector = written(text);
        let built = connector::build(&connector, Some(&written(WORKER)), &Beside::default()).unwrap();
        (connector, built)
    }

    /// What a pipeline file with this text captures, as `--check` reads it.
    fn of_pipeline(text: &str) -> SourceConfig {
        let args = Args::parse_from(["syncline-capture", "--pipeline", "p.yaml", "--check"]);
        let pipeline = pipeline::parse("p.yaml", text, &env, &|_| Err("none".to_owned()));
        let pipeline = pipeline.unwrap_or_else(|problems| panic!("{text}\n{}", problems[0]));
        config::sources(&pipeline, &args).unwrap().remove(0)
    }

    /// What both say, but for the command that repairs them and the client's name.
    fn comparable(source: &SourceConfig) -> String {
        let mut source = source.clone();
        source.command.clear();
        source.bus.client_id.clear();
        let password = source
            .dsn
            .password
            .as_ref()
            .map(|password| password.expose_secret().to_owned());
        format!("{source:#?}\n{:?}\n{password:?}", source.bus.properties)
    }

    fn check(text: &str) -> String {
        let (written, connector) = of_connector(text);
        let file = write(&written, &connector);
        assert_eq!(comparable(&of_pipeline(&file)), comparable(&connector.source), "{file}");
        file
    }

    #[test]
    fn the_file_means_the_same_and_holds_no_secret() {
        let file = check(
            r#"{"name": "my.inventory", "config": {"connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1", "plugin.name": "pgoutput", "database.hostname": "${env:DB_HOST}", "database.port": 6432,
            "database.user": "o'hara", "database.password": "dbsecret", "database.dbname": "shop",
            "database.sslmode": "require", "topic.prefix": "fulfil", "slot.name": "inv", "publication.name": "pub",
            "publication.autocreate.mode": "filtered", "schema.name.adjustment.mode": "avro",
            "topic.creation.default.partitions": 3, "topic.creation.default.replication.factor": 3,
            "lsn.flush.mode": "connector_and_driver", "decimal.handling.mode": "precise"}}"#,
        );
        assert!(!file.contains("dbsecret") && !file.contains("kafkasecret"), "{file}");
        assert!(file.contains("tasks.max: one slot is read by one thread"), "{file}");
        assert!(file.contains("DATABASE_PASSWORD: database.password"), "{file}");
    }

    #[test]
    fn defaults_of_debezium_are_said_where_ours_are_others() {
        check("topic.prefix=p\ndatabase.hostname=h\ndatabase.user=u\ndatabase.dbname=d\n");
    }

    #[test]
    fn mistakes_in_the_map_point_into_the_file() {
        let file = "pipeline: p\ndefaults: { kafka: \"k:1\", registry: \"http://r\" }\nsystems:\n  shop:\n    \
            postgres: \"host=h user=u\"\n    debezium:\n      decimal.handling.mode: precice\n      slot.nmae: x\n      \
            slot.name: x\n      transforms: unwrap\n";
        let args = Args::parse_from(["syncline-capture", "--pipeline", "p.yaml", "--check"]);
        let pipeline = pipeline::parse("p.yaml", file, &env, &|_| Err("none".to_owned())).unwrap();
        let failure = config::sources(&pipeline, &args).unwrap_err().to_string();
        for expected in [
            "p.yaml:7:7",
            "p.yaml:8:7",
            "did you mean slot.name?",
            "`slot.name`: is said by `slot` of the system",
            "the transform unwrap",
        ] {
            assert!(failure.contains(expected), "{expected}: {failure}");
        }
    }
}

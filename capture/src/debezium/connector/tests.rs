use super::*;
use crate::form::{Fidelity, Names};
use crate::postgres::dsn::SslMode;

const CONNECTOR: &str = r#"{"name": "inventory", "config": {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1", "plugin.name": "pgoutput",
    "database.hostname": "db.example", "database.port": "6432", "database.user": "ada", "database.password": "hunter2",
    "database.dbname": "shop", "database.sslmode": "verify-full", "topic.prefix": "fulfil", "slot.name": "inv",
    "key.converter": "io.confluent.connect.avro.AvroConverter",
    "key.converter.schema.registry.url": "http://registry:8081/",
    "value.converter": "io.confluent.connect.avro.AvroConverter",
    "value.converter.schema.registry.url": "http://registry:8081/",
    "decimal.handling.mode": "precise", "snapshot.mode": "initial"}}"#;

fn written(file: &str, text: &str) -> Written {
    written::parse(file, text, &|_| None, &|_| Err("no such file".to_owned())).unwrap()
}

fn built(text: &str, worker: &str) -> Result<Connector, Vec<String>> {
    let worker = written("worker.properties", worker);
    build(&written("c.json", text), Some(&worker), &Beside::default())
}

#[test]
fn a_connector_is_one_source() {
    let worker = "bootstrap.servers=kafka:9092\ngroup.id=connect\noffset.storage.topic=connect-offsets\n\
                  security.protocol=SASL_SSL\nproducer.linger.ms=3\nkey.converter=org.apache.kafka.connect.json.JsonConverter\n";
    let Connector { source, meaningless } = built(CONNECTOR, worker).unwrap();
    assert_eq!((source.name.as_str(), source.prefix.as_str()), ("inventory", "fulfil"));
    assert_eq!(
        (source.slot.as_str(), source.publication.as_str()),
        ("inv", "dbz_publication")
    );
    assert_eq!((source.dsn.user.as_str(), source.dsn.dbname.as_str()), ("ada", "shop"));
    assert_eq!(
        (source.dsn.hosts[0].port, source.dsn.sslmode),
        (6432, SslMode::VerifyFull)
    );
    assert_eq!(source.registry, "http://registry:8081");
    assert_eq!(source.bus.bootstrap, "kafka:9092");
    assert_eq!(source.bus.properties["security.protocol"], "SASL_SSL");
    assert_eq!(source.bus.properties["linger.ms"], "3");
    assert_eq!(source.offsets, Some(Offsets::Topic("connect-offsets".to_owned())));
    assert_eq!(
        (source.form.fidelity, source.form.field_names),
        (Fidelity::Debezium, Names::None)
    );
    assert!(
        meaningless.iter().any(|(name, _)| name == "tasks.max"),
        "{meaningless:?}"
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = r#"{"database.hostname": "db", "database.password": "hunter2", "slot.nmae": "x", "slot.name": "Bad-Slot",
        "transforms": "unwrap", "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "converters": "isbn", "key.converter": "org.apache.kafka.connect.json.JsonConverter"}"#;
    let told = build(&written("c.json", text), None, &Beside::default()).unwrap_err();
    for expected in [
        "c.json: slot.nmae: is no property of Debezium's PostgreSQL connector; did you mean slot.name?",
        "c.json: slot.name: PostgreSQL allows",
        "c.json: transforms: the transform unwrap",
        "c.json: converters: is not done here",
        "key.converter: org.apache.kafka.connect.json.JsonConverter does not run here",
        "topic.prefix is missing",
        "database.user is missing",
        "the brokers are not known; add --worker",
        "the schema registry is not known",
    ] {
        assert!(told.iter().any(|line| line.contains(expected)), "{expected}: {told:#?}");
    }
    assert!(!told.concat().contains("hunter2"));
}

#[test]
fn the_command_line_counts_more_than_the_files() {
    let beside = Beside {
        bootstrap: Some("other:1".to_owned()),
        registry: Some("http://other:2".to_owned()),
        offsets: Some(PathBuf::from("offsets.json")),
        ..Beside::default()
    };
    let source = build(&written("c.json", CONNECTOR), None, &beside).unwrap().source;
    assert_eq!(
        (source.bus.bootstrap.as_str(), source.registry.as_str()),
        ("other:1", "http://other:2")
    );
    assert_eq!(source.offsets, Some(Offsets::Exported(PathBuf::from("offsets.json"))));
}

#[test]
fn apicurios_converter_must_write_confluents_format() {
    let converter = |use_id: &str| {
        format!(
            "bootstrap.servers=k:1\nvalue.converter=io.apicurio.registry.utils.converter.AvroConverter\n\
             value.converter.apicurio.registry.url=http://apicurio:8080/apis/registry/v2\n\
             value.converter.apicurio.registry.as-confluent=true\nvalue.converter.apicurio.registry.use-id={use_id}\n\
             value.converter.apicurio.registry.headers.enabled=false\n"
        )
    };
    let text = "topic.prefix=p\ndatabase.hostname=h\ndatabase.user=u\ndatabase.dbname=d\n";
    let source = built(text, &converter("contentId")).unwrap().source;
    assert_eq!(source.registry, "http://apicurio:8080/apis/ccompat/v7");
    assert!(built(text, &converter("globalId")).unwrap_err()[0].contains("use-id"));
}

#[test]
fn a_registry_with_a_login_is_asked_with_it() {
    let worker = "bootstrap.servers=k:1\nvalue.converter=io.confluent.connect.avro.AvroConverter\n\
                  value.converter.schema.registry.url=https://r:1\nvalue.converter.basic.auth.credentials.source=USER_INFO\n\
                  value.converter.basic.auth.user.info=ada:p@ss\n";
    let text = "topic.prefix=p\ndatabase.hostname=h\ndatabase.user=u\ndatabase.dbname=d\n";
    assert_eq!(built(text, worker).unwrap().source.registry, "https://ada:p%40ss@r:1");
}

#[test]
fn a_connectors_name_becomes_a_systems() {
    for (name, system) in [("inventory", "inventory"), ("my.conn 1", "my_conn_1"), ("1st", "s_1st")] {
        assert_eq!(system_name(name), system);
    }
}

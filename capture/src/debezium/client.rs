//! Pure: settings of Java's Kafka clients as librdkafka knows them.

/// Settings that mean something to librdkafka under another name, or that it does not need.
type Settings = Vec<(String, String)>;

/// Whether a worker's property is about how to get into the cluster.
pub fn is_security(name: &str) -> bool {
    name == "security.protocol" || name.starts_with("sasl.") || name.starts_with("ssl.")
}

/// One setting, translated. Never repeats a value that may be a secret.
pub fn translated(name: &str, value: &str) -> Result<Settings, String> {
    let as_it_is = || Ok(vec![(name.to_owned(), value.to_owned())]);
    let renamed = |other: &str| Ok(vec![(other.to_owned(), value.to_owned())]);
    match name {
        "security.protocol" | "sasl.mechanism" | "compression.type" | "linger.ms" | "batch.size" | "ssl.key.password" => as_it_is(),
        "max.request.size" => renamed("message.max.bytes"),
        "ssl.endpoint.identification.algorithm" if value.is_empty() => {
            Ok(vec![(name.to_owned(), "none".to_owned())])
        }
        "ssl.endpoint.identification.algorithm" => as_it_is(),
        "sasl.jaas.config" => jaas(value),
        "ssl.truststore.location" if is_pem(value) => renamed("ssl.ca.location"),
        "ssl.truststore.location" => Err(
            "a Java key store cannot be read here; export it as PEM (keytool -exportcert -rfc ..) and name that file, which ends with .pem"
                .to_owned(),
        ),
        "ssl.keystore.location" if is_pem(value) => Ok(["ssl.certificate.location", "ssl.key.location"]
            .map(|name| (name.to_owned(), value.to_owned()))
            .to_vec()),
        "ssl.keystore.location" if value.ends_with(".p12") || value.ends_with(".pfx") => as_it_is(),
        "ssl.keystore.location" => Err("a Java key store cannot be read here; write it as PKCS-12 (.p12) or PEM (.pem)".to_owned()),
        "ssl.keystore.password" => as_it_is(),
        "acks" if !["all", "-1"].contains(&value) => Err("only acks=all keeps the promises; remove it".to_owned()),
        "enable.idempotence" if value != "true" => Err("exactly once rests on it; remove it".to_owned()),
        "transactional.id" => Err("each slot has its own; remove it".to_owned()),
        other if OWN_BOUNDS.contains(&other) => Ok(Vec::new()),
        _ => Err("no such setting is known here; remove it".to_owned()),
    }
}

/// What this program decides by itself, or what only Java's client has.
const OWN_BOUNDS: &[&str] = &[
    "acks",
    "buffer.memory",
    "client.id",
    "delivery.timeout.ms",
    "enable.idempotence",
    "interceptor.classes",
    "max.block.ms",
    "max.in.flight.requests.per.connection",
    "metadata.max.age.ms",
    "metric.reporters",
    "receive.buffer.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.ms",
    "sasl.client.callback.handler.class",
    "send.buffer.bytes",
    "ssl.keystore.type",
    "ssl.truststore.password",
    "ssl.truststore.type",
    "transaction.timeout.ms",
];

fn is_pem(path: &str) -> bool {
    [".pem", ".crt", ".cer"].iter().any(|end| path.ends_with(end))
}

/// `org..ScramLoginModule required username="u" password="p";`
fn jaas(value: &str) -> Result<Settings, String> {
    let module = value.split_whitespace().next().unwrap_or_default();
    if !module.ends_with(".ScramLoginModule") && !module.ends_with(".PlainLoginModule") {
        return Err("only PlainLoginModule and ScramLoginModule are known here".to_owned());
    }
    let option = |name: &str| {
        let rest = value.split_once(&format!(" {name}="))?.1;
        let quote = rest.chars().next().filter(|quote| ['"', '\''].contains(quote));
        let text = match quote {
            Some(quote) => quoted(&rest[1..], quote)?,
            None => rest.split([' ', ';']).next()?.to_owned(),
        };
        Some(text)
    };
    match (option("username"), option("password")) {
        (Some(user), Some(password)) => Ok(vec![
            ("sasl.username".to_owned(), user),
            ("sasl.password".to_owned(), password),
        ]),
        _ => Err("username and password are expected in it".to_owned()),
    }
}

fn quoted(text: &str, quote: char) -> Option<String> {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            end if end == quote => return Some(out),
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(name: &str, value: &str) -> Vec<(String, String)> {
        translated(name, value).unwrap()
    }

    #[test]
    fn a_login_is_taken_apart() {
        let value =
            r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="ada" password="a\"b;c";"#;
        let expected = [("sasl.username", "ada"), ("sasl.password", "a\"b;c")];
        assert_eq!(
            pairs("sasl.jaas.config", value),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        let failure = translated("sasl.jaas.config", "com.x.Kerberos required password=\"secret\";").unwrap_err();
        assert!(!failure.contains("secret"));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (name, value) in [
            ("acks", "1"),
            ("transactional.id", "x"),
            ("ssl.truststore.location", "/etc/kafka.jks"),
            ("no.such.thing", "1"),
        ] {
            assert!(translated(name, value).is_err(), "{name}");
        }
        assert!(pairs("retries", "3").is_empty());
        assert_eq!(
            pairs("max.request.size", "9"),
            [("message.max.bytes".to_owned(), "9".to_owned())]
        );
    }
}

//! A connector's configuration as somebody wrote it: names, values and where each stands.
//!
//! Three forms are read: what `POST /connectors` takes (`{"name": .., "config": {..}}`), the flat map that
//! `GET /connectors/NAME/config` gives, and a `.properties` file of Connect standalone. References to secrets
//! (`${env:NAME}`, `${file:PATH:KEY}`) are put in; what stands in their place is never shown.

use std::path::Path;

use serde_json::Value;

use super::java_properties;
use super::providers::{self, Env, Files};

/// Larger files are no settings.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The file, as named on the command line.
    pub file: String,
    /// The properties, in the order of the file.
    pub properties: Vec<Property>,
}

/// One property.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value, with references put in.
    pub value: String,
    /// Its value as it was written.
    pub raw: String,
    /// The line of the file, from 1; none in JSON, where the name says it.
    pub line: Option<usize>,
}

/// Values may be secrets.
impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=..", self.name)
    }
}

/// Something wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which property, or none for the whole file.
    pub name: Option<String>,
    /// The line of the file, from 1, if there are lines.
    pub line: Option<usize>,
    /// What is wrong and, after it, what to do.
    pub text: String,
}

impl Wrong {
    /// About the whole file.
    pub fn file(line: Option<usize>, text: impl Into<String>) -> Self {
        Self {
            name: None,
            line,
            text: text.into(),
        }
    }

    /// About one property.
    pub fn property(property: &Property, text: impl Into<String>) -> Self {
        Self {
            name: Some(property.name.clone()),
            line: property.line,
            text: text.into(),
        }
    }

    /// `connector.properties:12: slot.nmae: ...`
    pub fn told(&self, file: &str) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let name = self.name.as_deref().map(|name| format!(" {name}:")).unwrap_or_default();
        format!("{file}{line}:{name} {}", self.text)
    }
}

/// Reads a file; its form is told by its first character, for both names are used for both.
pub fn read(path: &Path, env: Env<'_>) -> Result<Written, Vec<Wrong>> {
    let text = bounded(path).map_err(|why| vec![Wrong::file(None, why)])?;
    parse(&path.display().to_string(), &text, env, &|name| {
        bounded(Path::new(name))
    })
}

fn bounded(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("larger than {} KiB", FILE_BYTES_MAX >> 10));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The same for a text at hand.
pub fn parse(file: &str, text: &str, env: Env<'_>, files: Files<'_>) -> Result<Written, Vec<Wrong>> {
    let mut properties = match text.trim_start().starts_with('{') {
        true => json(text).map_err(|wrong| vec![wrong])?,
        false => lines(text).map_err(|wrong| vec![wrong])?,
    };
    let mut wrongs = twice(&properties);
    for property in &mut properties {
        match providers::put_in(&property.raw, env, files) {
            Ok(value) => property.value = value,
            Err(why) => wrongs.push(Wrong::property(property, why)),
        }
    }
    if wrongs.is_empty() {
        let file = file.to_owned();
        Ok(Written { file, properties })
    } else {
        Err(wrongs)
    }
}

fn lines(text: &str) -> Result<Vec<Property>, Wrong> {
    let lines = java_properties::parse(text).map_err(|broken| Wrong::file(Some(broken.line), broken.why))?;
    let property = |line: java_properties::Line| Property {
        name: line.key,
        value: String::new(),
        raw: line.value,
        line: Some(line.number),
    };
    Ok(lines.into_iter().map(property).collect())
}

fn json(text: &str) -> Result<Vec<Property>, Wrong> {
    let whole: Value = serde_json::from_str(text).map_err(|error| {
        Wrong::file(
            Some(error.line()),
            format!("this is not JSON: {}", without_place(&error)),
        )
    })?;
    let Value::Object(outer) = &whole else {
        return Err(Wrong::file(
            None,
            "a JSON object is expected: {\"name\": .., \"config\": {..}}",
        ));
    };
    let mut properties = Vec::new();
    let entries = match outer.get("config") {
        Some(Value::Object(config)) => {
            let named = outer.get("name").filter(|_| !config.contains_key("name"));
            properties.extend(named.map(|name| entry("name", name)).transpose()?);
            config
        }
        Some(_) => return Err(Wrong::file(None, "\"config\" is no JSON object")),
        None => outer,
    };
    for (name, value) in entries {
        properties.push(entry(name, value)?);
    }
    Ok(properties)
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn entry(name: &str, value: &Value) -> Result<Property, Wrong> {
    let raw = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => String::new(),
        Value::Array(_) | Value::Object(_) => {
            return Err(Wrong {
                name: Some(name.to_owned()),
                line: None,
                text: "a single value is expected; Connect writes lists as one text with commas".to_owned(),
            });
        }
    };
    Ok(Property {
        name: name.to_owned(),
        value: String::new(),
        raw,
        line: None,
    })
}

fn twice(properties: &[Property]) -> Vec<Wrong> {
    let again = properties
        .iter()
        .enumerate()
        .filter(|(index, property)| properties[..*index].iter().any(|earlier| earlier.name == property.name));
    again
        .map(|(_, property)| Wrong::property(property, "is there twice; keep one of them"))
        .collect()
}

impl Written {
    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().find(|property| property.name == name);
        found.map(|property| property.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Written, Vec<Wrong>> {
        let env = |name: &str| (name == "PW").then(|| "hunter2".to_owned());
        parse("c", text, &env, &|_| Err("no such file".to_owned()))
    }

    #[test]
    fn all_three_forms_say_the_same() {
        for text in [
            r#"{"name": "inv", "config": {"topic.prefix": "shop", "database.port": 5432, "database.password": "${env:PW}"}}"#,
            r#"{"name": "inv", "topic.prefix": "shop", "database.port": "5432", "database.password": "${env:PW}"}"#,
            "name=inv\ntopic.prefix=shop\ndatabase.port=5432\ndatabase.password=${env:PW}\n",
        ] {
            let written = read_text(text).unwrap();
            for (name, value) in [("name", "inv"), ("topic.prefix", "shop"), ("database.port", "5432")] {
                assert_eq!(written.get(name), Some(value), "{text}");
            }
            assert_eq!(written.get("database.password"), Some("hunter2"));
            assert!(!format!("{written:?}").contains("hunter2"));
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_where() {
        let wrongs = read_text("a=1\nb=${env:NONE}\na=2\nc=${vault:x}\n").unwrap_err();
        let told: Vec<String> = wrongs.iter().map(|wrong| wrong.told("c.properties")).collect();
        assert!(told[0].starts_with("c.properties:3: a: is there twice"), "{told:?}");
        assert!(
            told[1].starts_with("c.properties:2: b: ") && told[1].contains("NONE"),
            "{told:?}"
        );
        assert!(
            told[2].starts_with("c.properties:4: c: ") && told[2].contains("vault"),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (text, expected) in [
            ("{\"a\": ", "not JSON"),
            ("{\"config\": 1}", "no JSON object"),
            ("{\"a\": [1]}", "a: a single value"),
            ("a=\\u12", "c:1:"),
        ] {
            let told = read_text(text).unwrap_err()[0].told("c");
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}

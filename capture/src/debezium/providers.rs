//! Pure: references to values that are kept elsewhere, as Connect's config providers put them in.
//!
//! Known are the two that ship with Kafka and read something that is here: `${env:NAME}` and `${file:PATH:KEY}` (a key of
//! a `.properties` file). The provider's name is the worker's choice; these are the names that everybody gives them.

use super::java_properties;

/// Gives the value of an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;
/// Gives the text of a file, or why it cannot be read.
pub type Files<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// The text with every reference replaced, or why one cannot be. Values put in are not read again.
pub fn put_in(raw: &str, env: Env<'_>, files: Files<'_>) -> Result<String, String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, reference)) = rest.split_once("${") {
        text.push_str(before);
        let Some((inner, after)) = reference.split_once('}') else {
            // Connect leaves alone what is no reference; so a template of another tool passes.
            text.push_str("${");
            rest = reference;
            continue;
        };
        match inner.split_once(':') {
            Some((provider, path)) => text.push_str(&value(provider, path, env, files)?),
            None => {
                text.push_str("${");
                text.push_str(inner);
                text.push('}');
            }
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn value(provider: &str, path: &str, env: Env<'_>, files: Files<'_>) -> Result<String, String> {
    match provider {
        // With EnvVarConfigProvider the path is empty (`${env:NAME}`) or left out (`${env::NAME}`).
        "env" => {
            let name = path.trim_start_matches(':');
            env(name)
                .ok_or_else(|| format!("environment variable {name} is not set; export {name}=... before the start"))
        }
        "file" => from_file(path, files),
        other => Err(format!(
            "the config provider {other:?} is not supported; put the value into the environment and write ${{env:NAME}}, or into a file and write ${{file:PATH:KEY}}"
        )),
    }
}

fn from_file(path: &str, files: Files<'_>) -> Result<String, String> {
    let (file, key) = path
        .rsplit_once(':')
        .ok_or("a reference to a file is written ${file:PATH:KEY}")?;
    let text = files(file).map_err(|why| format!("{file}: {why}"))?;
    let lines = java_properties::parse(&text).map_err(|broken| format!("{file}:{}: {}", broken.line, broken.why))?;
    let found = lines.into_iter().rev().find(|line| line.key == key);
    found
        .map(|line| line.value)
        .ok_or_else(|| format!("{file} has no property {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(raw: &str) -> Result<String, String> {
        let env = |name: &str| (name == "A").then(|| "${env:A}".to_owned());
        let files = |name: &str| match name {
            "/run/c:d/pg.properties" => Ok("user=ada\npassword=s=1\n".to_owned()),
            _ => Err("no such file".to_owned()),
        };
        put_in(raw, &env, &files)
    }

    #[test]
    fn references_become_values() {
        for (raw, text) in [
            ("plain", "plain"),
            ("<${env:A}>", "<${env:A}>"),
            ("${env::A}", "${env:A}"),
            ("${file:/run/c:d/pg.properties:password}", "s=1"),
            ("outbox.${routedByValue}", "outbox.${routedByValue}"),
            ("cost ${", "cost ${"),
        ] {
            assert_eq!(put(raw).unwrap(), text, "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_told() {
        for (raw, expected) in [
            ("${env:B}", "B is not set"),
            ("${file:/x:k}", "/x: no such file"),
            ("${file:/run/c:d/pg.properties:pass}", "no property pass"),
            ("${file:x}", "PATH:KEY"),
            ("${secrets:a:b}", "\"secrets\" is not supported"),
        ] {
            assert!(put(raw).unwrap_err().contains(expected), "{raw}");
        }
    }
}

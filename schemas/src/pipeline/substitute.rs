//! `${env:NAME}` in a text of the pipeline file. `$${` stands for a `${` that is meant as it is.

use super::yaml::Env;

/// A text with the environment put in, and what was wrong with it.
pub(super) struct Substituted {
    pub(super) text: String,
    pub(super) faults: Vec<Fault>,
}

/// A `${...}` that cannot be replaced: characters `at` to `at + width` of the text as written.
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) at: usize,
    pub(super) width: usize,
    pub(super) title: String,
    pub(super) help: String,
}

/// Replaces every `${env:NAME}`.
pub(super) fn substitute(raw: &str, env: Env<'_>) -> Substituted {
    let mut out = Substituted {
        text: String::with_capacity(raw.len()),
        faults: Vec::new(),
    };
    let mut rest = raw;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.text.push_str(before);
            out.text.push_str("${");
            rest = reference.get(2..).unwrap_or_default();
            continue;
        }
        out.text.push_str(before);
        let length = reference.find('}').map_or(reference.len(), |end| end + 1);
        let (reference, after) = reference.split_at(length);
        match value_of(reference, env) {
            Ok(value) => out.text.push_str(&value),
            Err((code, title, help)) => {
                let at = raw.chars().count() - rest.chars().count() + before.chars().count();
                out.faults.push(Fault {
                    code,
                    at,
                    width: reference.chars().count(),
                    title,
                    help,
                });
            }
        }
        rest = after;
    }
    out.text.push_str(rest);
    out
}

/// The value of `${env:NAME}`, or code, title and help.
fn value_of(reference: &str, env: Env<'_>) -> Result<String, (&'static str, String, String)> {
    let inner = reference.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let Some(inner) = inner else {
        return Err((
            "H107",
            "`${` without a closing `}`".to_owned(),
            "write ${env:NAME}, or $${ for a plain ${".to_owned(),
        ));
    };
    if let Some((store @ ("vault" | "file"), _)) = inner.split_once(':') {
        let title = format!("`${{{store}:...}}` is known, but not supported yet");
        return Err((
            "H190",
            title,
            "put the value into the environment and write ${env:NAME}".to_owned(),
        ));
    }
    let name = inner.strip_prefix("env:").filter(|name| is_variable(name));
    let Some(name) = name else {
        let title = format!("`{reference}` is no reference that is known here");
        return Err(("H107", title, "write ${env:NAME}, or $${ for a plain ${".to_owned()));
    };
    env(name).ok_or_else(|| {
        let help = format!("export {name}=... before the start, or write the value into the file if it is no secret");
        ("H106", format!("environment variable {name} is not set"), help)
    })
}

fn is_variable(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        matches!(name, "A" | "B_2").then(|| format!("<{name}>"))
    }

    #[test]
    fn references_become_values() {
        for (raw, text) in [
            ("x", "x"),
            ("${env:A}", "<A>"),
            ("é${env:A}/${env:B_2}é", "é<A>/<B_2>é"),
            ("$${env:A}", "${env:A}"),
            ("cost $5", "cost $5"),
        ] {
            let outcome = substitute(raw, &env);
            assert_eq!(outcome.text, text);
            assert!(outcome.faults.is_empty(), "{raw}");
        }
    }

    #[test]
    fn a_fault_says_where() {
        for (raw, code, at) in [
            ("é ${env:NONE} x", "H106", 2),
            ("${env:A} ${env:1}", "H107", 9),
            ("${env:A", "H107", 0),
            ("a${}", "H107", 1),
            ("${vault:billing/oauth}", "H190", 0),
        ] {
            let faults = substitute(raw, &env).faults;
            assert_eq!(
                faults.iter().map(|f| (f.code, f.at)).collect::<Vec<_>>(),
                [(code, at)],
                "{raw}"
            );
        }
    }

    #[test]
    fn a_value_is_not_read_again() {
        let outcome = substitute("${env:X}", &|_| Some("${env:X} }".to_owned()));
        assert_eq!(outcome.text, "${env:X} }");
    }
}

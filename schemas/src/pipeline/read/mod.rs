//! The tree into the model. Every reader goes on after a mistake, with a stand-in for what it could not read, so that one
//! run tells everything; a stand-in never gets out, because any problem means that the file is refused.

use super::problem::Problem;
use super::source::{Source, Span};
use super::yaml::{Content, Key, Node, Scalar};

/// Name, Kafka, registry, systems, replicas.
pub(super) mod settings;

/// Entities and their fields.
pub(super) mod entities;

/// Which rule decides about a field.
mod rules;

/// What a rule says beside its strategy.
mod terms;

/// Fields that win together.
mod groups;

/// Expressions over fields.
mod expressions;

/// What identifies the rules of an entity.
mod fingerprint;

/// Which rows are one entity.
mod matching;

/// What becomes of the fields of older versions.
mod migrate;

/// Fields that refer to another entity.
pub(super) mod references;

/// Which columns are which field.
pub(super) mod links;

/// One field of a link.
mod mapping;

/// When something is written.
mod schedules;

/// What capture does when something goes wrong.
mod care;

/// What stops a source whose whole tables change at once.
pub(super) mod guards;

/// What a file may say one day and cannot say yet.
mod later;

/// Collects what is wrong.
pub(super) struct Check<'a> {
    pub(super) source: &'a Source,
    pub(super) problems: Vec<Problem>,
}

/// The keys that a mapping may have.
pub(super) struct Keys {
    /// Those that mean something.
    pub(super) known: &'static [&'static str],
    /// Those that are designed and not built.
    pub(super) later: &'static [&'static str],
}

/// A mapping whose keys are those it may have.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    entries: &'a [(Key, Node)],
    span: Span,
}

impl<'a> Map<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|(name, _)| name.name == key)
            .map(|(_, node)| node)
    }
}

impl<'a> Check<'a> {
    /// Notes a problem, to be completed by the caller with `why` and `help`.
    pub(super) fn report(
        &mut self,
        code: &'static str,
        span: Span,
        context: &str,
        title: impl Into<String>,
    ) -> Report<'_> {
        self.problems.push(self.source.problem(code, span, context, title));
        Report {
            problem: self.problems.last_mut(),
        }
    }

    /// The entries of a mapping; none, with a problem, if it is something else.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, context: &str) -> Option<&'n [(Key, Node)]> {
        if let Content::Map(entries) = &node.content {
            return Some(entries);
        }
        self.shape(node, context, "a mapping such as `{ key: value }`");
        None
    }

    /// A mapping with no other keys than `keys`; an empty one if it is something else.
    pub(super) fn map<'n>(&mut self, node: &'n Node, context: &str, keys: &Keys) -> Map<'n> {
        let entries = self.entries(node, context).unwrap_or_default();
        for (key, _) in entries {
            self.known(key, context, keys);
        }
        Map {
            entries,
            span: node.span,
        }
    }

    fn known(&mut self, key: &Key, context: &str, keys: &Keys) {
        if keys.known.contains(&key.name.as_str()) {
            return;
        }
        if keys.later.contains(&key.name.as_str()) {
            self.later(key, context);
            return;
        }
        let place = if context.is_empty() { "a pipeline file" } else { context };
        let help = match nearest(&key.name, keys.known.iter().chain(keys.later).copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known here: {}", keys.known.join(", ")),
        };
        self.report(
            "H110",
            key.span,
            context,
            format!("unknown key `{}` in {place}", key.name),
        )
        .help(help);
    }

    /// A key that is designed and not built.
    pub(super) fn later(&mut self, key: &Key, context: &str) {
        let (what, help) = later::of(&key.name);
        let title = format!("`{}` is known, but not supported yet ({what})", key.name);
        self.report("H190", key.span, context, title).why(later::WHY).help(help);
    }

    /// A value that is designed and not built.
    pub(super) fn later_value(&mut self, node: &Node, context: &str, title: String, help: &str) {
        self.report("H190", node.span, context, title)
            .why(later::WHY)
            .help(help);
    }

    /// A key that has to be there; nothing is said if it is there in another spelling, since that has been said.
    pub(super) fn missing(&mut self, map: &Map<'_>, context: &str, key: &str, help: &str) {
        if map.entries.iter().any(|(name, _)| nearest(&name.name, [key]).is_some()) {
            return;
        }
        let place = if context.is_empty() {
            "the pipeline file"
        } else {
            context
        };
        self.report("H111", map.span, context, format!("`{key}` is missing in {place}"))
            .help(help);
    }

    pub(super) fn shape(&mut self, node: &Node, context: &str, wanted: &str) {
        let title = format!("{wanted} is expected here");
        self.report("H112", node.span, context, title).found(node.describe());
    }

    /// A single value with something in it.
    pub(super) fn scalar<'n>(&mut self, node: &'n Node, context: &str) -> Option<&'n Scalar> {
        match &node.content {
            Content::Scalar(scalar) if !scalar.faulty && !node.is_null() && !scalar.text.trim().is_empty() => {
                Some(scalar)
            }
            Content::Scalar(scalar) if scalar.faulty => None,
            _ => {
                self.shape(node, context, "a single value");
                None
            }
        }
    }

    pub(super) fn text(&mut self, node: &Node, context: &str) -> Option<String> {
        self.scalar(node, context).map(|scalar| scalar.text.clone())
    }

    /// The text of `key`, if it is there.
    pub(super) fn optional(&mut self, map: &Map<'_>, context: &str, key: &str) -> Option<String> {
        map.get(key).and_then(|node| self.text(node, context))
    }

    /// One text or a list of texts, none of them twice.
    pub(super) fn texts<'n>(&mut self, node: &'n Node, context: &str) -> Vec<(String, &'n Node)> {
        let nodes = match &node.content {
            Content::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut texts: Vec<(String, &Node)> = Vec::new();
        for item in nodes {
            let Some(text) = self.text(item, context) else { continue };
            if texts.iter().any(|(seen, _)| *seen == text) {
                let title = format!("`{}` is there twice", item.shown());
                self.report("H104", item.span, context, title).help("keep one of them");
                continue;
            }
            texts.push((text, item));
        }
        if matches!(&node.content, Content::List(items) if items.is_empty()) {
            self.shape(node, context, "at least one value");
        }
        texts
    }

    /// One of a closed list of words.
    pub(super) fn word<T: Clone>(&mut self, node: &Node, context: &str, words: &[(&str, T)]) -> Option<T> {
        let scalar = self.scalar(node, context)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == scalar.text) {
            return Some(meaning.clone());
        }
        let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = match nearest(&scalar.raw, list.iter().copied()) {
            Some(name) => format!("did you mean `{name}`? Possible: {}", list.join(", ")),
            None => format!("possible: {}", list.join(", ")),
        };
        self.report(
            "H113",
            node.span,
            context,
            format!("`{}` is not possible here", scalar.raw),
        )
        .help(help);
        None
    }

    /// A name that can be part of a topic's or a slot's name.
    pub(super) fn name(&mut self, name: &str, span: Span, context: &str) {
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            && name.len() <= NAME_CHARS_MAX;
        if !fits {
            self.report("H114", span, context, format!("`{name}` cannot be a name"))
                .why("names become part of topic names and replication slots")
                .help(format!(
                    "use at most {NAME_CHARS_MAX} letters, digits, _ and -, beginning with a letter"
                ));
        }
    }
}

/// Characters in the name of a pipeline, system or entity.
const NAME_CHARS_MAX: usize = 48;

/// The problem just noted.
pub(super) struct Report<'a> {
    problem: Option<&'a mut Problem>,
}

impl Report<'_> {
    pub(super) fn found(self, text: impl Into<String>) -> Self {
        self.label("found", text.into())
    }

    pub(super) fn why(self, text: impl Into<String>) -> Self {
        self.label("why", text.into())
    }

    pub(super) fn help(self, text: impl Into<String>) -> Self {
        self.label("help", text.into())
    }

    fn label(mut self, name: &'static str, text: String) -> Self {
        if let Some(problem) = &mut self.problem {
            problem.labels.push((name, text));
        }
        self
    }
}

/// The name that was probably meant.
pub(super) fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wrong = wrong.to_lowercase();
    let close = |name: &'n str| (strsim::jaro_winkler(&wrong, &name.to_lowercase()), name);
    let best = names.into_iter().map(close).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.8).then_some(best.1)
}

/// `did you mean`, or the list of what there is.
pub(super) fn suggestion<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match nearest(wrong, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if names.is_empty() => "the file has none".to_owned(),
        None => format!("there are: {}", names.join(", ")),
    }
}

//! YAML into a small tree that remembers where everything stood.
//!
//! It is YAML without what a settings file has no use for: no anchors and aliases (they can blow a page up to gigabytes),
//! no tags, one document. `${env:NAME}` is replaced in the finished tree and never in the text, so a value from the
//! environment cannot bring in keys of its own. Size and depth are bounded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan};

use super::problem::Problem;
use super::source::{Source, Span};
use super::substitute::substitute;

/// A pipeline file larger than this is refused.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;

/// Lists and mappings inside each other.
const DEPTH_MAX: usize = 32;

/// Values of environment variables.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) content: Content,
}

/// What the part holds. A key that is there twice counts once, as it stood first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A single value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    /// As written: what a message may show.
    pub(super) raw: String,
    /// With the environment put in: may be a secret.
    pub(super) text: String,
    /// Without quotes.
    pub(super) plain: bool,
    /// Whether something in it could not be put in; that has been reported.
    pub(super) faulty: bool,
    /// Where the first character of `text` stands, if the file shows `text` letter by letter.
    pub(super) letters_at: Option<usize>,
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) span: Span,
}

impl Key {
    /// The key as a value, for keys that are expressions.
    pub(super) fn as_node(&self) -> Node {
        Node {
            span: self.span,
            content: Content::Scalar(Scalar {
                raw: self.name.clone(),
                text: self.name.clone(),
                plain: false,
                faulty: false,
                letters_at: None,
            }),
        }
    }
}

impl Node {
    /// Whether it is left empty, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.plain && matches!(&*scalar.text, "" | "~" | "null"))
    }

    /// A scalar as it is written, for a message: never what the environment put in.
    pub(super) fn shown(&self) -> &str {
        match &self.content {
            Content::Scalar(scalar) => &scalar.raw,
            _ => self.describe(),
        }
    }

    /// What it is, for a message.
    pub(super) fn describe(&self) -> &'static str {
        match &self.content {
            _ if self.is_null() => "nothing",
            Content::Scalar(scalar) if scalar.text.trim().is_empty() => "an empty text",
            Content::Scalar(_) => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The place of `width` characters from character `at` of a scalar's text; the whole node if that cannot be told.
    pub(super) fn span_at(&self, at: usize, width: usize) -> Span {
        match &self.content {
            Content::Scalar(Scalar {
                letters_at: Some(column),
                ..
            }) => Span {
                line: self.span.line,
                column: column + at,
                width: width.max(1),
            },
            _ => self.span,
        }
    }
}

/// Reads `text`; none if the file is empty or not YAML. Problems are added to `problems`.
pub(super) fn parse(source: &Source, text: &str, env: Env<'_>, problems: &mut Vec<Problem>) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        let title = format!("the file is larger than {} KiB", FILE_BYTES_MAX >> 10);
        problems.push(source.problem("H100", source.span(1, 1, None), "", title));
        return None;
    }
    let mut builder = Builder {
        source,
        env,
        problems,
        open: Vec::new(),
        documents: 0,
        root: None,
    };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(builder.not_yaml(error.marker(), error.info())),
        };
        if let Err(problem) = step {
            builder.problems.push(*problem);
            return None;
        }
    }
    builder.root
}

/// A list or mapping whose end has not come yet.
enum Open {
    List {
        span: Span,
        items: Vec<Node>,
    },
    Map {
        span: Span,
        entries: Vec<(Key, Node)>,
        /// Line of each key.
        seen: HashMap<String, usize>,
        key: Option<Key>,
        /// Whether `key` is there for the second time.
        again: bool,
    },
}

struct Builder<'a> {
    source: &'a Source,
    env: Env<'a>,
    problems: &'a mut Vec<Problem>,
    open: Vec<Open>,
    documents: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    /// One event; an error ends the reading, since what follows cannot be trusted.
    fn take(&mut self, event: Event<'_>, at: YamlSpan) -> Result<(), Box<Problem>> {
        let span = self.span(at);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(span),
            Event::Alias(_) => Err(self.refused(span, "an alias")),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                Err(self.refused(span, "an anchor"))
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                Err(self.refused(span, "a tag"))
            }
            Event::Scalar(text, style, _, _) => self.scalar(text.into_owned(), style, span),
            Event::SequenceStart(..) => self.begin(
                Open::List {
                    span,
                    items: Vec::new(),
                },
                span,
            ),
            Event::MappingStart(..) => self.begin(
                Open::Map {
                    span,
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                    again: false,
                },
                span,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
        }
    }

    fn document(&mut self, span: Span) -> Result<(), Box<Problem>> {
        self.documents += 1;
        match self.documents {
            1 => Ok(()),
            _ => Err(self.refused(span, "a second document")),
        }
    }

    fn begin(&mut self, open: Open, span: Span) -> Result<(), Box<Problem>> {
        if self.open.len() >= DEPTH_MAX {
            let title = format!("nested more than {DEPTH_MAX} levels deep");
            let problem = self.source.problem("H103", span, "", title);
            return Err(Box::new(problem.help("look for brackets that are never closed")));
        }
        if matches!(self.open.last(), Some(Open::Map { key: None, .. })) {
            let problem = self.source.problem("H105", span, "", "a key must be a single text");
            let help = "write `key: value`; quote a text that begins with { or [";
            return Err(Box::new(problem.help(help)));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, at: YamlSpan) -> Result<(), Box<Problem>> {
        let (span, content) = match self.open.pop() {
            Some(Open::List { span, items }) => (span, Content::List(items)),
            Some(Open::Map { span, entries, .. }) => (span, Content::Map(entries)),
            None => return Ok(()),
        };
        let end = (at.end.line() == span.line).then(|| at.end.col() + 1);
        let span = self.source.span(span.line, span.column, end);
        self.place(Node { span, content })
    }

    fn scalar(&mut self, raw: String, style: ScalarStyle, span: Span) -> Result<(), Box<Problem>> {
        if matches!(self.open.last(), Some(Open::Map { key: None, .. })) {
            self.key(Key { name: raw, span });
            return Ok(());
        }
        let plain = style == ScalarStyle::Plain;
        let node = Node {
            span,
            content: Content::Scalar(Scalar {
                text: raw.clone(),
                raw,
                plain,
                faulty: false,
                letters_at: None,
            }),
        };
        let node = self.with_letters(node);
        let node = self.with_environment(node);
        self.place(node)
    }

    /// Notes where the letters stand, if the file shows them one by one.
    fn with_letters(&self, mut node: Node) -> Node {
        if let Content::Scalar(scalar) = &mut node.content {
            let column = node.span.column + usize::from(!scalar.plain);
            scalar.letters_at = self.source.has(node.span.line, column, &scalar.raw).then_some(column);
        }
        node
    }

    fn with_environment(&mut self, mut node: Node) -> Node {
        let Content::Scalar(scalar) = &node.content else {
            return node;
        };
        let outcome = substitute(&scalar.raw, self.env);
        let faulty = !outcome.faults.is_empty();
        for fault in outcome.faults {
            let span = node.span_at(fault.at, fault.width);
            self.problems
                .push(self.source.problem(fault.code, span, "", fault.title).help(fault.help));
        }
        if let Content::Scalar(scalar) = &mut node.content {
            if outcome.text != scalar.raw {
                scalar.letters_at = None;
            }
            scalar.text = outcome.text;
            scalar.faulty = faulty;
        }
        node
    }

    fn key(&mut self, name: Key) {
        let Some(Open::Map { seen, key, again, .. }) = self.open.last_mut() else {
            return;
        };
        let first = seen.get(&name.name).copied();
        seen.entry(name.name.clone()).or_insert(name.span.line);
        *again = first.is_some();
        if let Some(first) = first {
            let title = format!("`{}` is there twice", name.name);
            let problem = self.source.problem("H104", name.span, "", title);
            self.problems.push(
                problem
                    .found(format!("the first is in line {first}"))
                    .help("keep one of them"),
            );
        }
        *key = Some(name);
    }

    fn place(&mut self, node: Node) -> Result<(), Box<Problem>> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map {
                entries, key, again, ..
            }) => {
                let entry = key.take().map(|key| (key, node));
                entries.extend(entry.filter(|_| !*again));
            }
        }
        Ok(())
    }

    fn span(&self, at: YamlSpan) -> Span {
        let end = (at.end.line() == at.start.line() && at.end.col() > at.start.col()).then(|| at.end.col() + 1);
        let end = if at.is_empty() { Some(at.start.col() + 2) } else { end };
        self.source.span(at.start.line(), at.start.col() + 1, end)
    }

    fn refused(&self, span: Span, what: &str) -> Box<Problem> {
        let title = format!("{what} is not allowed in a pipeline file");
        let help = "write it out; quote a text that begins with & * or !";
        Box::new(self.source.problem("H102", span, "", title).help(help))
    }

    fn not_yaml(&self, at: &saphyr_parser::Marker, info: &str) -> Box<Problem> {
        let span = self.source.span(at.line(), at.col() + 1, Some(at.col() + 2));
        let help = "look for a missing quote, bracket or indentation at or before this place";
        let problem = self.source.problem("H101", span, "", "this is not YAML");
        Box::new(problem.found(info).help(help))
    }
}

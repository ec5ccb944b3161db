//! What rows say of who they are, and the pairs that a person is asked about, on the wire.

use super::{CodecError, Datum, Fields, Node, Out, ParsedSchema, Wire};
use crate::review::{Review, ReviewKind, Side};
use crate::sighting::{Claim, Sighting, SightingRecord, Trait};

impl Wire for SightingRecord {
    fn schema_json() -> &'static str {
        include_str!("../../avro/sighting.avsc")
    }

    fn write(&self, datum: &mut Vec<u8>) {
        let out = &mut Out(datum);
        match self {
            SightingRecord::Seen(seen) => {
                out.branch(0);
                out.text(&seen.cid);
                out.text(&seen.source);
                out.shown(&seen.row);
                out.boolean(seen.first);
                out.array(&seen.traits, |out, one| {
                    out.text(&one.part);
                    out.text(&one.hash);
                });
                out.array(&seen.claims, |out, claim| {
                    out.text(&claim.source);
                    out.text(&claim.key);
                });
            }
            SightingRecord::Loaded {
                link,
                partition,
                partitions,
            } => {
                out.branch(1);
                out.text(link);
                out.long(i64::from(*partition));
                out.long(i64::from(*partitions));
            }
        }
    }

    fn decode(writer: &ParsedSchema, datum: &[u8]) -> Result<Self, CodecError> {
        let node = writer.read(datum)?;
        let inner = Fields::of(&node)?;
        let inner = inner.get("record");
        let record = Fields::of(inner.ok_or_else(|| CodecError::field("record", "is missing or of another type"))?)?;
        match record.name() {
            "Seen" => Ok(SightingRecord::Seen(Sighting {
                cid: record.text("cid")?.to_owned(),
                source: record.text("source")?.to_owned(),
                row: record.row("row")?,
                first: record.boolean("first")?,
                traits: record.list("traits", |node| {
                    let one = Fields::of(node)?;
                    Ok(Trait {
                        part: one.text("part")?.to_owned(),
                        hash: one.text("hash")?.to_owned(),
                    })
                })?,
                claims: record.list("claims", |node| {
                    let claim = Fields::of(node)?;
                    Ok(Claim {
                        source: claim.text("source")?.to_owned(),
                        key: claim.text("key")?.to_owned(),
                    })
                })?,
            })),
            "Loaded" => Ok(SightingRecord::Loaded {
                link: record.text("link")?.to_owned(),
                partition: record.int("partition")?,
                partitions: record.int("partitions")?,
            }),
            _ => Err(CodecError::field("record", "is of a kind this version does not know")),
        }
    }
}

impl Wire for Review {
    fn schema_json() -> &'static str {
        include_str!("../../avro/review.avsc")
    }

    fn write(&self, datum: &mut Vec<u8>) {
        let out = &mut Out(datum);
        out.text(&self.id);
        out.text(self.kind.word());
        for side in [&self.one, &self.other] {
            out.text(&side.cid);
            out.text(&side.source);
            out.shown(&side.row);
        }
        out.shown(&self.score);
        out.array(&self.agrees, |out, part| out.text(part));
        out.text(&self.why);
    }

    fn decode(writer: &ParsedSchema, datum: &[u8]) -> Result<Self, CodecError> {
        let node = writer.read(datum)?;
        let review = Fields::of(&node)?;
        Ok(Review {
            id: review.text("id")?.to_owned(),
            kind: match review.text("kind")? {
                "unsure" => ReviewKind::Unsure,
                "ambiguous" => ReviewKind::Ambiguous,
                "duplicate" => ReviewKind::Duplicate,
                _ => return Err(CodecError::field("kind", "is of a kind this version does not know")),
            },
            one: read_side(&review, "one")?,
            other: read_side(&review, "other")?,
            score: review.parsed("score")?,
            agrees: review.list("agrees", read_text)?,
            why: review.text("why")?.to_owned(),
        })
    }
}

fn read_side(review: &Fields<'_>, name: &str) -> Result<Side, CodecError> {
    let node = review.get(name);
    let side = Fields::of(node.ok_or_else(|| CodecError::field(name, "is missing or of another type"))?)?;
    Ok(Side {
        cid: side.text("cid")?.to_owned(),
        source: side.text("source")?.to_owned(),
        row: side.row("row")?,
    })
}

fn read_text(node: &Node<'_>) -> Result<String, CodecError> {
    match &node.datum {
        Datum::Text(text) => Ok((*text).to_owned()),
        _ => Err(CodecError::Datum("a list of texts was expected".to_owned())),
    }
}

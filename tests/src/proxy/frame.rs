//! Where a message begins and of which kind it is: as much of the two protocols as that takes, and no more.

use std::collections::HashMap;

use super::{Protocol, Side};

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kafka: a request with this API key, or the answer to one.
    Kafka(i16),
    /// PostgreSQL: a message with this tag.
    Postgres(u8),
    /// PostgreSQL, within a copy in both directions: `w` is a piece of the log, `k` the server's sign of life, `r` the
    /// client's report.
    Copy(u8),
    /// PostgreSQL: a piece of the log whose message has this tag: `B`egin, `I`nsert, `C`ommit.
    Log(u8),
}

/// Kafka's Metadata and FindCoordinator: their answers name brokers.
const NAMES_BROKERS: [i16; 2] = [3, 10];
const METADATA_HOST: &[u8] = b"127.0.0.1";
/// What a client sends before its first message: the wish for TLS, or for GSSAPI.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
/// XLogData: its tag, three numbers of eight bytes; then the message.
const LOG_HEADER_BYTES: usize = 25;

/// What both directions of a connection know of each other.
#[derive(Default)]
pub(super) struct Conversation {
    /// Kafka: the API key of each request without an answer, by its correlation id.
    asked: HashMap<i32, i16>,
    /// PostgreSQL: answers of a single byte that are still to come.
    bare_answers: u32,
    /// PostgreSQL: the client has sent its first message.
    started: bool,
}

/// The length of the first whole message in `bytes`, and what it is.
pub(super) fn first(
    protocol: Protocol,
    from: Side,
    bytes: &[u8],
    conversation: &mut Conversation,
) -> Option<(usize, Vec<Kind>)> {
    match protocol {
        Protocol::Kafka => kafka(from, bytes, conversation),
        Protocol::Postgres => postgres(from, bytes, conversation),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn kafka(from: Side, bytes: &[u8], conversation: &mut Conversation) -> Option<(usize, Vec<Kind>)> {
    let length = 4 + usize::try_from(number(bytes, 0)?).ok()?;
    let whole = bytes.get(..length)?;
    let kind = match from {
        Side::Client => {
            let api_key = i16::from_be_bytes(whole.get(4..6)?.try_into().ok()?);
            let correlation = number(whole, 8)?.cast_signed();
            conversation.asked.insert(correlation, api_key);
            Some(api_key)
        }
        Side::Server => conversation.asked.remove(&number(whole, 4)?.cast_signed()),
    };
    Some((length, kind.map(Kind::Kafka).into_iter().collect()))
}

fn postgres(from: Side, bytes: &[u8], conversation: &mut Conversation) -> Option<(usize, Vec<Kind>)> {
    if from == Side::Server && conversation.bare_answers > 0 {
        bytes.first()?;
        conversation.bare_answers -= 1;
        return Some((1, Vec::new()));
    }
    if from == Side::Client && !conversation.started {
        let length = usize::try_from(number(bytes, 0)?).ok()?;
        let whole = bytes.get(..length)?;
        match number(whole, 4)? {
            SSL_REQUEST | GSS_REQUEST => conversation.bare_answers += 1,
            _ => conversation.started = true,
        }
        return Some((length, Vec::new()));
    }
    let length = 1 + usize::try_from(number(bytes, 1)?).ok()?;
    let whole = bytes.get(..length)?;
    let mut kinds = vec![Kind::Postgres(whole[0])];
    if let (b'd', Some(&inner)) = (whole[0], whole.get(5)) {
        kinds.push(Kind::Copy(inner));
        if let (b'w', Some(&tag)) = (inner, whole.get(5 + LOG_HEADER_BYTES)) {
            kinds.push(Kind::Log(tag));
        }
    }
    Some((length, kinds))
}

/// Writes the proxies' ports over the brokers'. An address is its host as text and its port as a number, in every version
/// of both answers; their lengths do not change.
pub(super) fn redirect(message: &mut [u8], kinds: &[Kind], ports: &[(u16, u16)]) {
    let names_brokers = |kind: &Kind| matches!(kind, Kind::Kafka(key) if NAMES_BROKERS.contains(key));
    if !kinds.iter().any(names_brokers) {
        return;
    }
    let host = METADATA_HOST.len();
    for start in 0..message.len().saturating_sub(host + 3) {
        if &message[start..start + host] != METADATA_HOST {
            continue;
        }
        let place = start + host;
        let told = number(message, place);
        if let Some((_, ours)) = ports.iter().find(|(theirs, _)| told == Some(u32::from(*theirs))) {
            message[place..place + 4].copy_from_slice(&u32::from(*ours).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_postgres_are_told_apart() {
        let mut conversation = Conversation::default();
        let mut client = [
            &[0, 0, 0, 8][..],
            &SSL_REQUEST.to_be_bytes(),
            &[0, 0, 0, 9, 0, 3, 0, 0, 0],
        ]
        .concat();
        client.extend([b'd', 0, 0, 0, 5, b'r']);
        let mut lengths = Vec::new();
        while let Some((length, kinds)) = postgres(Side::Client, &client, &mut conversation) {
            client.drain(..length);
            lengths.push((length, kinds));
        }
        let report = vec![Kind::Postgres(b'd'), Kind::Copy(b'r')];
        assert_eq!(lengths, [(8, Vec::new()), (9, Vec::new()), (6, report)]);
        assert_eq!(
            postgres(Side::Server, b"NR\0\0", &mut conversation),
            Some((1, Vec::new()))
        );
        assert_eq!(
            postgres(Side::Server, b"R\0\0", &mut conversation),
            None,
            "not whole yet"
        );
        let log = [&[b'd', 0, 0, 0, 30, b'w'][..], &[0; 24], b"C"].concat();
        let (length, kinds) = postgres(Side::Server, &log, &mut conversation).unwrap();
        assert_eq!((length, kinds.last()), (31, Some(&Kind::Log(b'C'))));
    }

    #[test]
    fn an_answer_of_kafka_is_known_by_its_request_and_its_brokers_are_redirected() {
        let mut conversation = Conversation::default();
        let request = [0, 0, 0, 8, 0, 3, 0, 9, 0, 0, 0, 7];
        assert_eq!(
            kafka(Side::Client, &request, &mut conversation),
            Some((12, vec![Kind::Kafka(3)]))
        );
        let mut answer = [&[0, 0, 0, 17, 0, 0, 0, 7][..], b"127.0.0.1", &9092_u32.to_be_bytes()].concat();
        let (length, kinds) = kafka(Side::Server, &answer, &mut conversation).unwrap();
        assert_eq!((length, kinds.as_slice()), (21, &[Kind::Kafka(3)][..]));
        redirect(&mut answer, &kinds, &[(9092, 4000)]);
        assert_eq!(answer[17..], 4000_u32.to_be_bytes());
    }
}

//! Which partition a key lives in.
//!
//! The hash is that of the Java client, so that our records and those of Debezium, ksqlDB or Flink with the same key
//! meet in the same partition. librdkafka's own default is another one (CRC-32).

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// The partition of a key, as Java's default partitioner chooses it; 0 if there are no partitions.
pub fn murmur2_partition(key: &[u8], partitions: i32) -> i32 {
    let positive = i64::from(murmur2(key) & 0x7fff_ffff);
    let partition = positive.checked_rem(i64::from(partitions.max(0))).unwrap_or(0);
    i32::try_from(partition).unwrap_or_else(|_| unreachable!("less than an i32"))
}

fn murmur2(data: &[u8]) -> u32 {
    let length = u32::try_from(data.len()).unwrap_or_else(|_| unreachable!("no key has 4 GiB"));
    let mut hash = SEED ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| (word << 8) | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own UtilsTest.
    #[test]
    fn hashes_as_java_does() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key).cast_signed(), expected, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn partitions_are_in_range() {
        assert_eq!(murmur2_partition(b"21", 1), 0);
        assert_eq!(murmur2_partition(b"abc", 10), 7);
        assert_eq!(murmur2_partition(b"foobar", 0), 0);
        assert!((0..100u8).all(|n| (0..7).contains(&murmur2_partition(&[n], 7))));
    }
}

"""Reads topics to their end with Confluent's own client, as a team's Python would, and prints a line of JSON for each record.

    read.py BOOTSTRAP REGISTRY TOPIC...

Bytes are shown in hexadecimal, decimals as they are written, NaN and infinities as text. A record that cannot be read ends it, with its place. Keys of
the topics PREFIX.syncline.*, which no table stands behind, are plain text.
"""

import decimal
import json
import math
import sys

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

CALL_SECONDS_MAX = 20
POLLS_IN_VAIN_MAX = 60


def shown(value):
    """What a deserializer gave, as JSON can say it."""
    if isinstance(value, dict):
        return {name: shown(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shown(part) for part in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def partitions(consumer, topics):
    """Each partition that holds something, and where it ends."""
    ends = {}
    metadata = consumer.list_topics(timeout=CALL_SECONDS_MAX)
    for topic in topics:
        for number in metadata.topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=CALL_SECONDS_MAX)
            if high > low:
                ends[(topic, number)] = high
    return ends


def read(consumer, topics):
    """All records that are committed now. The ends of transactions take offsets, so positions say what has been read."""
    ends = partitions(consumer, topics)
    consumer.assign([TopicPartition(topic, number, 0) for topic, number in ends])
    in_vain = 0
    while ends and in_vain < POLLS_IN_VAIN_MAX:
        message = consumer.poll(1.0)
        if message is None:
            in_vain += 1
        elif message.error():
            raise KafkaException(message.error())
        else:
            in_vain = 0
            yield message
        for place in consumer.position([TopicPartition(*place) for place in ends]):
            if place.offset >= ends[(place.topic, place.partition)]:
                del ends[(place.topic, place.partition)]
    if ends:
        sys.exit(f"not read to their ends: {ends}")


def main(bootstrap, registry, *topics):
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "read.py",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    for message in read(consumer, topics):
        record = {"topic": message.topic(), "offset": message.offset()}
        try:
            if ".syncline." in message.topic():
                record["key"] = (message.key() or b"").decode()
            else:
                record["key"] = deserialize(message.key(), SerializationContext(message.topic(), MessageField.KEY))
            record["value"] = deserialize(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
        except Exception as error:
            sys.exit(f"{message.topic()}, offset {message.offset()}: {type(error).__name__}: {error}")
        print(json.dumps(shown(record), allow_nan=False))
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

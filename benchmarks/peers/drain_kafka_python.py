"""kafka-python with crc32c, reading and nothing else: the most that anything on top of its own records can reach."""

from common import Clock, arguments, report
from kafka import KafkaConsumer, TopicPartition

bootstrap, topic, events = arguments()
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, group_id=None,
    max_poll_records=30_000, max_partition_fetch_bytes=1024 * 1024, fetch_max_bytes=16 * 1024 * 1024,
    fetch_min_bytes=64 * 1024,
)  # fmt: skip
consumer.assign([TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)])
clock, seen, size = Clock(), 0, 0
while seen < events:
    for records in consumer.poll(timeout_ms=500).values():
        clock.start()
        seen += len(records)
report(clock.seconds, seen)
consumer.close()

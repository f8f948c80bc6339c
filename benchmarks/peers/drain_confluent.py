"""confluent-kafka, reading and nothing else."""

from common import Clock, arguments, report
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

bootstrap, topic, events = arguments()
consumer = Consumer({
    "bootstrap.servers": bootstrap, "group.id": "drain", "enable.auto.commit": False,
    "fetch.queue.backoff.ms": 10,  # its second is four times slower: a queue that was full stays empty so long
})  # fmt: skip
partitions = consumer.list_topics(topic, 10).topics[topic].partitions
consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
clock, seen = Clock(), 0
while seen < events:
    messages = consumer.consume(30_000, 0.5)
    if messages:
        clock.start()
    seen += len(messages)
report(clock.seconds, seen)
consumer.close()

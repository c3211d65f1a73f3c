"""A process that reads a Kafka log and says what it has read, until it is killed."""

from __future__ import annotations

import json
import sys
import time

from streaming.log.frames import Frame
from streaming.log.kafka import KafkaLogReader
from tests.streaming.log.log_reading import all_partitions


def main() -> None:
    """Print one JSON object a frame: where it stood, and the ids of its events."""
    reader = KafkaLogReader(json.loads(sys.argv[1]), all_partitions(), stopped=lambda: False)
    while True:
        for frame in reader.poll():
            assert isinstance(frame, Frame)
            ids = frame.events.column("event_id").to_pylist()
            print(json.dumps([frame.entity, frame.partition, frame.offset, ids]), flush=True)
        time.sleep(0.01)


if __name__ == "__main__":
    main()

"""Features of the past: a row an event, or as of any (key, instant); the kernel is the live one."""

from streaming.backfill.run import backfill
from streaming.backfill.share import BackfillReport
from streaming.backfill.source import Source, event_source, mapped_source
from streaming.backfill.spine_file import backfill_spine

__all__ = [
    "BackfillReport",
    "Source",
    "backfill",
    "backfill_spine",
    "event_source",
    "mapped_source",
]

"""A process that scores the log with a service that needs no model; a test kills it.

`python -m tests.serving.scoring_process HOST:PORT HOME`
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.stores.forgotten import ForgottenFile
from feature_repo.stores.redis_connection import connect
from serving.messages import PredictRequest
from serving.predict import Service
from serving.score_log import ScoreLog
from serving.score_stream import StreamScorer
from streaming.log.valkey_layout import recorded_shards
from streaming.log.valkey_streams import ValkeyLogReader

MODEL = "risk"


class Connection:
    """Fences as they stand in the store."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def read(self, commands: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[Any]:
        return [self._client.hmget(key, list(fields)) for key, fields in commands]


async def predict(name: str, message: PredictRequest, request_id: str) -> Any:
    """A prediction that is the number in the customer's name."""
    await asyncio.sleep(0)
    number = float((message.customer or "0")[1:])
    row = SimpleNamespace(
        version="1", alias="champion", score=number, prediction=number, unit=None,
        probability=None, decision=None, corridor=message.corridor, statuses={},
    )  # fmt: skip
    return SimpleNamespace(predictions=[row])


def scorer(client: Any, home: Path, *, wait: timedelta, stopped: Any, model: str = MODEL) -> Any:
    """A scorer from where the output log is."""
    shards = recorded_shards(client) or 1
    output = ScoreLog(client, "valkey", timedelta(days=10_000))
    positions = {(model, shard): output.position(model, shard) for shard in range(shards)}
    reader = ValkeyLogReader(
        client, {("customer", shard): positions[model, shard] for shard in range(shards)}, stopped
    )
    service = SimpleNamespace(
        predict=predict,
        reader=SimpleNamespace(connection=Connection(client)),
        catalog=SimpleNamespace(feature_set=FEATURE_SET, project="daima"),
    )
    return StreamScorer(
        cast(Service, service),
        [model],
        output=output,
        reader=reader,
        positions=positions,
        tombstones=ForgottenFile(home / "offline"),
        log_name="valkey",
        wait=wait,
    )


if __name__ == "__main__":
    made = scorer(connect(sys.argv[1]), Path(sys.argv[2]), wait=timedelta(0), stopped=lambda: False)
    print("scoring", flush=True)
    asyncio.run(made.run(lambda: False))

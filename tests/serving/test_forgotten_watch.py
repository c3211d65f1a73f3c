"""Memories are looked through when somebody was forgotten, and not every second."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from feature_repo.stores.forgotten import Forgotten, ForgottenFile, Tombstone, key_of
from serving.forgotten_watch import watch_forgotten


def test_only_changes_are_told(tmp_path: Path) -> None:
    file = ForgottenFile(tmp_path)
    told: list[Forgotten] = []

    async def run() -> None:
        watching = asyncio.create_task(
            watch_forgotten(file, told.append, every=timedelta(milliseconds=1))
        )
        await asyncio.sleep(0.05)
        quiet = len(told)
        file.change(lambda found: found.update({key_of("c1"): Tombstone(1)}))
        while len(told) == quiet:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        watching.cancel()
        assert quiet == 1  # nobody, once
        assert len(told) == 2

    asyncio.run(asyncio.wait_for(run(), 30))
    assert list(told[1].tombstones) == [key_of("c1")]

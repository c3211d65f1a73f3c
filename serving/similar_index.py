"""The index of nearest customers: built at the start, kept as vectors change, swapped whole.

A thread reads the latest offline vectors of the embedding version that serves, builds an index of
them (`similar_vectors.py`), and then follows the stream of changes. Another version, a
recomputation or a gap in the stream means a new index, which takes the former's place once it is
whole: whoever asks meanwhile is answered from the former, of one version too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta

import numpy as np
import polars as pl
import redis
from redis.exceptions import RedisError

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH
from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.settings import Settings
from feature_repo.stores.embedding_changes import (
    START,
    Change,
    Gap,
    Reload,
    changes_after,
    last_change,
    serving_version,
)
from feature_repo.stores.embedding_rows import latest_embeddings, without_the_forgotten
from feature_repo.stores.forgotten import Forgotten, ForgottenFile
from feature_repo.stores.latest_rows import CORRIDOR, SEGMENT, latest_files, latest_labels
from feature_repo.stores.redis_connection import connect
from serving.similar_vectors import NearestVectors, Neighbour

log = logging.getLogger(__name__)

_LOOK = timedelta(milliseconds=50)
_RETRY = timedelta(seconds=1)
_LABELS_EVERY = 200  # looks: every ten seconds


class NoVectorError(DaimaError):
    """A customer has no vector of the version that serves."""


class NoIndexError(DaimaError):
    """There is no index to search, or not yet."""


class SimilarIndex:
    """The nearest customers of one server.

    Args:
        settings: whose offline store and stream of changes.
        look: how often the stream is looked at.

    Attributes:
        ignored: vectors passed over because they are of another version than the index.
        builds: indexes built since the start.
        why_not: why there is no index, while there is none, or why it is not kept up.
    """

    def __init__(self, settings: Settings, look: timedelta = _LOOK) -> None:
        self.ignored = 0
        self.builds = 0
        self._settings = settings
        self._look_s = look.total_seconds()
        self._current: NearestVectors | None = None
        self.why_not = "the server has just started"
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._client: redis.Redis[bytes] | None = None
        self._tombstones = ForgottenFile(settings.offline)
        self._seen: Forgotten | None = None
        self._position = START
        self._stale = True
        self._label_files: frozenset[tuple[str, int]] | None = None

    @property
    def size(self) -> int:
        """Customers in the index."""
        return 0 if self._current is None else len(self._current)

    @property
    def version(self) -> int | None:
        """The embedding version of the index; None while there is none."""
        return None if self._current is None else self._current.version

    def start(self) -> None:
        """Begin to build and follow, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="similar-index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end; a building that is under way is not waited for."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    async def search(
        self, customer: str, most: int, corridor: str | None = None, segment: str | None = None
    ) -> tuple[int, list[Neighbour]]:
        """The embedding version, and the nearest customers that pass the filters, nearest first.

        Raises:
            NoIndexError: there is no index (yet).
            NoVectorError: the customer has no vector of its version.
        """
        index = self._current
        if index is None:
            raise NoIndexError(
                "the index of nearest customers", expected=f"one that is built: {self.why_not}",
                action="ask again; GET /metrics shows daima_similar_customers when it is there",
            )  # fmt: skip
        # About a millisecond, in which the event loop has others to answer.
        found = await asyncio.to_thread(index.search, customer, most, corridor, segment)
        if found is None:
            raise NoVectorError(
                "customer", customer, f"one with a vector of embedding version {index.version}",
                "a customer has one once a session of theirs has ended and been embedded",
            )  # fmt: skip
        return index.version, found

    def _run(self) -> None:
        looks = 0
        while not self._stopped.is_set():
            wait_s = self._look_s
            try:
                self._step(looks)
                looks += 1
            except (RedisError, DaimaError, OSError) as error:
                self.why_not = str(error)
                log.warning("nearest customers are not kept up: %s", error)
                wait_s = _RETRY.total_seconds()
            except Exception:  # the former index goes on being searched
                self.why_not = "it could not be built; the server's log says why"
                log.exception("nearest customers are not kept up")
                wait_s = 10 * _RETRY.total_seconds()
            self._stopped.wait(wait_s)
        if self._client is not None:
            self._client.close()

    def _step(self, looks: int) -> None:
        if self._client is None:
            self._client = connect(self._settings.redis)
        if self._current is not None:
            self._forget(self._current)
        if (self._stale and not self._build(self._client)) or self._current is None:
            return
        try:
            # As long as there is more: a replay is caught up with at once.
            while self._follow(self._client, self._current) and not self._stopped.is_set():
                pass
        except Gap:
            log.info("changes of vectors are no longer kept: the index is built again")
            self._stale = True
        if looks % _LABELS_EVERY == 0:
            self._label(self._current)
        self._stale = self._stale or self._current.outgrown

    def _build(self, client: redis.Redis[bytes]) -> bool:
        """Build the index of the version that serves; whether there is one."""
        version = serving_version(client)
        if version is None:
            self.why_not = "no embedding version serves, no customer has been embedded"
            return False
        self.why_not = f"the vectors of version {version} are being read"
        position = last_change(client)  # before the rows, which hold all that came up to here
        seen = self._tombstones.read()
        rows = latest_embeddings(self._settings, version)
        fits = rows.filter(pl.col("embedding").list.len() == EMBEDDING_WIDTH)
        flat = fits["embedding"].explode() if fits.height else pl.Series([], dtype=pl.Float32)
        vectors = flat.to_numpy().reshape(-1, EMBEDDING_WIDTH)
        built = NearestVectors(
            version, fits[CUSTOMER.join_key], vectors, fits["embedding_updated_at"].to_numpy()
        )
        self._label(built, anew=True)
        self._position, self._seen, self._stale = position, seen, False
        self._current = built
        self.builds += 1
        log.info("nearest of %s customers, embedding version %s", f"{len(built):,}", version)
        return True

    def _follow(self, client: redis.Redis[bytes], index: NearestVectors) -> int:
        """Take in what has changed since; how many entries there were."""
        entries = changes_after(client, self._position)
        news: list[Change] = []
        for _, change in entries:
            if isinstance(change, Reload):
                self._stale = self._stale or change.version == serving_version(client)
            elif change.version == index.version:
                news.append(change)
            else:
                self.ignored += 1
        self._put(index, news)
        if entries:
            self._position = entries[-1][0]
        return len(entries)

    def _put(self, index: NearestVectors, news: list[Change]) -> None:
        if not news:
            return
        # One who was forgotten while this was on its way does not come back.
        frame = pl.DataFrame(
            {
                CUSTOMER.join_key: [each.customer for each in news],
                "at_us": [each.at_us for each in news],
                "row": range(len(news)),
            }
        )
        kept = without_the_forgotten(self._settings, frame, "at_us")["row"].to_list()
        chosen = [news[row] for row in kept]
        if chosen:
            index.put(
                [each.customer for each in chosen],
                np.stack([each.vector for each in chosen]),
                [each.at_us for each in chosen],
            )

    def _forget(self, index: NearestVectors) -> None:
        found = self._tombstones.read()
        if found is not self._seen:
            index.forget(found)
            self._seen = found

    def _label(self, index: NearestVectors, *, anew: bool = False) -> None:
        """Corridors and segments, read again where their tables have other files."""
        files = [latest_files(self._settings, view) for view, _ in (CORRIDOR, SEGMENT)]
        mark = frozenset((str(path), path.stat().st_mtime_ns) for some in files for path in some)
        if mark == self._label_files and not anew:
            return
        customers = index.customers()
        index.label(
            *(
                latest_labels(customers, paths, feature)
                for paths, (_, feature) in zip(files, (CORRIDOR, SEGMENT), strict=True)
            )
        )
        self._label_files = mark

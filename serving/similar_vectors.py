"""An index of customers' vectors, of one embedding version: the nearest by cosine similarity.

Vectors lie in lists around centroids (faiss, IVF): a search looks through the lists nearest to the
query and compares with all in them. Lists take new and changed vectors as they come, without
growing worse, and a search of few customers can afford more lists; a graph of neighbours does
neither, and takes half a minute to minutes to build where this takes ten seconds
(`docs/adr/0010-nearest-customers.md`).
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, Singles
from feature_repo.stores.forgotten import Forgotten

# Customers a list: 1,000 lists of a million.
_LIST = 1_000
_MOST_LISTS = 4_096
# Lists looked through: recall@10 .98 among a million (tests/benchmarks/nearest.py). Those of
# customers within a filter lie in more lists: few in each, so more of them cost little.
_PROBES = 64
_PROBES_POWER = 0.15
_SAMPLE = 64  # vectors a list that its centroid is learnt from
_CHUNK = 10_000  # names taken up before the interpreter's lock is offered to others
_MOST_FILTERS = 64  # whose bits are kept
_ANY = -1  # the code of no filter
_NONE = 0  # the code of a customer without the attribute


@dataclass(frozen=True)
class Neighbour:
    """A customer near to another: cosine similarity (1: alike), corridor and segment if known."""

    customer: str
    similarity: float
    corridor: str | None
    segment: str | None


class _Labels:
    """A text a slot, as codes: 0 is none."""

    def __init__(self) -> None:
        self.names: list[str | None] = [None]
        self.codes = np.zeros(0, np.int32)

    def set(self, texts: pl.Series) -> None:
        """Those of the first slots; the others have none."""
        values = texts.drop_nulls().unique().sort()
        codes = pl.DataFrame(
            {"text": values, "code": np.arange(1, len(values) + 1, dtype=np.int32)}
        )
        found = texts.to_frame("text").join(codes, on="text", how="left", maintain_order="left")
        fresh = np.zeros(len(self.codes), np.int32)
        fresh[: len(texts)] = found["code"].fill_null(_NONE).to_numpy()
        self.names, self.codes = [None, *values.to_list()], fresh

    def code(self, text: str | None) -> int | None:
        """Of a filter; None where nobody can pass it."""
        if text is None:
            return _ANY
        try:
            return self.names.index(text)
        except ValueError:
            return None


class NearestVectors:
    """Vectors of customers, searched and changed from several threads.

    Args:
        version: their embedding version.
        customers: (n,) ids, each once.
        vectors: (n, EMBEDDING_WIDTH) float32 of length 1.
        at_us: (n,) as of when, µs since 1970: an older vector never replaces a newer one.
    """

    def __init__(
        self, version: int, customers: pl.Series, vectors: Singles, at_us: npt.NDArray[np.int64]
    ) -> None:
        # 0.2 s, for those who search; the types that it comes with are not those that it has.
        logging.getLogger("faiss.loader").setLevel(logging.WARNING)
        faiss: Any = importlib.import_module("faiss")
        self.version = version
        self.built_with = len(customers)
        self._faiss = faiss
        self._lock = threading.Lock()
        self._names: list[str | None] = []
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        for start in range(0, len(customers), _CHUNK):
            some = customers[start : start + _CHUNK].to_list()
            self._names += some
            self._slots.update(zip(some, range(start, start + len(some)), strict=True))
        self._at_us = at_us.astype(np.int64)
        self._labels = {"corridor": _Labels(), "segment": _Labels()}
        self._bits: dict[tuple[int, int], tuple[npt.NDArray[np.uint8], int]] = {}
        for labels in self._labels.values():
            labels.codes = np.zeros(len(customers), np.int32)
        self._index = self._built(vectors)

    def _built(self, vectors: Singles) -> Any:
        faiss, count = self._faiss, len(vectors)
        faiss.omp_set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # of this thread's calls
        lists = min(max(1, count // _LIST), _MOST_LISTS)
        centres = faiss.IndexFlatIP(EMBEDDING_WIDTH)
        # Half as much memory to go through as singles: half the time, and similarities to 0.001.
        index = faiss.IndexIVFScalarQuantizer(
            centres, EMBEDDING_WIDTH, lists, faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT, False,
        )  # fmt: skip
        if count:
            sample = vectors
            if count > lists * _SAMPLE:
                chosen = np.random.default_rng(0).choice(count, lists * _SAMPLE, replace=False)
                sample = vectors[np.sort(chosen)]
            index.cp.niter = 10
            index.cp.min_points_per_centroid = 1
            index.train(sample)
        else:
            index.cp.min_points_per_centroid = 1
            index.train(np.eye(1, EMBEDDING_WIDTH, dtype=np.float32))
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # vectors can be taken out by id
        for start in range(0, count, _LIST * 50):
            some = vectors[start : start + _LIST * 50]
            index.add_with_ids(some, np.arange(start, start + len(some), dtype=np.int64))
        return index

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, customer: str) -> bool:
        return customer in self._slots

    @property
    def outgrown(self) -> bool:
        """Whether so many have come since it was built that its lists are too long."""
        return len(self) > 4 * self.built_with + 10 * _LIST

    def customers(self) -> pl.Series:
        """The ids by slot, null where there is none: what `label` wants its texts for."""
        with self._lock:
            names = list(self._names)
        return pl.Series(names, dtype=pl.String)

    def label(self, corridors: pl.Series, segments: pl.Series) -> None:
        """Say what the customers of the first slots are filtered by; null is unknown."""
        with self._lock:
            self._labels["corridor"].set(corridors)
            self._labels["segment"].set(segments)
            self._bits.clear()

    def put(self, customers: Sequence[str], vectors: Singles, at_us: Sequence[int]) -> None:
        """Take in new and changed vectors; of a customer who comes twice, the last.

        Those that are older than what is there change nothing.
        """
        with self._lock:
            rows: dict[int, int] = {}
            known = []
            for row, (customer, at) in enumerate(zip(customers, at_us, strict=True)):
                slot = self._slots.get(customer)
                if slot is None:
                    slot = self._new_slot(customer)
                elif at < self._at_us[slot]:
                    continue
                elif slot not in rows:
                    known.append(slot)
                self._at_us[slot] = at
                rows[slot] = row
            if known:
                self._index.remove_ids(np.array(known, np.int64))
            if rows:
                chosen = np.ascontiguousarray(vectors[list(rows.values())], np.float32)
                self._index.add_with_ids(chosen, np.fromiter(rows, np.int64, len(rows)))

    def remove(self, customers: Sequence[str]) -> int:
        """Take customers out; how many were there."""
        with self._lock:
            slots = [self._slots.pop(name) for name in set(customers) if name in self._slots]
            if slots:
                self._index.remove_ids(np.array(slots, np.int64))
            for slot in slots:
                self._names[slot] = None
                for labels in self._labels.values():
                    labels.codes[slot] = _NONE
            if slots:
                self._bits.clear()
            self._free += slots
        return len(slots)

    def forget(self, forgotten: Forgotten) -> int:
        """Take out the customers who were forgotten after their vectors; how many."""
        with self._lock:
            names, at_us = list(self._names), self._at_us.copy()
        if not forgotten or not names:
            return 0
        hidden = forgotten.hidden(pa.array(names, pa.string()), at_us[: len(names)])
        return self.remove([name for at in np.flatnonzero(hidden) if (name := names[at])])

    def search(
        self, customer: str, most: int, corridor: str | None = None, segment: str | None = None
    ) -> list[Neighbour] | None:
        """The nearest to a customer, nearest first, without the customer; None for an unknown one.

        Args:
            most: of them; fewer where no more pass the filters.
            corridor, segment: only those who have them.
        """
        with self._lock:
            own = self._slots.get(customer)
            if own is None:
                return None
            by_corridor = self._labels["corridor"].code(corridor)
            by_segment = self._labels["segment"].code(segment)
            if by_corridor is None or by_segment is None:
                return []
            query = self._index.reconstruct(own).reshape(1, -1)
            found = self._nearest(query, most + 1, (by_corridor, by_segment))
            return [
                Neighbour(
                    name,
                    min(1.0, float(similarity)),
                    self._labels["corridor"].names[self._labels["corridor"].codes[slot]],
                    self._labels["segment"].names[self._labels["segment"].codes[slot]],
                )
                for similarity, slot in found
                if slot != own and (name := self._names[slot]) is not None
            ][:most]

    def _nearest(
        self, query: Singles, most: int, codes: tuple[int, int]
    ) -> list[tuple[float, int]]:
        options: dict[str, Any] = {}
        passing = len(self._slots)
        lists = self._index.nlist
        if codes != (_ANY, _ANY):
            bits, passing = self._passing(codes)
            options["sel"] = self._faiss.IDSelectorBitmap(bits)
        share = max(passing, 1) / max(len(self._slots), 1)
        probes = min(lists, int(_PROBES * share**-_PROBES_POWER))
        wanted = min(most, passing)
        while wanted:
            parameters = self._faiss.SearchParametersIVF(nprobe=probes, **options)
            similarities, slots = self._index.search(query, wanted, params=parameters)
            there = slots[0] >= 0
            # Few who pass may all lie in lists that were not looked through.
            if there.all() or probes == lists:
                return list(
                    zip(similarities[0][there].tolist(), slots[0][there].tolist(), strict=True)
                )
            probes = lists
        return []

    def _passing(self, codes: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], int]:
        """A bit a slot: who passes a filter; and how many do."""
        found = self._bits.get(codes)
        if found is None:
            if len(self._bits) >= _MOST_FILTERS:
                self._bits.clear()
            passing = np.ones(len(self._names), np.bool_)
            for labels, code in zip(self._labels.values(), codes, strict=True):
                if code != _ANY:
                    passing &= labels.codes[: len(passing)] == code
            packed = np.packbits(passing, bitorder="little")
            found = self._bits[codes] = packed, int(passing.sum())
        return found

    def _new_slot(self, customer: str) -> int:
        if self._free:
            slot = self._free.pop()
            self._names[slot] = customer
        else:
            slot = len(self._names)
            self._names.append(customer)
            if slot >= len(self._at_us):
                more = max(1_024, len(self._at_us) // 4)
                self._at_us = np.concatenate([self._at_us, np.zeros(more, np.int64)])
                for labels in self._labels.values():
                    labels.codes = np.concatenate([labels.codes, np.zeros(more, np.int32)])
        self._slots[customer] = slot
        return slot

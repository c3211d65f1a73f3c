"""Feast's online store on Valkey or Redis that tells the truth, fast.

    online_store:
      type: feature_repo.stores.online.ValkeyOnlineStore
      connection_string: redis://127.0.0.1:6379

It reads and writes the bytes of Feast's stock Redis store: either can take over from the other.
What differs:

- A write is one atomic step a row: an older event time never replaces a newer one, and at the same
  event time only an older created time is refused, so that corrections land. The stock store
  compares first and writes later, and drops what has the same event time.
- Statuses are true: an expired value is a null that is OUTSIDE_MAX_AGE, an absent entity is
  NOT_FOUND, a stored null NULL_VALUE. The stock store says PRESENT of all three.
- All features of a request come in one round trip, and become Python's values or protobufs in one
  go (`tests/benchmarks/online_store.py`).

Feast's own ways in are followed as of 0.67: `get_online_features` for the common request, and
`_read_features_per_fv`, which Feast calls for every other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureView, RepoConfig, utils
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.repo_config import FeastConfigBaseModel
from pydantic import StrictStr

from feature_repo.stores.online_connected import ConnectedStore
from feature_repo.stores.online_feast_way import FeastRead, SingleRead, is_metered
from feature_repo.stores.online_plan import Asked, RequestPlan, stored_name
from feature_repo.stores.online_response import ColumnarResponse
from feature_repo.stores.online_tables import TableRows
from feature_repo.stores.online_writes import SCRIPT, Row, RowPacker

# Lists of features whose plans are kept.
_PLANS = 256


class ValkeyOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """Configuration, as `feature_store.yaml` names it.

    Attributes:
        connection_string: a URL or Feast's `host:port,option=value` (`parse_address` has them all).
    """

    type: Literal["feature_repo.stores.online.ValkeyOnlineStore"] = (
        "feature_repo.stores.online.ValkeyOnlineStore"
    )
    connection_string: StrictStr = "redis://127.0.0.1:6379"


class ValkeyOnlineStore(ConnectedStore):
    """Online store on Valkey or Redis: ordered atomic writes, true statuses, one round trip.

    One may be used from several threads and event loops.
    """

    # Feast asks by the class's name: versions are part of the stored names, as in its own store.
    _versioned_read_supported = True

    def __init__(self) -> None:
        super().__init__()
        self._plans: dict[Any, tuple[Any, RequestPlan | None]] = {}

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Both reads and writes."""
        return SupportedAsyncMethods(read=True, write=True)

    def get_online_features(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> Any:
        """Answer `FeatureStore.get_online_features`.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if not include_feature_view_version_metadata:
            asked = self._ask(config, features, entity_rows, registry, project, full_feature_names)
            if asked is not None:
                answers = self._link(config).read(asked.reads)
                return ColumnarResponse(asked.answered(answers, _now_us()))
        return super().get_online_features(
            config,
            features,
            entity_rows,
            registry,
            project,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    async def get_online_features_async(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> Any:
        """The same within an event loop."""
        if not include_feature_view_version_metadata:
            asked = self._ask(config, features, entity_rows, registry, project, full_feature_names)
            if asked is not None:
                answers = await self._links(config).here().read(asked.reads)
                return ColumnarResponse(asked.answered(answers, _now_us()))
        return await super().get_online_features_async(
            config,
            features,
            entity_rows,
            registry,
            project,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    def _ask(  # noqa: PLR0917 - as Feast asks
        self,
        config: RepoConfig,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_names: bool,
    ) -> Asked | None:
        """What to read for a request; None where Feast's own way has to be taken."""
        if is_metered() or getattr(features, "precompute_online", False):
            return None
        # Feast keeps what it has resolved until the registry's cache runs out.
        context = utils._get_cached_request_context(registry, project, features, full_names)
        name = features if isinstance(features, list) else features.name
        key = (project, full_names, tuple(name) if isinstance(name, list) else name)
        found = self._plans.get(key)
        if found is None or found[0] is not context:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            found = context, RequestPlan.of(context, config, project, full_names)
            self._plans[key] = found
        plan = found[1]
        return None if plan is None else plan.ask(entity_rows)

    def _read_features_per_fv(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        grouped_refs: Any,
        join_key_values: Any,
        join_key_of: Any,
        response: Any,
        full_names: bool,
        versions: bool,
    ) -> None:
        """Add stored features to a response that Feast works on."""
        asked = FeastRead(config, grouped_refs, join_key_values, join_key_of, full_names)
        asked.fill(response, self._link(config).read(asked.reads), _now_us(), versions)

    async def _read_features_per_fv_async(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        grouped_refs: Any,
        join_key_values: Any,
        join_key_of: Any,
        response: Any,
        full_names: bool,
        versions: bool,
    ) -> None:
        """The same within an event loop."""
        asked = FeastRead(config, grouped_refs, join_key_values, join_key_of, full_names)
        answers = await self._links(config).here().read(asked.reads)
        asked.fill(response, answers, _now_us(), versions)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """Event time and values of each entity; None twice where there is none.

        Values that are expired or null have nothing set: this way of Feast's knows no statuses.
        """
        asked = SingleRead(config, table, entity_keys, requested_features)
        return asked.rows(self._link(config).read([asked.read])[0], _now_us())

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """The same within an event loop."""
        asked = SingleRead(config, table, entity_keys, requested_features)
        answers = await self._links(config).here().read([asked.read])
        return asked.rows(answers[0], _now_us())

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows; those that are older than what is stored change nothing.

        Raises:
            StoreUnavailableError: the store does not answer; some rows may have been written.
        """
        link = self._link(config)
        packer = RowPacker(stored_name(table, config), config.project, link.keys_per_call)
        link.run(SCRIPT, lambda: packer.calls(data))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """The same within an event loop."""
        link = self._links(config).here()
        packer = RowPacker(stored_name(table, config), config.project, link.keys_per_call)
        await link.run(SCRIPT, lambda: packer.calls(data))
        if progress:
            progress(len(data))

    def write_table(self, config: RepoConfig, view: FeatureView, table: pa.Table) -> bool:
        """Write a table's rows, columns by columns; False where it has to be done row by row.

        Raises:
            ValueError: a column is missing.
            StoreUnavailableError: the store does not answer; some rows may have been written.
        """
        link = self._link(config)
        if link.keys_per_call == 1:
            return False
        rows = TableRows.of(table, view, stored_name(view, config), config.project)
        if rows is None:
            return False
        link.send(SCRIPT, lambda: rows.pieces(link.keys_per_call))
        return True


def _now_us() -> int:
    return time.time_ns() // 1000

"""Feast's response to an online read, made of encoded columns as late as can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse

from feature_repo.stores.online_columns import Column, response_bytes
from feature_repo.stores.online_values import python_values


class ColumnarResponse(OnlineResponse):  # type: ignore[misc]
    """What `FeatureStore.get_online_features` returns, with the same values and protobufs.

    `to_dict` decodes the stored bytes; `proto` is made when it is first asked for, and what is
    done to it then counts from there on.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        # Not the parent's: it wants the protobuf.
        self._columns = columns
        self._made: Any = None
        self._feature_types = {column.name: column.type for column in columns if column.type}

    @property
    def proto(self) -> Any:
        """The `GetOnlineFeaturesResponse`."""
        if self._made is None:
            self._made = GetOnlineFeaturesResponse.FromString(response_bytes(self._columns))
        return self._made

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """Name -> the values of all rows; with event times beside them (`name__ts`, seconds)."""
        if include_event_timestamps or self._made is not None:
            return dict(super().to_dict(include_event_timestamps))
        return {column.name: python_values(column.values, column.type) for column in self._columns}

"""How a model's inputs come out of the store's answers: tables for the kernels, once a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.model_inputs import REQUEST_VIEW, ModelInput, ModelInputs
from feature_repo.engine.plain import PlainReader
from serving import stored_kernel as kernel
from serving.read_plan import CORRIDOR_REF, HashPlan, ReadPlan
from serving.store_wire import encode_command

_Table = npt.NDArray[np.int64]
_PLACEHOLDER = b"\0" * 8


@dataclass(frozen=True)
class HashTables:
    """One entity's hash: the command that reads it, and where its fields go.

    Attributes:
        command: the parts of the command before the length of the key, and after the key.
        fields: (fields, 6), see `stored_kernel`.
        ttls: (views,) of all views of the model, µs, -1 for ever.
        state_view: where the state's view stands among the views; -1 without a state.
        reader: computes the features of the state.
        computed: (computed, 8) what of it goes where.
        corridor: row of `computed` that is the corridor of the session, or -1.
        columns, marks, views: all that is filled out of this hash (marks of views among them).
    """

    command: tuple[bytes, bytes]
    fields: _Table
    ttls: _Table
    state_view: int
    reader: PlainReader | None
    computed: _Table
    corridor: int
    columns: _Table
    marks: _Table
    views: _Table

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return not len(self.fields)


@dataclass(frozen=True)
class RequestInput:
    """A column that the request fills: a number as it is, a text by its category."""

    feature: str
    column: int
    categories: Mapping[str, float] | None


@dataclass(frozen=True)
class VectorPlan:
    """How rows of a model's matrix are read.

    Attributes:
        width: columns of the matrix.
        refs: features read, in the order of their marks; marks of views follow.
        views: names of the views that the marks after the features are of, and that ages are of:
            (names, place among ages). A state's place bears the names of its views.
        texts, text_ends: categories of all texts, one after the other.
        request: columns filled from the request.
        guarded: places among the marks of the features that count in one version alone.
    """

    width: int
    refs: tuple[str, ...]
    views: tuple[tuple[str, int], ...]
    view_count: int
    customer: HashTables
    corridor: HashTables
    counterparty: HashTables
    texts: npt.NDArray[np.uint8]
    text_ends: _Table
    request: tuple[RequestInput, ...]
    guarded: _Table

    @property
    def mark_count(self) -> int:
        """Marks of a row: of the features, then of the views."""
        return len(self.refs) + self.view_count


class _Layout:
    """Hands out places while the tables are made."""

    def __init__(self, plan: ReadPlan, inputs: ModelInputs) -> None:
        self.items: dict[str, tuple[ModelInput, int]] = {
            item.ref: (item, column)
            for item, column in zip(inputs.inputs, inputs.offsets, strict=True)
        }
        self.hidden = frozenset(plan.hidden)
        self.hidden_views = frozenset(plan.hidden_views)
        self.marks = {ref: place for place, ref in enumerate(plan.refs)}
        self.views: list[tuple[str, int]] = []
        self.ttls: list[int] = []
        self.texts: list[bytes] = []

    def view(self, names: Iterable[str], ttl_us: int | None) -> int:
        """The place of a view, or of a state with the names of its views."""
        place = len(self.ttls)
        self.ttls.append(-1 if ttl_us is None else ttl_us)
        self.views += [(name, place) for name in names if name not in self.hidden_views]
        return place

    def categories(self, item: ModelInput | None) -> tuple[int, int]:
        """Where an input's categories stand among all texts."""
        first = len(self.texts)
        if item is not None:
            self.texts += [text.encode() for text in item.categories]
        return first, len(self.texts)

    def place(self, ref: str) -> tuple[ModelInput | None, int, int]:
        """(input, its first column or -1, its mark or -1)."""
        item, column = self.items.get(ref, (None, -1))
        return item, column, self.marks.get(ref, -1)


def plan_vectors(plan: ReadPlan, inputs: ModelInputs) -> VectorPlan:
    """Make the tables of a model's inputs; `plan` reads the stored ones."""
    layout = _Layout(plan, inputs)
    parts = [
        _hash_tables(part, layout) for part in (plan.customer, plan.corridor, plan.counterparty)
    ]
    ttls = np.array(layout.ttls, np.int64)
    marks_first = len(plan.refs)
    customer, corridor, counterparty = (
        HashTables(
            **part,
            ttls=ttls,
            marks=np.array([*marks, *(marks_first + view for view in part["views"])], np.int64),
        )
        for part, marks in parts
    )
    return VectorPlan(
        width=inputs.width,
        refs=plan.refs,
        views=tuple(layout.views),
        view_count=len(ttls),
        customer=customer,
        corridor=corridor,
        counterparty=counterparty,
        texts=np.frombuffer(b"".join(layout.texts) or b"\0", np.uint8).copy(),
        text_ends=np.cumsum([0, *map(len, layout.texts)]).astype(np.int64),
        request=tuple(
            RequestInput(
                item.feature,
                column,
                {text: float(place) for place, text in enumerate(item.categories)}
                if item.dtype == "String"
                else None,
            )
            for item, column in layout.items.values()
            if item.view == REQUEST_VIEW
        ),
        guarded=_guarded(plan, inputs),
    )


def _guarded(plan: ReadPlan, inputs: ModelInputs) -> _Table:
    views = {item.view for item in inputs.inputs if item.only is not None}
    places = [place for place, ref in enumerate(plan.refs) if ref.partition(":")[0] in views]
    return np.array(places, np.int64)


def _hash_tables(plan: HashPlan, layout: _Layout) -> tuple[dict[str, Any], list[int]]:
    fields: list[list[int]] = [[kernel.SKIP, 0, -1, -1, 0, 0] for _ in plan.fields]
    computed: list[list[int]] = []
    columns: list[int] = []
    marks: list[int] = []
    views: list[int] = []
    corridor = -1
    for view in plan.views:
        number = layout.view([view.name], view.ttl_us)
        views.append(number)
        fields[view.at] = [kernel.VIEW_TIME, number, -1, -1, 0, 0]
        for at, (ref, text) in enumerate(zip(view.refs, view.texts, strict=True), view.at + 1):
            item, column, mark = layout.place(ref)
            first, last = layout.categories(item) if text else (0, 0)
            kind = kernel.TEXT if text else kernel.NUMBER
            if item is not None and item.is_array:
                kind, last = kernel.ARRAY, item.length
            fields[at] = [kind, number, mark, column, first, last]
            _note(item, column, mark, columns, marks)
    state_view, reader = -1, None
    if plan.state is not None:
        state = plan.state
        reader = state.reader
        state_view = layout.view(state.views, None)
        views.append(state_view)
        fields[state.at] = [kernel.STATE_TIME, state_view, -1, -1, 0, 0]
        fields[state.at + 1] = [kernel.STATE, state_view, -1, -1, 0, 0]
        for ref in state.refs:
            item, column, mark = layout.place(ref)
            place = reader.places[ref.partition(":")[2]]
            first, last = layout.categories(item) if place.is_text else (0, 0)
            if ref == CORRIDOR_REF:
                corridor = len(computed)
            computed.append(
                [place.is_float, place.at, place.ok, place.is_text, mark, column, first, last]
            )
            _note(item, column, mark, columns, marks)
    made: dict[str, Any] = {
        "command": _command(plan.fields),
        "fields": np.array(fields, np.int64).reshape(-1, 6),
        "state_view": state_view,
        "reader": reader,
        "computed": np.array(computed, np.int64).reshape(-1, 8),
        "corridor": corridor,
        "columns": np.array(columns, np.int64),
        "views": np.array(views, np.int64),
    }
    return made, marks


def _note(
    item: ModelInput | None, column: int, mark: int, columns: list[int], marks: list[int]
) -> None:
    if item is not None:
        columns.extend(range(column, column + item.width))
    if mark >= 0:
        marks.append(mark)


def _command(fields: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    whole = encode_command(b"HMGET", _PLACEHOLDER, *fields)
    before, _, after = whole.partition(b"$8\r\n" + _PLACEHOLDER)
    return before + b"$", after

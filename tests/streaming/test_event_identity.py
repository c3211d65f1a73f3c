from __future__ import annotations

import numpy as np
import pyarrow as pa

from feature_repo.contracts.features import CUSTOMER
from streaming.event_identity import IdentitySet, first_of_each, identities


def batch(*events: tuple[str, str]) -> pa.RecordBatch:
    ids, customers = zip(*events, strict=True)
    return pa.record_batch({"event_id": list(ids), "customer_id": list(customers)})


def test_an_event_is_its_key_and_its_id() -> None:
    found = identities(CUSTOMER, batch(("e1", "c1"), ("e1", "c2"), ("e2", "c1"), ("e1", "c1")))
    assert len(set(found.tolist())) == 3
    assert first_of_each(found).tolist() == [True, True, True, False]


def test_dictionaries_and_slices_have_the_same_identities() -> None:
    plain = batch(("e0", "c0"), ("e1", "c1"), ("e2", "c1"))
    coded = pa.record_batch(
        {name: plain.column(name).dictionary_encode() for name in plain.schema.names}
    )
    expected = identities(CUSTOMER, plain)[1:]
    assert np.array_equal(identities(CUSTOMER, coded.slice(1)), expected)
    assert np.array_equal(identities(CUSTOMER, plain.slice(1)), expected)


def test_only_what_is_in_the_set_is_marked() -> None:
    held = IdentitySet([np.array([5, 1, 5]), np.array([9])])
    assert len(held) == 3
    held.mark(np.array([9, 100, -7, 1]))
    assert held.marked(np.array([1, 5, 9, 100, -7])).tolist() == [True, False, True, False, False]


def test_an_empty_set_has_nothing() -> None:
    held = IdentitySet([])
    held.mark(np.array([1]))
    assert held.marked(np.array([1, 2])).tolist() == [False, False]

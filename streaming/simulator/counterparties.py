"""Who receives a payment: ids that stay the same for a customer's same recipient."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streaming.simulator.knobs import World
from streaming.simulator.randomness import Ints, hex_ids, mix64, stream

MULE = 1 << 30  # numbers of recipients that are the same ones for everybody start here
_SHARED = np.uint64(1 << 63)
_MULES = np.uint64(1 << 62)


def counterparty_ids(
    world: World, *, customer: Ints, recipient: Ints, corridor: Ints, seed: int
) -> pa.Array:
    """Ids of n recipients: the recipient numbers of customers in the corridors' receive countries.

    A share of the recipients (schools, landlords) is paid by many customers of the country. Which
    ones is decided by a hash of the recipient, so no table of all recipients is needed. Numbers
    from MULE on are one recipient each, whoever pays.
    """
    countries = sorted({item.receive for item in world.corridors})
    country = np.array([countries.index(item.receive) for item in world.corridors])[corridor]
    # Customer above, country in the middle, number below: one key a recipient.
    own = ((customer << 40) + (country << 32) + recipient).astype(np.uint64)
    draw = mix64(own, salt=_salt(seed, "recipients"))
    shared = (draw >> np.uint64(11)) * 2.0**-53 < world.people.shared_recipient_share
    pool = world.people.shared_recipients_per_country
    which = country * pool + (draw % np.uint64(pool)).astype(np.int64)
    key = np.where(shared, _SHARED + which.astype(np.uint64), own)
    key = np.where(recipient >= MULE, _MULES + recipient.astype(np.uint64), key)
    return pc.binary_join_element_wise("p", hex_ids(mix64(key, _salt(seed, "counterparty"))), "")


def _salt(seed: int, name: str) -> int:
    return int(stream(seed, name).integers(2**63))

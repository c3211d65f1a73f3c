"""What the store's server holds of a customer beside the state: values of pairs, predictions."""

from __future__ import annotations

import redis

from feature_repo.contracts.settings import PROJECT
from feature_repo.stores.online_deletes import delete_keys, find_keys
from streaming.forgetting import CUSTOMER


def delete_values(client: redis.Redis[bytes], customer: str) -> int:
    """Delete the hash of every entity that the customer is part of; how many there were.

    The customer's own, whatever views stand in it, and those of pairs such as (customer, device).

    Trap: it looks at every key of the server, some hundred thousand a second.
    """
    found = find_keys(client, PROJECT, entities=[{CUSTOMER: customer}])
    return delete_keys(client, found)


def delete_predictions(client: redis.Redis[bytes], customer: str) -> int:
    """Delete the customer's predictions from the output logs of the stream scorer; how many."""
    deleted = 0
    name = customer.encode()
    for stream in client.scan_iter(b"daima:predictions:*", count=10_000):
        if client.type(stream) != b"stream":
            continue
        last = b"-"
        while entries := client.xrange(stream, last, "+", count=5_000):
            its = [at for at, fields in entries if fields.get(b"customer") == name]
            deleted += int(client.xdel(stream, *its)) if its else 0
            last = b"(" + entries[-1][0]
    return deleted

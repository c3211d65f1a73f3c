"""What the registry says of a model: which version bears which alias, shares and bounds.

`serving/release.py` writes these aliases and tags; everything else reads them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import msgspec

from feature_repo.contracts.errors import ModelError
from serving.orders import Order
from serving.routing import Bounds

# Tags of the registered model.
SHARE_TAG = "challenger_share"
ERROR_RATE_TAG = "challenger_max_error_rate"
P99_TAG = "challenger_max_p99_ms"
# Tag of a version: the one that had its alias before.
FORMER_TAG = "former_{alias}"


class Assignment(msgspec.Struct, frozen=True):
    """One registered model's versions by alias.

    Attributes:
        created_ms: when the registered model was created; another, and its version numbers name
            other versions.
        versions: alias -> version.
        tags: the registered model's tags that concern its challenger.
    """

    created_ms: int
    versions: dict[str, str]
    tags: dict[str, str] = {}

    def share(self) -> float:
        """The challenger's share of the customers; none without the tag.

        Raises:
            ModelError: the tag is no share.
        """
        return number_in(SHARE_TAG, self.tags.get(SHARE_TAG, "0"), at_most=1.0)

    def bounds(self) -> Bounds:
        """What the challenger may not pass; the defaults where nothing is declared.

        Raises:
            ModelError: a tag is no bound.
        """
        bounds = Bounds()
        if ERROR_RATE_TAG in self.tags:
            rate = number_in(ERROR_RATE_TAG, self.tags[ERROR_RATE_TAG], at_most=1.0)
            bounds = replace(bounds, error_rate=rate)
        if P99_TAG in self.tags:
            p99_ms = number_in(P99_TAG, self.tags[P99_TAG], at_most=60_000.0)
            bounds = replace(bounds, p99=timedelta(milliseconds=p99_ms))
        return bounds

    def after(self, orders: Iterable[Order], name: str) -> Assignment:
        """What it says once the roll-backs that it has not heard of are carried out."""
        versions = dict(self.versions)
        for order in orders:
            if order.name == name and versions.get(order.alias) in order.leaves:
                if order.to is None:
                    del versions[order.alias]
                else:
                    versions[order.alias] = order.to
        return msgspec.structs.replace(self, versions=versions)


def assignment_of(
    created_ms: int | None,
    aliases: Mapping[str, object],
    tags: Mapping[str, str],
    watched: Iterable[str],
) -> Assignment:
    """What a registered model of the registry says of the aliases watched."""
    return Assignment(
        created_ms=created_ms or 0,
        versions={alias: str(aliases[alias]) for alias in watched if alias in aliases},
        tags={tag: tags[tag] for tag in (SHARE_TAG, ERROR_RATE_TAG, P99_TAG) if tag in tags},
    )


def number_in(name: str, text: str, at_most: float) -> float:
    """A number of 0 to `at_most`, out of a tag.

    >>> number_in("challenger_share", "0.1", 1.0)
    0.1

    Raises:
        ModelError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= at_most:
        raise ModelError(name, text, f"a number from 0 to {at_most:g}", "set it anew: daima split")
    return number

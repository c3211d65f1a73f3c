"""What of the served requests is kept in the feature log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import mmh3

from feature_repo.contracts.errors import SettingsError

_HASHES = 1 << 32
_MIB = 1 << 20
_MOST_DAYS = 36_500


@dataclass(frozen=True)
class FeatureLogSettings:
    """The declared share, and how files are cut.

    Attributes:
        share: of the requests that are kept, 0..1 (`DAIMA_FEATURE_LOG_SHARE`); 0: none.
        by: what the share is of (`DAIMA_FEATURE_LOG_BY`): `customer`, always the same ones, whose
            every request is kept; or `request`, any of them, whole.
        keep: how long files are kept, in whole days (`DAIMA_FEATURE_LOG_DAYS`).
        waiting_rows: rows that may wait for the writer; what comes then is dropped and counted.
        file_rows, file_bytes: a file ends with so many rows, or about so much of them in memory.
        file_age: a file ends so long after its first row, at the latest.
    """

    share: float = 0.01
    by: Literal["customer", "request"] = "customer"
    keep: timedelta = timedelta(days=30)
    waiting_rows: int = 20_000
    file_rows: int = 50_000
    file_bytes: int = 32 * _MIB
    file_age: timedelta = timedelta(minutes=1)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> FeatureLogSettings:
        """The settings in an environment.

        Raises:
            SettingsError: one is malformed.

        >>> FeatureLogSettings.from_env({"DAIMA_FEATURE_LOG_SHARE": "0.2"}).share
        0.2
        """
        text = environ.get("DAIMA_FEATURE_LOG_SHARE") or str(cls.share)
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            raise SettingsError(
                "DAIMA_FEATURE_LOG_SHARE", text, "a share from 0 to 1", "write 0.01, or 0 for none"
            )
        by = environ.get("DAIMA_FEATURE_LOG_BY") or cls.by
        if by not in ("customer", "request"):
            raise SettingsError("DAIMA_FEATURE_LOG_BY", by, "customer or request", "name one")
        days = environ.get("DAIMA_FEATURE_LOG_DAYS") or str(cls.keep.days)
        if not (days.isascii() and days.isdigit() and 1 <= int(days) <= _MOST_DAYS):
            raise SettingsError(
                "DAIMA_FEATURE_LOG_DAYS", days, f"whole days, 1 to {_MOST_DAYS}", "write 30"
            )
        return cls(
            share=share,
            by="request" if by == "request" else "customer",
            keep=timedelta(days=int(days)),
        )

    def keeps(self, name: str) -> bool:
        """Whether a customer, or a request, is in the share: by its hash, so always or never.

        >>> FeatureLogSettings(share=1.0).keeps("c1"), FeatureLogSettings(share=0.0).keeps("c1")
        (True, False)
        """
        # Another seed than routing's: the logged are not all challenger's or all champion's.
        return int(mmh3.hash(name, seed=1, signed=False)) < self.share * _HASHES

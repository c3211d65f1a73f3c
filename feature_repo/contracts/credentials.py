"""Keeping users and passwords of addresses out of whatever is shown: messages, logs, answers.

Libraries repeat the address that they were given in their errors (MLflow does, whole). What may
hold somebody else's text goes through here before it is shown.
"""

from __future__ import annotations

import logging
import re

_HIDDEN = "***"
_USERINFO = re.compile(r"(?<=://)[^\s/?#'\"]*@")
_OPTION = re.compile(r"(?i)\b([a-z_.]*(?:password|passwd|token|secret))=[^\s&,'\"]+")


def without_credentials(text: str) -> str:
    """A text in which no address bears a user or a password.

    >>> without_credentials("API request to https://ana:s3cret@mlflow.example/api/2.0 failed")
    'API request to https://***@mlflow.example/api/2.0 failed'
    >>> without_credentials("postgresql://db.example/mlflow?password=s3cret&sslmode=require")
    'postgresql://db.example/mlflow?password=***&sslmode=require'
    """
    return _OPTION.sub(rf"\1={_HIDDEN}", _USERINFO.sub(f"{_HIDDEN}@", text))


def public_url(url: str) -> str:
    """A URL without user and password, for a page that links there.

    >>> public_url("http://ana:s3cret@127.0.0.1:5000/a?b=1")
    'http://127.0.0.1:5000/a?b=1'
    """
    return _USERINFO.sub("", url)


def first_line(error: BaseException, most: int = 300) -> str:
    """An error's text in one line without credentials.

    >>> first_line(ValueError("no answer from http://u:p@h:5000\\nand more"))
    'no answer from http://***@h:5000'
    """
    # Before it is cut: half an address would not be known for one.
    return next(iter(without_credentials(str(error)).splitlines()), "")[:most]


class DiscreetFormatter(logging.Formatter):
    """Formats log records without credentials, tracebacks among them."""

    def format(self, record: logging.LogRecord) -> str:
        """The line or lines of a record."""
        return without_credentials(super().format(record))

"""No user and no password is shown, whoever writes the text."""

from __future__ import annotations

import logging
import sys

import pytest

from feature_repo.contracts.credentials import DiscreetFormatter, first_line, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://ana:pa@ss@h:1/x@y", "http://***@h:1/x@y"),
        ("postgresql+psycopg://ana:s3cret@h/db failed", "postgresql+psycopg://***@h/db failed"),
        ("h:6379,password=s3cret,ssl=true", "h:6379,password=***,ssl=true"),
        (
            "mail ana@example.org about https://h/a?b=1",
            "mail ana@example.org about https://h/a?b=1",
        ),
        ("'http://token@h' and \"http://u:p@g\"", "'http://***@h' and \"http://***@g\""),
        ("sslpassword=s3cret&x=1 api_token=s3cret", "sslpassword=***&x=1 api_token=***"),
    ],
)
def test_users_and_passwords_are_left_out(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_a_long_error_is_freed_of_them_before_it_is_cut() -> None:
    error = ValueError("x" * 280 + " http://ana:" + "s3cret" * 20 + "@h:1")
    assert first_line(error).endswith("http://***@h:1")
    assert first_line(ValueError()) == ""


def test_tracebacks_in_the_log_are_freed_of_them() -> None:
    address = "http://ana:s3cret@h:1"
    try:
        raise ValueError(f"no answer from {address}")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    shown = DiscreetFormatter().format(record)
    assert "Traceback" in shown
    assert "http://***@h:1" in shown
    assert "s3cret" not in shown

"""Who may ask: a bearer token, compared in constant time."""

from __future__ import annotations

import hmac

from feature_repo.contracts.errors import DaimaError

# Probes carry no token; what they learn is whether the process runs and a model serves.
OPEN_PATHS = frozenset({"/health/live", "/health/ready"})


class UnauthorizedError(DaimaError):
    """A request bears no token, or another one. What it bore is not shown."""


class TokenGuard:
    """Lets requests in that bear the token; every request, where none is set.

    >>> guard = TokenGuard("0123456789abcdef")
    >>> guard.check("/v1/models", b"Bearer 0123456789abcdef")
    >>> guard.check("/health/live", None)
    """

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else token.encode()

    @property
    def asks(self) -> bool:
        """Whether a token is asked for: where not, `check` need not be called."""
        return self._expected is not None

    def check(self, path: str, authorization: bytes | None) -> None:
        """Let a request pass.

        Args:
            path: of its URL.
            authorization: its header of that name, as it came.

        Raises:
            UnauthorizedError: it does not bear the token.
        """
        if self._expected is None or path in OPEN_PATHS:
            return
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._expected):
            return
        raise UnauthorizedError(
            "Authorization" if authorization else "header Authorization",
            expected="Bearer and the server's token",
            action="send -H 'Authorization: Bearer TOKEN' with what DAIMA_API_TOKEN was set to",
        )

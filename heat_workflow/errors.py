# SPDX-License-Identifier: Apache-2.0
"""The one tree of errors: what can go wrong, in words a reader can act on.

Each family answers one question of the caller ("was it my fault, may I try again?"); ``api/app.py`` gives each
family its HTTP status and ``client.py`` turns the status back into the same family.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text as a message may hold it: one line, control characters escaped; people read it in terminals (S40)."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class HeatWorkflowError(Exception):
    """Anything this project raises on purpose.

    ``detail`` names the thing, its id and what to do; ``code`` is a stable word for programs.
    """

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.retry_after = retry_after


class Malformed(HeatWorkflowError):
    """The request cannot be read at all: not JSON, too deep, a NUL in a name (400)."""

    code = "malformed"


class UnsupportedMedia(Malformed):
    """The body is not application/json as it stands: another type, or compressed (415)."""

    code = "media-type"


class Unauthenticated(HeatWorkflowError):
    """No token, or one that is good for nothing here (401). One text for all reasons."""

    code = "unauthenticated"


class Forbidden(HeatWorkflowError):
    """The token is good, the policy says no (403)."""

    code = "forbidden"


class NotFound(HeatWorkflowError):
    """Unknown, or not the caller's: the two look the same (404)."""

    code = "not-found"


class Conflict(HeatWorkflowError):
    """The request contradicts the present state; nothing changed (409)."""

    code = "conflict"


class Gone(HeatWorkflowError):
    """It was the caller's and was taken away for good: a revoked agent wipes itself (410)."""

    code = "gone"


class TooLarge(HeatWorkflowError):
    """Over a size limit or a quota (413)."""

    code = "too-large"


class Invalid(HeatWorkflowError):
    """Readable, but not a legal request: an unknown field, a cycle, a bad name (422)."""

    code = "invalid"


class TooMany(HeatWorkflowError):
    """Faster than the limit; ``retry_after`` says when to come back (429)."""

    code = "too-many-requests"


class Unavailable(HeatWorkflowError):
    """The store or keystone is out of reach for now; the same request may be repeated (503)."""

    code = "unavailable"

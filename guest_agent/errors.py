# SPDX-License-Identifier: Apache-2.0
"""The agent's one tree of errors: what went wrong, in words that say what to do."""

from __future__ import annotations


class AgentError(Exception):
    """Anything the agent raises on purpose; the text never holds a token, an input or an output."""


class ConfigError(AgentError):
    """``agent.conf`` is missing, unreadable or says something impossible."""


class StateError(AgentError):
    """The state directory cannot be trusted or cannot be used; the agent does not start on it."""


class DamagedRecord(AgentError):
    """A record on disk is torn, empty or altered; it is set aside and never acted on."""


class HookError(AgentError):
    """A hook cannot run this task: wrong config, missing tool. The task fails with this text."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class UpgradeError(AgentError):
    """The agent could not be exchanged for another release; the one that was there before goes on."""


class ApiError(AgentError):
    """The API did not do what was asked; ``retry_after`` is its own wish in seconds, if it had one."""

    def __init__(self, text: str, *, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


class Unreachable(ApiError):
    """No usable answer: network, TLS, 429, 5xx, or something that is not our API. Try again later."""


class Unauthenticated(ApiError):
    """The API does not know this token, or not any more (401)."""


class Revoked(ApiError):
    """The agent was taken away for good (410): wipe and stop."""


class Conflict(ApiError):
    """The request is late: fenced, superseded, or the identity is in use (409); ``code`` says which."""


class NotMine(ApiError):
    """The task is unknown or belongs to somebody else (404)."""


class Refused(ApiError):
    """The API will never take this request as it is (400, 403, 413, 422)."""

# SPDX-License-Identifier: Apache-2.0
"""The agent's only socket: one method per call of the agent API, foreign answers turned into our errors."""

from __future__ import annotations

import json
import ssl
from typing import Any, Callable

import requests
from requests.adapters import HTTPAdapter

from guest_agent import VERSION
from guest_agent.backoff import LONGEST_WISH
from guest_agent.errors import (
    ApiError,
    Conflict,
    NotMine,
    Refused,
    Revoked,
    Unauthenticated,
    Unreachable,
)
from guest_agent.report import Report
from guest_agent.task import Attempt
from guest_agent.untrusted import read_json

CONNECT_TIMEOUT = 10.0
READ_MARGIN = 15.0
ANSWER_LIMIT = 16 * 1024 * 1024

Answer = dict[str, Any]

_FAMILIES: dict[int, type[ApiError]] = {
    401: Unauthenticated,
    404: NotMine,
    409: Conflict,
    410: Revoked,
    400: Refused,
    403: Refused,
    413: Refused,
    415: Refused,
    422: Refused,
}


class ApiClient:
    """One connection to the agent API, for one thread. Every call ends, and every call may be repeated.

    TLS is always verified, with the given CA alone if there is one; no proxy, netrc or CA from the environment is
    used; no redirect is followed.
    """

    def __init__(self, api_url: str, ca_file: str | None, token: Callable[[], str]) -> None:
        """``api_url`` has passed ``config.checked_api_url``; ``token`` gives the bearer token when a call needs it."""
        self._url = api_url
        self._ca_file = ca_file
        self._token = token
        self._session = self._new_session()

    def sibling(self) -> ApiClient:
        """Another connection with the same identity, for another thread."""
        return ApiClient(self._url, self._ca_file, self._token)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def enroll(self, join_token: str, sha256: str, nonce: str, hw_uuid: str | None) -> Answer:
        """Give the API the hash of our secret for the join token; the same again gives the same answer."""
        body = {"credential_sha256": sha256, "nonce": nonce, "agent_version": VERSION}
        if hw_uuid:
            body["hw_uuid"] = hw_uuid
        return self._call("POST", "enroll", body, token=join_token) or {}

    def hello(self, body: Answer) -> Answer:
        """Begin a session; the answer holds the intervals to live by."""
        return self._call("POST", "hello", body) or {}

    def claim(self, claim_id: str, wait: float, nonce: str) -> Answer | None:
        """A task, or None after ``wait`` seconds without one. The same ``claim_id`` gives the same task."""
        body = {"claim_id": claim_id, "wait": wait, "nonce": nonce}
        answer = self._call("POST", "claim", body, wait=wait)
        return answer.get("task") if answer else None

    def heartbeat(self, attempt: Attempt) -> Answer:
        """Extend the lease; the answer says whether the task was cancelled."""
        body = {"attempt": attempt.attempt, "claim_id": attempt.claim_id}
        return self._call("POST", f"tasks/{attempt.task_id}/heartbeat", body) or {}

    def log(self, attempt: Attempt, chunks: list[dict[str, Any]]) -> None:
        """Add chunks to the attempt's log; those the API has already it passes over."""
        body = {"attempt": attempt.attempt, "claim_id": attempt.claim_id, "chunks": chunks}
        self._call("POST", f"tasks/{attempt.task_id}/log", body)

    def report(self, attempt: Attempt, report: Report, next_claim_id: str | None) -> Answer | None:
        """Record the outcome; with ``next_claim_id`` the next task comes back with the answer, if there is one."""
        body: Answer = {"attempt": attempt.attempt, "claim_id": attempt.claim_id, **report}
        if next_claim_id is not None:
            body["claim"] = {"claim_id": next_claim_id, "wait": 0}
        answer = self._call("PUT", f"tasks/{attempt.task_id}/report", body)
        return answer.get("task") if answer else None

    def download(self, sha256: str) -> bytes:
        """What the API has as the release with that digest, not checked yet. No token is sent."""
        what = f"GET agent/{sha256}.pyz"
        try:
            with self._session.get(
                f"{self._url}/agent/v1/agent/{sha256}.pyz",
                timeout=(CONNECT_TIMEOUT, READ_MARGIN),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response, what)
                if response.status_code == 200:
                    return content
                raise _error(what, response, _json(content))
        except requests.exceptions.RequestException as error:
            raise self._unreachable(what, error) from None

    def rotate(self, next_sha256: str, token: str) -> None:
        """Announce the secret to be used next, under the token used so far; may be repeated."""
        self._call("PUT", "credential", {"next_sha256": next_sha256}, token=token)

    def _call(self, method: str, path: str, body: Answer, *, wait: float = 0, token: str = "") -> Answer | None:
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        timeout = (CONNECT_TIMEOUT, wait + READ_MARGIN)
        bearer = token or self._token()
        try:
            return self._exchange(method, path, data, timeout, bearer)
        except (requests.exceptions.Timeout, requests.exceptions.SSLError) as error:
            raise self._unreachable(f"{method} {path}", error) from None
        except requests.exceptions.ConnectionError:
            self._session.close()  # most often a kept connection the other side has closed meanwhile: try a new one
        except requests.exceptions.RequestException as error:
            raise self._unreachable(f"{method} {path}", error) from None
        try:
            return self._exchange(method, path, data, timeout, bearer)
        except requests.exceptions.RequestException as error:
            raise self._unreachable(f"{method} {path}", error) from None

    def _unreachable(self, what: str, error: Exception) -> Unreachable:
        if isinstance(error, requests.exceptions.Timeout):
            return Unreachable(f"{what}: no answer in time ({type(error).__name__})")
        if isinstance(error, requests.exceptions.SSLError):
            return Unreachable(f"{what}: TLS: {_tls_reason(error)}")
        return Unreachable(f"{what}: {self._url}: {_reason(error)}")

    def _exchange(
        self, method: str, path: str, data: bytes, timeout: tuple[float, float], bearer: str
    ) -> Answer | None:
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        with self._session.request(
            method,
            f"{self._url}/agent/v1/{path}",
            data=data,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            content = _read(response, f"{method} {path}")
            if response.status_code == 204:
                return None
            answer = _json(content)
            if response.status_code in (200, 201) and answer is not None:
                return answer
            raise _error(f"{method} {path}", response, answer)

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.verify = self._ca_file or True
        session.headers["User-Agent"] = f"heat-workflow-agent/{VERSION}"
        session.mount("https://", _Tls())
        return session


class _Tls(HTTPAdapter):
    """TLS 1.2 or newer; the context holds no CA by itself, requests puts in the one given."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=tls(), **kwargs)


def tls() -> ssl.SSLContext:
    """What the first boot has used before (``first_boot.tls``): the same CA is good for both, under every Python."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _read(response: requests.Response, what: str) -> bytes:
    content = bytearray()
    for part in response.iter_content(65536):
        content += part
        if len(content) > ANSWER_LIMIT:
            raise Unreachable(f"{what}: the answer is larger than {ANSWER_LIMIT} bytes")
    return bytes(content)


def _json(content: bytes) -> Answer | None:
    try:
        answer = read_json(content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _error(what: str, response: requests.Response, answer: Answer | None) -> ApiError:
    """Our error for the answer. Only an answer in the API's own form is a verdict: a 404 or 410 that some proxy
    on the way made must not cost a report or the credential."""
    status = response.status_code
    wish = response.headers.get("Retry-After", "")
    retry_after = min(LONGEST_WISH, float(wish[:20])) if wish.isascii() and wish.isdigit() else None
    errors = (answer or {}).get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else None
    if first is None:
        return Unreachable(f"{what}: {status} from something that is not the API", retry_after=retry_after)
    text = f"{what}: {status} {str(first.get('detail', ''))[:500]!r}"
    family = _FAMILIES.get(status, Unreachable)
    code = str(first.get("code", "")).rpartition(".")[2]  # "heat-workflow.superseded"
    return family(text, code=code, retry_after=retry_after)


def _tls_reason(error: Exception) -> str:
    text = str(error)
    for sign, reason in (
        ("not yet valid", "the certificate is not yet valid; is this machine's clock right?"),
        ("has expired", "the certificate has expired; is this machine's clock right?"),
        ("match", "the certificate is for another host name"),
        ("self-signed", "the certificate is not signed by the CA in agent.conf"),
        ("self signed", "the certificate is not signed by the CA in agent.conf"),
        ("unable to get", "the certificate is not signed by the CA in agent.conf"),
    ):
        if sign in text:
            return reason
    return "the connection could not be secured"


def _reason(error: Exception) -> str:
    text = str(error)
    for sign in ("Connection refused", "Name or service not known", "Network is unreachable", "timed out"):
        if sign in text:
            return sign
    return type(error).__name__

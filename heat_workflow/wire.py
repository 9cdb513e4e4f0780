# SPDX-License-Identifier: Apache-2.0
"""Wire: one request of the client, and what its answer means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from keystoneauth1 import adapter, exceptions
from keystoneauth1 import session as ks_session

from heat_workflow import errors

SERVICE_TYPE = "guest-tasks"
CONNECT_TIMEOUT = 10.0  # seconds until the other side has to accept a connection
READ_TIMEOUT = 45.0  # seconds until it has to answer, on top of what a long poll waits

_FAMILIES: Mapping[int, type[errors.HeatWorkflowError]] = {
    400: errors.Malformed,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    413: errors.TooLarge,
    415: errors.UnsupportedMedia,
    422: errors.Invalid,
    429: errors.TooMany,
    503: errors.Unavailable,
}


class Wire:
    """Sends requests as the project of the session's token."""

    def __init__(
        self,
        session: ks_session.Session,
        *,
        endpoint_override: str | None = None,
        interface: str = "public",
        region_name: str | None = None,
        global_request_id: str | None = None,
    ) -> None:
        self._http = adapter.Adapter(
            session,
            service_type=SERVICE_TYPE,
            interface=interface,
            region_name=region_name,
            endpoint_override=endpoint_override,
            global_request_id=global_request_id,
            client_name="heat-workflow",
            raise_exc=False,
        )

    def _pages(self, path: str, key: str, filters: Mapping[str, str | int], wait: float = 0) -> Iterator[Any]:
        params: dict[str, str | int] = dict(filters)
        while True:
            answer = self._call("GET", path, params=params, wait=wait)
            wait = 0
            yield from answer[key]
            if not answer.get("next_marker"):
                return
            params["marker"] = answer["next_marker"]

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str | int] | None = None,
        wait: float = 0,
    ) -> Any:
        response = self._send(method, path, body, params=params, wait=wait)
        return response.json() if response.content else None

    def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str | int] | None = None,
        wait: float = 0,
    ) -> Any:
        query: dict[str, str | int | float] = dict(params or {})
        if wait:
            query["wait"] = wait
        kwargs: dict[str, object] = {"timeout": (CONNECT_TIMEOUT, READ_TIMEOUT + wait), "log": False}
        if body is not None:
            kwargs["json"] = body
        if query:
            kwargs["params"] = query
        try:
            response = self._http.request(path, method, **kwargs)
        except (exceptions.ConnectionError, exceptions.RetriableConnectionFailure) as failure:
            raise errors.Unavailable(f"{method} {path}: the tasks API cannot be reached: {failure}") from failure
        except exceptions.Unauthorized as failure:
            raise errors.Unauthenticated(f"{method} {path}: keystone gave no token: {failure}") from failure
        except exceptions.ServiceUnavailable as failure:
            raise errors.Unavailable(f"{method} {path}: keystone cannot be reached: {failure}") from failure
        except exceptions.ClientException as failure:
            detail = f"{method} {path}: {failure}; is there an endpoint of service type {SERVICE_TYPE} in the catalog?"
            raise errors.HeatWorkflowError(detail, code="no-endpoint") from failure
        if response.status_code >= 400:
            raise _error(method, path, response)
        return response


def path_of(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _error(method: str, path: str, response: Any) -> errors.HeatWorkflowError:
    """The answer as the family it stands for, with the API's own words.

    What is not the API's own answer comes from a proxy, or from an API that is going down: it may be asked again.
    """
    status = response.status_code
    try:
        first = response.json()["errors"][0]
        family, detail, code = _FAMILIES.get(status, errors.HeatWorkflowError), first["detail"], first.get("code")
    except (ValueError, LookupError, TypeError):
        family = errors.Unavailable if status >= 500 else _FAMILIES.get(status, errors.HeatWorkflowError)
        detail, code = f"{method} {path}: HTTP {status} {response.reason}", None
    retry_after = response.headers.get("Retry-After", "")
    return family(detail, code=code, retry_after=float(retry_after) if retry_after.isdigit() else None)

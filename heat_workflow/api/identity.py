# SPDX-License-Identifier: Apache-2.0
"""Identity: who is calling. Operators prove it with a keystone token, agents with their own credential (R2)."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import webob
import webob.dec
from keystonemiddleware import auth_token
from oslo_config import cfg
from starlette.requests import Request

from heat_workflow import errors
from heat_workflow.taskqueue import credentials

SERVICE_TYPE = "guest-tasks"  # ours in keystone's catalog


@dataclasses.dataclass(frozen=True)
class Operator:
    """A caller of the operator side; the project comes from the token alone (R3)."""

    user_id: str
    project_id: str
    roles: Sequence[str]

    def credentials(self) -> Mapping[str, Any]:
        return {"user_id": self.user_id, "project_id": self.project_id, "roles": list(self.roles)}


class OperatorIdentity(Protocol):
    """How an ``X-Auth-Token`` becomes an Operator."""

    async def operator(self, token: str | None, method: str, path: str) -> Operator:
        """Raises Unauthenticated, or Unavailable while keystone is out of reach. Method and path are what the token
        is to be good for: an application credential may be held to some of them."""


def _identity_of(request: webob.Request) -> webob.Response:
    """What keystonemiddleware found out, as it puts it into the request's headers."""
    names = {"user_id": "X-User-Id", "project_id": "X-Project-Id", "roles": "X-Roles"}
    return webob.Response(json_body={key: request.headers.get(name) for key, name in names.items()})


class Keystone:
    """Operators by keystonemiddleware: its validation, its cache, its revocation."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        settings = {"oslo_config_config": conf, "service_type": SERVICE_TYPE}
        self._middleware = auth_token.AuthProtocol(webob.dec.wsgify(_identity_of), settings)

    async def operator(self, token: str | None, method: str, path: str) -> Operator:
        if not token:
            raise refused()
        return await asyncio.to_thread(self._validate, token, method, path)

    def _validate(self, token: str, method: str, path: str) -> Operator:
        environ = {"PATH_INFO": path.encode().decode("latin-1")}  # as WSGI has it
        request = webob.Request.blank("/", environ, method=method, headers={"X-Auth-Token": token})
        response = request.get_response(self._middleware)
        if response.status_code >= 500:
            raise errors.Unavailable("keystone is out of reach; repeat the request", retry_after=2)
        if response.status_code != 200:
            raise refused()
        found = response.json_body
        if not found["project_id"]:
            raise errors.Forbidden("the token is not scoped to a project", code="scope")
        return Operator(found["user_id"], found["project_id"], (found["roles"] or "").split(","))


class NoAuth:
    """For trying things out on loopback: ``X-Auth-Token: user:project[:role,role]`` is believed as it stands."""

    async def operator(self, token: str | None, method: str, path: str) -> Operator:
        user, _, rest = (token or "").partition(":")
        project, _, roles = rest.partition(":")
        if not user or not project:
            raise refused()
        return Operator(user, project, (roles or "member,reader").split(","))


def refused() -> errors.Unauthenticated:
    return errors.Unauthenticated("the token is not valid here")


def bearer(header: str | None, kind: str) -> credentials.Token:
    """The agent token of an Authorization header; Unauthenticated unless it is one of this kind."""
    scheme, _, text = (header or "").partition(" ")
    token = credentials.parse(text) if scheme.lower() == "bearer" else None
    if token is None or token.kind != kind:
        raise refused()
    return token


class Sources:
    """Where requests come from. ``X-Forwarded-For`` is believed only of proxies that the operator names."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        try:
            self._trusted = [ipaddress.ip_network(name.strip()) for name in trusted_proxies]
        except ValueError as exc:
            raise errors.Invalid(f"[api] trusted_proxies: {exc}") from None

    def of(self, request: Request) -> str:
        """The address nearest to the caller that a trusted hop has seen; of IPv6 the network a host has to itself."""
        source = request.client.host if request.client is not None else ""
        hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
        while hops and self._is_trusted(source):
            source = hops.pop()
        address = _address(source)
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 64), strict=False))
        return source[:64]

    def _is_trusted(self, source: str) -> bool:
        address = _address(source)
        return address is not None and any(address in network for network in self._trusted)


@functools.lru_cache(4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address

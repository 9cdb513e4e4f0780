# SPDX-License-Identifier: Apache-2.0
"""Identity: who is calling. Operators prove it with a keystone token, agents with their own credential (R2)."""

from __future__ import annotations

import datetime
import functools
import hashlib
import ipaddress
from collections.abc import Sequence
from typing import Protocol

import webob
import webob.dec
from keystonemiddleware import auth_token
from keystonemiddleware import opts as auth_token_opts
from oslo_config import cfg
from starlette.requests import Request

from heat_workflow import errors
from heat_workflow.api.verdicts import Lanes, Operator, Verdicts
from heat_workflow.taskqueue import credentials

SERVICE_TYPE = "guest-tasks"  # ours in keystone's catalog
_BESIDE_MEMCACHED = 30  # seconds a verdict is kept here too


class OperatorIdentity(Protocol):
    """How an ``X-Auth-Token`` becomes an Operator."""

    async def operator(self, token: str | None, method: str, path: str, source: str) -> Operator:
        """Raises Unauthenticated, or Unavailable while keystone is out of reach, or TooMany if too many new tokens
        come from this source. Method and path are what the token is to be good for: an application credential may be
        held to some of them."""


def _identity_of(request: webob.Request) -> webob.Response:
    """What keystonemiddleware found out, as it puts it into the request's headers and environment."""
    names = {"user_id": "X-User-Id", "project_id": "X-Project-Id", "roles": "X-Roles"}
    token = request.environ["keystone.token_info"]["token"]
    ruled = (token.get("application_credential") or {}).get("access_rules") is not None
    found = {key: request.headers.get(name) for key, name in names.items()}
    return webob.Response(json_body={**found, "expires_at": token["expires_at"], "ruled": ruled})


class Keystone:
    """Operators by keystonemiddleware: its validation, its revocation. What it found is kept here for as long as it
    may be, so that a token that was just validated waits for no thread, and so for no stranger's."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        for group, known in auth_token_opts.list_auth_token_opts():
            conf.register_opts(known, group)
        believed, shared = conf.keystone_authtoken.token_cache_time, conf.keystone_authtoken.memcached_servers
        settings = {"oslo_config_config": conf, "service_type": SERVICE_TYPE}
        if not shared:
            settings["token_cache_time"] = str(min(believed, 1))  # what is kept twice would be believed twice as long
        self._middleware = auth_token.AuthProtocol(webob.dec.wsgify(_identity_of), settings)
        self._verdicts = Verdicts(min(believed, _BESIDE_MEMCACHED) if shared else believed)
        self._lanes = Lanes()

    async def operator(self, token: str | None, method: str, path: str, source: str) -> Operator:
        if not token:
            raise refused()
        key = hashlib.sha256(token.encode()).hexdigest()
        found = self._verdicts.find(key, method, path)
        if found is None:
            known = self._verdicts.knows(key)
            found = await self._lanes.run(known, source, self._validate, token, key, method, path)
        if not found.project_id:
            raise errors.Forbidden("the token is not scoped to a project", code="scope")
        return found

    def _validate(self, token: str, key: str, method: str, path: str) -> Operator:
        """Ask keystone, unless somebody else with this token just did."""
        kept = self._verdicts.find(key, method, path)
        if kept is not None:
            return kept
        environ = {"PATH_INFO": path.encode().decode("latin-1")}  # as WSGI has it
        request = webob.Request.blank("/", environ, method=method, headers={"X-Auth-Token": token})
        response = request.get_response(self._middleware)
        if response.status_code >= 500:
            raise errors.Unavailable("keystone is out of reach; repeat the request", retry_after=2)
        if response.status_code != 200:
            raise refused()
        found = response.json_body
        operator = Operator(found["user_id"], found["project_id"] or "", (found["roles"] or "").split(","))
        ends = datetime.datetime.fromisoformat(found["expires_at"]).timestamp()
        self._verdicts.keep(key, operator, ends, (method, path) if found["ruled"] else None)
        return operator


class NoAuth:
    """For trying things out on loopback: ``X-Auth-Token: user:project[:role,role]`` is believed as it stands."""

    async def operator(self, token: str | None, method: str, path: str, source: str) -> Operator:
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

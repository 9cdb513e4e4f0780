# SPDX-License-Identifier: Apache-2.0
"""App: the composition root. Puts store, queue, identity, policy and routes together into one ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pydantic_core
from oslo_config import cfg
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

import heat_workflow
from heat_workflow import conf as options
from heat_workflow import errors
from heat_workflow.api import agents, answers, downloads, guard, guests, metrics, openapi, tasks, workflows
from heat_workflow.api.identity import Keystone, NoAuth, OperatorIdentity, Sources
from heat_workflow.api.limits import Limits
from heat_workflow.api.policies import Policy
from heat_workflow.api.routing import Answer, Call, Route, Services, starlette_routes
from heat_workflow.model import Usage
from heat_workflow.releases import Releases
from heat_workflow.store import Store, Tx
from heat_workflow.store.opening import open_store
from heat_workflow.taskqueue import TaskQueue, expiring
from heat_workflow.taskqueue.polling import Polls
from heat_workflow.taskqueue.quotas import Quotas
from heat_workflow.wakeup import Wakeups

LOG = logging.getLogger(__name__)
_EXPIRE_EVERY = 1.0  # seconds between looks for deadlines that have passed
_FLUSH_MOST = 1.0  # seconds at the end for a note of when agents were last seen


async def _versions(_call: Call) -> Answer:
    links = [{"rel": "self", "href": "/v1"}]
    return Answer(200, {"versions": [{"id": "v1.0", "status": "CURRENT", "links": links}]})


async def _healthz(call: Call) -> Answer:
    def look(tx: Tx) -> float:
        return tx.now

    await call.queue.read(look)
    return Answer(200, {"status": "ok"})


async def _openapi(_call: Call) -> Answer:
    return Answer(200, _document())


@functools.cache
def _document() -> bytes:
    return pydantic_core.to_json(openapi.document(routes(["operator", "guest"]), heat_workflow.__version__))


COMMON = [
    Route("GET", "/", _versions, "anybody", "Versions", shows=answers.Versions),
    Route("GET", "/healthz", _healthz, "anybody", "Whether the API and its store work", shows=answers.Health),
    Route("GET", "/v1/openapi.json", _openapi, "anybody", "This document", shows=answers.OpenApi),
]


def routes(serve: list[str]) -> list[Route]:
    """The table of routes for the halves that are served."""
    table = [*guests.ROUTES, *downloads.ROUTES] if "guest" in serve else []
    if "operator" in serve:
        table += [*tasks.ROUTES, *workflows.ROUTES, *agents.ROUTES, *metrics.ROUTES]
    return table + COMMON


class _Application(Starlette):
    """Starlette without its own two middlewares, which each request, waiting ones too, would hold frames of. Unknown
    paths and methods are answered by the guard, everything else by the routes."""

    def build_middleware_stack(self) -> ASGIApp:
        application: ASGIApp = self.router
        for middleware, args, kwargs in reversed(self.user_middleware):
            application = middleware(application, *args, **kwargs)
        return application


def build(
    store: Store,
    identity: OperatorIdentity,
    policy: Policy,
    serve: list[str],
    sources: Sources,
    releases: Releases,
    quota: Usage,
    max_wait: float,
) -> Starlette:
    """The application on these parts; its lifespan starts and ends the store's work."""
    wakeups = Wakeups()
    queue = TaskQueue(store, wakeups)
    polls = Polls(queue, wakeups, str(uuid.uuid4()) if store.shared else None)
    numbers = metrics.Metrics(store.finished, polls.count, lambda: store.listening)
    services = Services(queue, polls, identity, policy, Limits(), sources, releases, Quotas(queue, quota), max_wait)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await queue.start()
        background = [asyncio.create_task(_forever(_expire, queue)), asyncio.create_task(_forever(polls.keep_seen))]
        try:
            yield
        finally:
            for job in background:
                job.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            with contextlib.suppress(errors.Unavailable, TimeoutError):
                await asyncio.wait_for(polls.flush(), _FLUSH_MOST)
            await queue.close()

    application = _Application(
        routes=starlette_routes(routes(serve), services),
        middleware=[Middleware(metrics.counted, numbers), Middleware(guard.guarded)],
        lifespan=lifespan,
    )
    # A redirect to the path without its last slash would name whatever host the request claimed to be for.
    application.router.redirect_slashes = False
    application.state.metrics = numbers
    application.state.end_waits = queue.end_waits
    return application


async def _expire(queue: TaskQueue) -> None:
    while True:
        await asyncio.sleep(_EXPIRE_EVERY)
        while await queue.read(expiring.any_due):
            await queue.write(expiring.expire)


async def _forever(job: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run the job again after the store was out of reach."""
    while True:
        try:
            await job(*args)
        except errors.Unavailable as exc:
            LOG.warning("Background work waits for the store: %s", exc.detail)
            await asyncio.sleep(_EXPIRE_EVERY)


def compose(conf: cfg.ConfigOpts) -> Starlette:
    """The application as the configuration describes it."""
    options.register(conf)
    if conf.api.auth_strategy == "noauth" and not _loopback(conf.api.bind_host):
        raise errors.Invalid(f"[api] auth_strategy = noauth needs a loopback bind_host, not {conf.api.bind_host}")
    identity: OperatorIdentity = NoAuth() if conf.api.auth_strategy == "noauth" else Keystone(conf)
    sources = Sources(conf.api.trusted_proxies)
    store = open_store(conf.database.connection, conf.secrets.key_file)
    quota = Usage(conf.quota.workflows, conf.quota.tasks, conf.quota.bytes, conf.quota.agents)
    releases = Releases(conf.api.agents_dir)
    return build(store, identity, Policy(conf), conf.api.serve, sources, releases, quota, conf.api.max_wait)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@functools.cache
def _configured() -> Starlette:
    conf = cfg.ConfigOpts()
    conf([], project="heat-workflow")
    return compose(conf)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI entry point for any server; configured by heat-workflow.conf in its usual places."""
    await _configured()(scope, receive, send)

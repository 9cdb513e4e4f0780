# SPDX-License-Identifier: Apache-2.0
"""Metrics: numbers for Prometheus, served with the operator half.

What stands in the store (unfinished tasks, agents) is read at each scrape and is the same on every replica; it is
cheap however many tasks have finished, because finished tasks are left out of it. Tasks that finish and requests that
are refused are counted by the process at which it happens, from its start: sum them over the replicas.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import prometheus_client
from starlette.requests import Request

from heat_workflow import model
from heat_workflow.api.problems import REFUSED
from heat_workflow.api.routing import Answer, Call, Route
from heat_workflow.store import Tx

_VERSION = re.compile(r"\d[0-9A-Za-z.+-]{0,31}")
_VERSIONS_MOST = 20  # the guests say them, so there could be any number
Application = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


class Metrics:
    """The numbers of one application."""

    def __init__(
        self,
        finished: Mapping[str, int],
        waiting: Callable[[], int],
        listening: Callable[[], bool | None] = lambda: None,
    ) -> None:
        """``finished`` is how many tasks this process brought to each finished state; it goes on counting. ``waiting``
        says how many polls it holds, ``listening`` whether wake-ups reach it (None: it does not listen)."""
        self._finished = finished
        self.registry = prometheus_client.CollectorRegistry()
        self._tasks = self._gauge("heat_workflow_tasks", "Unfinished tasks by state", "state")
        self._agents = self._gauge(
            "heat_workflow_agents", "Agents that are not revoked by state and version", "state", "version"
        )
        self._age = self._gauge(
            "heat_workflow_oldest_ready_task_age_seconds", "How long a task has been ready without being claimed"
        )
        polls = self._gauge("heat_workflow_waiting_polls", "Agents whose poll waits in this process")
        polls.set_function(waiting)
        if listening() is not None:
            name, what = "heat_workflow_listener_connected", "Whether PostgreSQL's notifications reach this process"
            self._gauge(name, what).set_function(lambda: float(bool(listening())))
        self._refusals = prometheus_client.Counter(
            "heat_workflow_refusals",
            "Requests this process refused, by status and reason",
            ("status", "code"),
            registry=self.registry,
        )
        self._ended = prometheus_client.Counter(
            "heat_workflow_tasks_finished", "Tasks this process saw finish", ("state",), registry=self.registry
        )
        self._shown: collections.Counter[str] = collections.Counter()

    def _gauge(self, name: str, help_: str, *labels: str) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(name, help_, labels, registry=self.registry)

    def refused(self, status: int, code: str) -> None:
        """Count a refusal; the codes are words of ours, never of the caller's."""
        self._refusals.labels(str(status), code).inc()

    def text(self, tasks: Mapping[str, int], agents: Mapping[tuple[str, str], int], oldest_ready_age: float) -> bytes:
        """Everything in Prometheus' text format, with these numbers of the store."""
        for state in model.UNFINISHED:
            self._tasks.labels(state.value).set(tasks.get(state.value, 0))
        self._agents.clear()
        for labels, count in _known_versions(agents).items():
            self._agents.labels(*labels).set(count)
        self._age.set(oldest_ready_age)
        for state in model.FINISHED:
            seen = self._finished.get(state.value, 0)
            self._ended.labels(state.value).inc(seen - self._shown[state.value])
            self._shown[state.value] = seen
        return prometheus_client.generate_latest(self.registry)


def _known_versions(agents: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """The counts under the most common versions that look like one; everything else is ``other``."""
    common: collections.Counter[str] = collections.Counter()
    for (_, version), count in agents.items():
        if _VERSION.fullmatch(version):
            common[version] += count
    kept = {version for version, _ in common.most_common(_VERSIONS_MOST)} | {""}
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for (state, version), count in agents.items():
        counts[state, version if version in kept else "other"] += count
    return dict(counts)


def counted(application: Application, metrics: Metrics) -> Application:
    """The application with every refusal counted, whoever refused."""

    async def count(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        try:
            await application(scope, receive, send)
        finally:
            if REFUSED in scope:
                metrics.refused(*scope[REFUSED])

    return count


def _numbers(tx: Tx) -> tuple[dict[str, int], dict[tuple[str, str], int], float]:
    oldest = tx.oldest_ready()
    return tx.count_unfinished(), tx.count_agents(), 0.0 if oldest is None else max(tx.now - oldest, 0.0)


def _metrics_of(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def show_metrics(call: Call) -> Answer:
    text = _metrics_of(call.request).text(*await call.queue.read(_numbers))
    return Answer(200, text, content_type=prometheus_client.CONTENT_TYPE_LATEST)


ROUTES = [Route("GET", "/metrics", show_metrics, "anybody", "Numbers for Prometheus", streams=("text/plain",))]

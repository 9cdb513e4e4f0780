# SPDX-License-Identifier: Apache-2.0
"""The contract document: every operation asked in generated ways, and no answer but what the document says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

import heat_workflow
from heat_workflow.api import openapi
from heat_workflow.api.app import routes
from tests.functional.attacks.raw import processor_seconds
from tests.functional.attacks.world import World, bearer, operator_headers
from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "10"))  # for each operation, beside those that cover its schema
SHORT = 0.05  # seconds that a generated long poll waits
CALLS_PER_WORLD = 6  # below every rate that an agent is held to
DOCUMENT = openapi.document(routes(["operator", "guest"]), heat_workflow.__version__)
REFUSED = ["400", "401", "403", "404", "405", "409", "410", "413", "414", "415", "422", "429", "431"]
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"deterministic": True},
        "checks": {
            "negative_data_rejection": {"expected-statuses": REFUSED},
            # What goes beyond a schema is refused too: a cycle, a name twice, a number beyond 64 bits.
            "positive_data_acceptance": {"enabled": False},
        },
        # The task in all its parts is covered once, at POST .../tasks; the others that take one get random ones.
        "operations": [
            {"include-name": name, "phases": {"coverage": {"enabled": False}}}
            for name in (
                "POST /v1/workflows",
                "PUT /v1/workflows/{workflow_id}",
                "PUT /v1/workflows/{workflow_id}/tasks/{task_id}",
            )
        ],
    }
)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


class Callers:
    """An operator, and as many agents with a task in their hands as it takes to stay below the limits of each."""

    def __init__(self, url: str) -> None:
        self.operator = Operator(url, project="contract", roles="admin,member,reader")
        self._calls = CALLS_PER_WORLD
        self._world: World

    def world(self) -> World:
        """What a good request is about. An operation may take it away; the next but few gets another."""
        if self._calls >= CALLS_PER_WORLD:
            self._calls, self._world = 0, World(self.operator)
        self._calls += 1
        return self._world

    def headers(self, schemes: list[str]) -> dict[str, str]:
        if "keystone" in schemes:
            return operator_headers(self.operator)
        if "join-token" in schemes:
            return bearer(self.operator.register()[1])
        return bearer(self.world().agent.bearer) if schemes else {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("contract")
    process = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite")
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def callers(served: ApiProcess) -> Callers:
    return Callers(served.url)


def test_the_api_serves_the_document(served: ApiProcess) -> None:
    assert requests.get(f"{served.url}/v1/openapi.json", timeout=10).json() == DOCUMENT


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_f48_an_operation_answers_as_the_document_says(
    case: schemathesis.Case[Any], served: ApiProcess, callers: Callers
) -> None:
    security = case.operation.definition.raw.get("security", [])
    headers = callers.headers([name for requirement in security for name in requirement])
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        _make_it_about(case, callers.world())
    _shorten(case.query)
    _shorten(case.body)
    case.call_and_validate(base_url=served.url, headers=headers, timeout=30)


def _make_it_about(case: schemathesis.Case[Any], world: World) -> None:
    """Put ids that exist in place of generated ones, so that good requests meet something."""
    names = list(case.path_parameters)
    if case.method == "PUT" and not case.path.startswith("/agent"):
        names.pop()  # it makes what is not there yet
    for name in names:
        case.path_parameters[name] = getattr(world.ids, name)
    if isinstance(case.body, dict) and "attempt" in case.body:
        case.body.update(attempt=world.taken["attempt"], claim_id=world.taken["claim_id"])
    if isinstance(case.body, dict) and "inventory" in case.body:
        case.body["nonce"] = world.agent.nonce


def _shorten(part: Any) -> None:
    """Generated requests do not wait for long, nor follow a log without end."""
    if not isinstance(part, dict):
        return
    if part.get("follow") in (True, "true"):
        part["follow"] = "false"
    wait: Any = part.get("wait")
    with contextlib.suppress(TypeError, ValueError):
        if SHORT < float(wait) <= 50:
            part["wait"] = type(wait)(SHORT)
    _shorten(part.get("claim"))


def test_s73_the_document_is_made_once(api: ApiProcess) -> None:
    """Anybody may ask for it: a hundred answers cost what sending their bytes costs."""
    with requests.Session() as session:
        first = session.get(f"{api.url}/v1/openapi.json", timeout=20).content
        before = processor_seconds(api)
        for _ in range(100):
            assert session.get(f"{api.url}/v1/openapi.json", timeout=20).content == first
    assert (processor_seconds(api) - before) / 100 < 0.004

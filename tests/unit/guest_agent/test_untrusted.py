# SPDX-License-Identifier: Apache-2.0
"""JSON and numbers of others: bounded in value and in cost (S79, S80)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from guest_agent.errors import AgentError
from guest_agent.hooks import Hooks
from guest_agent.hooks.contract import Exit, Place
from guest_agent.hooks.heat_config import HeatConfigHook
from guest_agent.live_configs import LiveConfigs
from guest_agent.output_types import as_declared
from guest_agent.preparation import prepare
from guest_agent.state_dir import StateDir
from guest_agent.task import Output, read_attempt, read_task
from guest_agent.untrusted import INTEGERS, as_seconds, as_status_code, read_json
from tests.harness.small_api import wire_task

NAN, INF = float("nan"), float("inf")
ODD: list[Any] = [NAN, INF, -INF, True, None, "7", "x", [], {}, 1e308, -1e308, 10**30, -(10**30), -1, 0]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_s80_any_number_of_an_api_becomes_one_within_the_bounds(value: Any) -> None:
    assert 2 <= as_seconds(value, 20, 2, 300) <= 300


@pytest.mark.parametrize("value", [NAN, True, False, None, "7", [], {}], ids=repr)
def test_s80_what_is_no_number_is_the_default(value: Any) -> None:
    assert as_seconds(value, 20, 2, 300) == 20


@pytest.mark.parametrize("value", [*ODD[:-1], 1.5, 0, 2**63, "1"], ids=repr)
def test_s80_an_attempt_that_is_no_whole_number_from_one_on_is_refused(value: Any) -> None:
    with pytest.raises(AgentError, match="without a readable id"):
        read_attempt(wire_task(attempt=value))


@pytest.mark.parametrize("name", ["timeout", "deadline_in"])
@pytest.mark.parametrize("value", [NAN, True, "7", "x", [], {}], ids=repr)
def test_s80_a_timeout_that_is_no_number_is_told(name: str, value: Any) -> None:
    with pytest.raises(AgentError, match=f"{name} is no number of seconds"):
        read_task(wire_task(**{name: value}))


@pytest.mark.parametrize(("value", "seconds"), [(None, None), (-5, 0.0), (0, 0.0), (1.5, 1.5), (INF, INF)], ids=repr)
def test_s80_a_timeout_is_a_number_of_seconds_or_none(value: Any, seconds: float | None) -> None:
    assert read_task(wire_task(timeout=value)).timeout == seconds


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, 0),
        ("0", 0),
        (" 3 ", 3),
        (2.0, 2),
        (True, 1),
        (False, 0),
        (-1, -1),
        (2**31 - 1, 2**31 - 1),
        *[(odd, None) for odd in (NAN, INF, -INF, 0.5, 1e308, 2**31, -(2**31) - 1, 10**400)],
        *[(odd, None) for odd in ("inf", "nan", "1e400", "0x10", "9" * 100, "")],
        ([0], None),
        ({}, None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_s79_a_status_code_is_a_whole_number_of_32_bits(value: Any, code: int | None) -> None:
    assert as_status_code(value) == code


@pytest.mark.parametrize("digits", ["1" + "0" * 20, "-1" + "0" * 20, "9" * 400_000])
def test_s79_an_integer_that_no_store_takes_is_known_as_such_at_once(digits: str) -> None:
    began = time.process_time()
    assert read_json(digits) not in INTEGERS
    assert time.process_time() - began < 1


ANSWERS = {
    '{"deploy_status_code": Infinity}': (False, None, "is no number"),
    '{"deploy_status_code": -Infinity}': (False, None, "is no number"),
    '{"deploy_status_code": NaN}': (False, None, "is no number"),
    '{"deploy_status_code": 1e400}': (False, None, "is no number"),
    '{"deploy_status_code": 0.5}': (False, None, "is no number"),
    f'{{"deploy_status_code": 1{"0" * 400}}}': (False, None, "is no number"),
    '{"deploy_status_code": 4294967296}': (False, None, "is no number"),
    '{"deploy_status_code": "x"}': (False, None, "is no number"),
    '{"deploy_status_code": []}': (False, None, "is no number"),
    '{"deploy_status_code": true}': (False, 1, "exit code 1"),
    '{"deploy_status_code": false, "y": 1}': (True, 0, ""),
    f'{{"y": 1{"0" * 5000}}}': (True, 0, "output y left out: unreadable, a number has more than 64 bits"),
    f'{{"deploy_status_code": 1, "y": 1{"0" * 5000}}}': (False, 1, "written; output y left out"),
    '{"y": 1e400}': (True, 0, "output y left out: unreadable, a number is not finite"),
    '{"y": [NaN]}': (True, 0, "output y left out: unreadable, a number is not finite"),
    '{"y": {"a": -Infinity}}': (True, 0, "output y left out: unreadable, a number is not finite"),
    '{"deploy_status_code": 0, "y": ' + "[" * 100_000 + "]" * 100_000 + "}": (False, 1, "nested deeper"),
}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda text: text[:40])
def test_s79_a_hooks_answer_with_any_number_has_a_verdict_that_the_api_can_take(answer: str) -> None:
    succeeded, code, words = ANSWERS[answer]
    verdict = HeatConfigHook.verdict(Exit(0, "", "", {}, (Output("y", type="Json"),), answer.encode()))
    assert (verdict.succeeded, verdict.code) == (succeeded, code), verdict
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("Number", text) for text in ("inf", "-Infinity", "nan", "1e400", "9" * 25, "9" * 400, "9" * 200_000)),
        *(("Json", text) for text in ("NaN", "[Infinity]", '{"a": 1e400}', "9" * 25, "[" * 30 + "]" * 30)),
        ("Json", "[" * 100_000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_s79_an_output_that_no_store_takes_is_not_of_its_type(kind: str, text: str) -> None:
    typed, problems = as_declared([Output("y", type=kind)], {"y": text})
    assert typed == {"y": text}
    assert len(problems) == 1


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_s80_a_task_with_anything_in_any_field_is_run_or_reported_and_nothing_else(
    value: Any, state: StateDir, tmp_path: Path
) -> None:
    hooks = Hooks(HeatConfigHook((str(tmp_path),), LiveConfigs(state.root)))
    attempt = read_attempt(wire_task())
    for name in (*wire_task(), *wire_task()["definition"], "heat", "run_as", "on_interrupt"):
        inner = {**wire_task()["definition"], name: value}
        for wire in ({**wire_task(), name: value}, {**wire_task(), "definition": inner}):
            prepared = prepare(attempt, wire, hooks, Place(str(tmp_path)))
            assert isinstance(prepared, tuple) or prepared["status"] in ("failed", "succeeded")

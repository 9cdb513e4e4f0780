# SPDX-License-Identifier: Apache-2.0
"""The pages say what there is: commands, options, metrics, words, codes, files, as the code has them."""

from __future__ import annotations

import ast
import collections
import configparser
import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from guest_agent import config as agent_config
from guest_agent import main as agent
from guest_agent import upgrade
from heat_workflow.api.app import routes
from heat_workflow.api.metrics import Metrics
from heat_workflow.api.policies import list_rules
from heat_workflow.cmd import manage
from heat_workflow.loops import Loop
from heat_workflow.model import FINISHED
from tests.docs.pages import ADMIN, API_REF, ROOT, blocks, commands, literals, pages

PAGES = pages()
FOREIGN = {"DEFAULT", "oslo_policy"}  # sections of others that pages speak of
MANAGE = [(page, line) for page in PAGES for line in commands(page, "heat-workflow-manage")]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def option_names() -> dict[str, set[str]]:
    """Section -> every option there is, from the samples, which another test holds against the code."""
    known: dict[str, set[str]] = collections.defaultdict(set)
    for sample in ("heat-workflow.conf.sample", "heat.conf.sample"):
        section = ""
        for line in (ROOT / "etc" / sample).read_text().splitlines():
            header, option = re.fullmatch(r"\[(\w+)\]", line), re.match(r"#(\w+) =", line)
            section = header[1] if header else section
            known[section] |= {option[1]} if option else set()
    # Of the auth plugin that auth_type names.
    known["keystone_authtoken"] |= {"auth_url", "username", "password", "project_name"}
    known["keystone_authtoken"] |= {"project_domain_name", "user_domain_name"}
    known["agent"] = set(agent_config._OPTIONS)
    return known


OPTIONS = option_names()


def _named(page: Path) -> Iterator[tuple[str, str]]:
    for text in literals(page):
        found = re.fullmatch(r"\[(\w+)\] (\w+)(?: = .*)?", text)
        if found:
            yield found[1], found[2]
    for language, text in blocks(page):
        if language == "ini" and "{" not in text:
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(text)
            yield from ((section, option) for section in parser.sections() for option in parser[section])


def requests_of(page: Path) -> list[re.Match[str]]:
    """The requests that the page names: method, path, query."""
    found = (re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE) (/[^ ?]*)(?:\?(\S*))?", text) for text in literals(page))
    return [request for request in found if request is not None]


def files_of(page: Path) -> list[str]:
    """The files of the project that the page names."""
    place = re.compile(r"(etc|doc|tests|tools|templates|benchmarks|api-ref|releasenotes|\.ci)/[\w./-]+")
    return [text for text in literals(page) if place.fullmatch(text)]


def rules_of(page: Path) -> list[str]:
    """The policy rules that the page names, also in a piece of a policy file."""
    return re.findall(r"\b(?:workflows|tasks|agents|secrets):[a-z_]+\b", page.read_text())


# What the tests below hold against the code, by page: a page that names none of it is not among them, so none of them
# can pass on nothing.
OURS = [
    (page, line)
    for page in PAGES
    for program in ("make", "heat-workflow-agent", "python -m", ".venv/bin/python -m")
    for line in commands(page, program)
]
NAMED = [(page, section, option) for page in PAGES for section, option in _named(page) if section not in FOREIGN]
REQUESTS = [(page, request) for page in PAGES if "contributor" not in page.parts for request in requests_of(page)]
FILES = [(page, text) for page in PAGES for text in files_of(page)]
RULES = [(page, rule) for page in (*PAGES, API_REF / "parameters.yaml") for rule in rules_of(page)]


def shown(value: Any) -> str:
    """How a test is called after what it looks at."""
    return value[0] if isinstance(value, re.Match) else name(value) if isinstance(value, Path) else str(value)


def test_the_pages_name_what_is_held_against_the_code() -> None:
    found: dict[str, Sequence[Any]] = {"pages": PAGES, "manage": MANAGE, "commands": OURS, "options": NAMED}
    found |= {"requests": REQUESTS, "files": FILES, "rules": RULES}
    least = {"pages": 20, "manage": 10, "commands": 20, "options": 20, "requests": 15, "files": 30, "rules": 3}
    assert {what: len(items) >= least[what] for what, items in found.items()} == dict.fromkeys(least, True)


@pytest.mark.parametrize(("page", "line"), MANAGE, ids=lambda value: value if isinstance(value, str) else "")
def test_a_manage_command_is_understood(page: Path, line: str) -> None:
    words = shlex.split(line.rstrip(".,"))[1:]
    groups = {
        command.group: {c.name for c in manage.COMMANDS if c.group == command.group} for command in manage.COMMANDS
    }
    if not words or words in [[group] for group in groups]:
        return  # it is only named
    try:
        manage._parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"{name(page)}: {line}")


def test_every_manage_command_is_on_a_page() -> None:
    said = {tuple(shlex.split(line)[1:3]) for _, line in MANAGE}
    assert {(command.group, command.name) for command in manage.COMMANDS} <= said


@pytest.mark.parametrize(("page", "line"), OURS, ids=shown)
def test_other_commands_of_ours_are_understood(page: Path, line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert words[0].split("=")[0] in targets
    elif program == "heat-workflow-agent":
        assert not words or "|" in words[0] or agent._parser().parse_args(words)
    else:
        assert importlib.util.find_spec(words[1])


@pytest.mark.parametrize(("page", "section", "option"), NAMED, ids=shown)
def test_every_option_that_a_page_names_is_there(page: Path, section: str, option: str) -> None:
    assert option in OPTIONS.get(section, set())


def metrics() -> set[str]:
    """The names that /metrics shows."""
    shown = Metrics({state.value: 1 for state in FINISHED}, lambda: 1, lambda: True)
    shown.refused(404, "not-found")
    text = shown.text({}, {("active", "1.0"): 1}, 0.0, [Loop("expiry").seen()]).decode()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_every_metric_is_explained_and_every_metric_on_a_page_is_there() -> None:
    there = {metric for metric in metrics() if not metric.endswith("_created")}
    told = {text for text in literals(ADMIN / "monitoring.rst") if text.startswith("heat_workflow_")}
    assert told == there
    for page in PAGES:
        for text in [*literals(page), *(text for _, text in blocks(page))]:
            assert set(re.findall(r"\bheat_workflow_(?:tasks|agents|oldest|refusals|waiting|loop)\w*", text)) <= there


def test_the_alerts_are_what_prometheus_reads() -> None:
    (rules,) = [text for language, text in blocks(ADMIN / "monitoring.rst") if language == "yaml"]
    found = yaml.safe_load(rules)["groups"][0]["rules"]
    states = re.findall(r'state="(\w+)"', rules)
    assert all({"alert", "expr"} <= set(rule) <= {"alert", "expr", "for"} for rule in found)
    assert set(states) == {"stalled", "suspect"}


def test_what_waiting_for_says_is_what_the_code_says() -> None:
    code = (ROOT / "heat_workflow" / "taskqueue" / "holding.py").read_text()
    page = (ADMIN / "troubleshooting.rst").read_text()
    table = page[page.index("``waiting_for`` says") : page.index("A task failed")]
    rows = re.findall(r"\* - (\*.*)", table)
    words = [text.strip(" ,:") for row in rows for text in re.findall(r"\*([^*]+)\*", row.replace("\\ ", ""))]
    for text in [word for word in words if len(word) > 3 and word != "(state)"]:
        told = text.replace("expires at", "{verb} at").replace("expired at", "{verb} at")
        assert told in code, text
    assert len(rows) >= 12


def codes() -> set[str]:
    """Every code that an answer of the API can carry."""
    found = {"internal", "http", "not-found", "method-not-allowed", "malformed"}
    for path in (ROOT / "heat_workflow").rglob("*.py"):
        if path.name in ("client.py", "wire.py", "client_plugin.py") or "resources" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            found |= set(_codes_of(node))
    return found


def _codes_of(node: Any) -> Iterator[str]:
    if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
        yield str(node.value.value)
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "code":
                yield ast.literal_eval(part.value)
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 3:
        status, code, _ = node.value.elts
        if isinstance(status, ast.Constant) and isinstance(code, ast.Constant) and isinstance(status.value, int):
            yield str(code.value)


def test_every_error_code_is_on_the_page_and_no_other() -> None:
    page = (ADMIN / "troubleshooting.rst").read_text()
    table = page[page.index("Error codes\n") :]
    told = {code for row in re.findall(r"\* - (``.*``)", table) for code in re.findall(r"``([a-z-]+)``", row)}
    assert told == codes()


def _shape(path: str) -> str:
    return re.sub(r"{[^}]*}", "{}", path)


@pytest.mark.parametrize(("page", "request_named"), REQUESTS, ids=shown)
def test_requests_that_a_page_names_have_a_route(page: Path, request_named: re.Match[str]) -> None:
    known = {f"{route.method} {_shape(route.path)}": route for route in routes(["operator", "guest"])}
    method, path, query = request_named.groups()
    route = known.get(f"{method} {_shape(path)}")
    assert route is not None
    asked = {part.partition("=")[0] for part in (query or "").split("&") if part}
    assert asked <= set(route.query.model_fields if route.query else ())


@pytest.mark.parametrize(("page", "rule"), RULES, ids=shown)
def test_policy_rules_that_a_page_names_are_there(page: Path, rule: str) -> None:
    assert rule in {known.name for known in list_rules()}


def agent_events() -> set[str]:
    """Every type of security event that is written."""
    found = set()
    for path in (ROOT / "heat_workflow" / "taskqueue").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("insert_agent_event"):
                found |= {part.value for part in ast.walk(node.args[1]) if isinstance(part, ast.Constant)}
    return {str(word) for word in found}


def test_every_security_event_is_on_the_page_and_no_other() -> None:
    page = (ADMIN / "troubleshooting.rst").read_text()
    table = page[page.index("* - Event\n") : page.index("If the machine is yours")]
    told = {word for row in re.findall(r"\* - (``.*``)", table) for word in re.findall(r"``([a-z-]+)``", row)}
    assert told == agent_events()


def test_every_input_of_an_upgrade_is_on_the_page() -> None:
    table = (ADMIN / "upgrade.rst").read_text().partition("heat-workflow-agent``")[2]
    assert re.findall(r"^``(\w+)``", table, re.MULTILINE) == list(upgrade.INPUTS)


@pytest.mark.parametrize(("page", "text"), FILES, ids=shown)
def test_files_that_pages_name_are_in_the_project(page: Path, text: str) -> None:
    assert text.startswith("doc/build") or (ROOT / text).exists()

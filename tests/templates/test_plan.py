# SPDX-License-Identifier: Apache-2.0
"""The plan of a template, made without a cloud, against what the plugin records of the same template in a real Heat."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from heatclient import exc

from devcloud.stacks import Stack, Stacks
from heat_workflow import errors
from heat_workflow.client import Client, stack_workflow_id
from heat_workflow.plan.__main__ import main

HERE = pathlib.Path(__file__).parent
TEMPLATES = HERE.parents[1] / "templates"
DROP_IN = TEMPLATES / "environments" / "drop-in.yaml"
Checked = Callable[..., tuple[int, list[str], str]]


def plan(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heat_workflow.plan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def planned(*arguments: str | pathlib.Path) -> dict[str, Any]:
    done = plan(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def told(shown: dict[str, Any], path: str) -> list[dict[str, str]]:
    """The edges to a node that Heat orders by, named as within its stack."""
    ordered = [edge for edge in shown["edges"] if edge["to"] == path]
    words = ("depends_on", "get_attr: ", "get_resource: ")
    named = [
        {"from": edge["from"].rpartition("/")[2], "how": edge["how"]}
        for edge in ordered
        if edge["how"].startswith(words)
    ]
    return sorted(named, key=lambda edge: (edge["from"], edge["how"]))


def recorded(stack: Stack, api: Client) -> dict[str, list[Any]]:
    """By task path, the edges that the plugin has told the API."""
    found: dict[str, list[Any]] = {}
    try:
        for task in api.list_tasks(stack_workflow_id(stack.id)):
            found[task["name"] if not task["fanout"] else task["fanout"]] = task["heat"]["edges"]
    except errors.NotFound:
        pass
    for resource in stack.resources():
        if resource.resource_type == "OS::HeatWorkflow::Workflow":
            for task in api.list_tasks(resource.physical_resource_id):
                found[f"{resource.resource_name}/{task['fanout'] or task['name']}"] = task["heat"]["edges"]
    return found


@pytest.mark.parametrize(
    ("template", "environment", "longest"),
    [
        (HERE / "plans" / "every_way.yaml", None, 10),
        (HERE / "stock" / "groups.yaml", DROP_IN, 1),
        (TEMPLATES / "workflow.yaml", None, 4),
    ],
    ids=lambda value: value.stem if isinstance(value, pathlib.Path) else None,
)
def test_the_plan_is_what_a_real_heat_does(
    stacks: Stacks, api: Client, template: pathlib.Path, environment: pathlib.Path | None, longest: int
) -> None:
    shown = planned(template, *(("-e", environment) if environment else ()))
    stack = stacks.create("plan", template, environment=environment)
    edges = recorded(stack, api)
    kinds = {node["name"]: node["type"] for node in shown["nodes"]}
    tasks = {name for name, kind in kinds.items() if not kind.endswith(("Workflow", "ResourceGroup", ".yaml"))}
    assert tasks == edges.keys()
    assert {name: told(shown, name) for name in edges} == edges
    assert len(shown["critical_path"]) == longest


def test_dot_shows_nodes_edges_and_the_critical_path() -> None:
    done = plan(TEMPLATES / "two_servers.yaml")
    assert done.returncode == 0, done.stderr
    assert '"db" -> "app" [label="get_attr: db.url", style=bold];' in done.stdout
    assert '"db" -> "smoke_test" [label="depends_on"];' in done.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"db": {"depends_on": "smoke_test"}}, "resources require each other in a circle: "),
        ({"db": {"depends_on": "nowhere"}}, "resource db waits for nowhere, which is not in the template"),
        (
            {"flow": {"a": ["b"], "b": ["c"], "c": ["a"]}},
            "resource flow: workflow flow: tasks require each other in a circle: ",
        ),
    ],
)
def test_a_circle_is_named(tmp_path: pathlib.Path, change: dict[str, Any], words: str) -> None:
    import yaml

    source = yaml.load((TEMPLATES / "two_servers.yaml").read_text(), Loader=yaml.BaseLoader)
    for name, fields in change.items():
        if name in source["resources"]:
            source["resources"][name].update(fields)
        else:
            tasks = {
                task: {"definition": {"config": "x"}, "server": "s", "requires": of} for task, of in fields.items()
            }
            source["resources"][name] = {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks}}
    (tmp_path / "circle.yaml").write_text(yaml.safe_dump(source))
    done = plan(tmp_path / "circle.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


SCRIPT: dict[str, Any] = {"group": "script", "config": "true", "outputs": [{"name": "url"}]}
RUN: dict[str, Any] = {"type": "OS::HeatWorkflow::Task", "properties": {"server": "s", "definition": SCRIPT}}


def source(parameters: Any = None, outputs: Any = None, **resources: Any) -> str:
    return json.dumps(
        {
            "heat_template_version": "2021-04-16",
            "parameters": parameters or {},
            "resources": resources,
            "outputs": {name: {"value": value} for name, value in (outputs or {}).items()},
        }
    )


def run(**properties: Any) -> dict[str, Any]:
    return {**RUN, "properties": {**RUN["properties"], **properties}}


def _bomb(pattern: str) -> str:
    """Thirty maps or lists, each of nine times the one before."""
    names = [f"a{number}" for number in range(30)]
    pairs = zip(["a", *names], names)
    return "".join(f"{name}: &{name} {pattern.format(', '.join(['*' + before] * 9))}\n" for before, name in pairs)


@pytest.fixture
def checked(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Checked:
    """Runs the plan on these files: its exit status, its lines on standard error, and what it printed."""

    def check(template: str | bytes, **more: str | bytes) -> tuple[int, list[str], str]:
        for name, content in {"t.yaml": template, **more}.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        named = ["-e", str(tmp_path / "env.yaml")] if "env.yaml" in more else []
        status = main([str(tmp_path / "t.yaml"), *named])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.err.splitlines(), said.out

    return check


# What Heat refuses; the files that are named are not there.
REFUSED: list[tuple[str, str]] = [
    (source(a=run(colour="red")), "resource a: property colour: Unknown Property colour"),
    (source(a=run(timeout="soon")), "resource a: property timeout: .*'?soon"),
    (source(a=run(timeout=0)), "resource a: property timeout: 0 is out of range"),
    (source(a=run(actions=["EXPLODE"])), r"resource a: property actions\S*: .*EXPLODE.* is not an allowed value"),
    (
        source(a={"type": "OS::HeatWorkflow::TaskGroup", "properties": {}}),
        "property servers: .*servers not assigned",
    ),
    (
        source(a=run(), outputs={"o": {"get_attr": ["a", "ulr"]}}),
        "resource a: .* no output ulr: its config declares url",
    ),
    (
        source(a={"type": "OS::Heat::RandomString"}, outputs={"o": {"get_attr": ["a", "x"]}}),
        r"output o: .*\(a x\) is incorrect",
    ),
    (source(a=run(), b=run(input_values={"u": {"get_attr": ["a", "ulr"]}})), "resource a: .* no output ulr"),
    (source(a=run(server={"get_resource": "b"})), r'resource a: The specified reference "b" .* is incorrect'),
    (source(a=run(input_values={"x": {"get_file": "no.sh"}})), "resource a: .*No content found .*no.sh"),
    (source(a={"type": "OS::Heat::Valu"}), r"resource a: .*OS::Heat::Valu\) could not be found"),
    (source(a={"type": "gone.yaml"}), "gone.yaml cannot be read: .*No such file"),
    (source(a=run(timeout={"get_param": "p"})), r"resource a: .*Parameter \(p\) was not provided"),
    (source({"p": {"type": "number", "default": "x"}}), "parameter p: .*"),
    (source({"p": {"type": "colour"}}), "Invalid type \\(colour\\)"),
    (
        source(a={"type": "OS::Heat::Value", "colour": 1}),
        '"colour" is not a valid keyword inside a resource definition',
    ),
    (source(a=5), '"resources" must contain a map of resource maps'),
    (source(a={"properties": {}}), "resource a: Each resource must contain a type key"),
    (source(a={**RUN, "depends_on": "b"}), "resource a waits for b, which is not in the template"),
    (source(a={**RUN, "depends_on": "a"}), "resources require each other in a circle: a -> a"),
    (
        source(a=run(input_values={"x": {"str_replace": {"template": 1}}})),
        'resource a: .*"str_replace" syntax should be',
    ),
    (json.dumps({"heat_template_version": "2021-04-16", "resources": [1]}), "section resources is no map"),
    (json.dumps({"resources": {}}), "Template version was not provided"),
    (json.dumps({"heat_template_version": "never"}), "template version is invalid: .*never"),
    (json.dumps({"heat_template_version": "2021-04-16", "colour": {}}), "template section is invalid: colour"),
]
# What no client could send.
UNREADABLE: list[tuple[str | bytes, str]] = [
    ("", "is no YAML map"),
    (b"\x7fELF\x00\x01\xff", "cannot be read: "),
    ("a: [", "cannot be read: "),
    ("- 1\n", "is no YAML map"),
    ("just words", "is no YAML map"),
    ("[" * 5000, "nested too deep"),
    ("a: &a [*a]", "its aliases make more than"),
    (
        "a: &a {x: 1}\n" + "".join(f"{c}: &{c} {{? [*{b}, *{b}] : 1}}\n" for b, c in zip("abcdefgh", "bcdefghi")),
        "found unhashable key",
    ),
    ("a: &a [x,x,x,x,x,x,x,x,x]\n" + _bomb("[{}]"), "its aliases make more than"),
    ("a: &a {x: 1}\n" + _bomb("{{<<: [{}]}}"), "its aliases make more than"),
    (f"a: {'9' * 5000}", "cannot be read: "),
    ("!!python/object/apply:os.system [true]", "cannot be read: "),
]


@pytest.mark.parametrize(("template", "words"), [*REFUSED, *UNREADABLE])
def test_what_is_wrong_is_a_line(checked: Checked, template: str | bytes, words: str) -> None:
    status, (line,), out = checked(template)
    assert (status, out) == (1, "")
    assert re.search(words, line), line


@pytest.mark.parametrize("template", [template for template, _ in REFUSED])
def test_a_real_heat_refuses_what_the_plan_refuses(stacks: Stacks, template: str) -> None:
    with pytest.raises(exc.HTTPException):
        stacks.create("refused", json.loads(template))


def test_every_problem_is_a_line(checked: Checked) -> None:
    config = {"type": "OS::Heat::SoftwareConfig", "properties": {"group": "script", "config": {"get_file": "no.sh"}}}
    secret = run(hidden_outputs=["url"])
    flow = {
        "type": "OS::HeatWorkflow::Workflow",
        "properties": {"tasks": {"x": {"requires": ["y"], **RUN["properties"]}}},
    }
    template = source(
        {"size": {"type": "number", "constraints": [{"range": {"max": 3}}]}, "unset": {"type": "string"}},
        {"o": {"get_attr": ["two", "nothing"]}},
        one=run(timeout="soon", colour="red", priority={"get_param": "unset"}),
        two={"type": "OS::Heat::Value", "properties": {}},
        three=config,
        four=secret,
        five=run(input_values={"u": {"get_attr": ["four", "url"]}}),
        flow=flow,
        inner={"type": "inner.yaml", "properties": {"p": 1, "q": 2}},
    )
    inner = source({"p": {"type": "number"}}, a=run(priority="high", timeout={"get_param": "p"}))
    status, lines, _ = checked(template, **{"env.yaml": "parameters: {size: 4, sice: 1}", "inner.yaml": inner})
    notes = [line for line in lines if line.startswith("note: ")]
    assert status == 1
    assert notes == ["note: parameter unset has no value: 'unset' was made up"]
    expected = [
        "parameter size: .*4 is out of range",
        "parameter sice: .*the template has none",
        "resource one: property colour: ",
        "resource one: property timeout: ",
        "resource two: property value: ",
        "resource three: property config: .*no.sh",
        "resource four: task four: output url is hidden, and resource five reads it",
        "resource flow: .*task x requires y",
        "resource inner: property q: ",
        "resource inner/a: property priority: ",
        "output o: ",
    ]
    found = [line for line in lines if line not in notes]
    assert [words for words in expected if not any(re.match(words, line) for line in found)] == []
    assert len(found) == len(expected), found


def test_values_that_were_made_up_are_told_and_make_no_mistakes(checked: Checked) -> None:
    template = source(
        {
            "action": {"type": "string"},
            "size": {"type": "number", "constraints": [{"range": {"min": 5}}]},
            "colour": {"type": "string", "constraints": [{"allowed_values": ["red", "blue"]}]},
            "name": {"type": "string", "constraints": [{"allowed_pattern": "[0-9]+"}]},
            "ready": {"type": "string", "default": "x"},
        },
        a=run(actions=[{"get_param": "action"}], timeout={"get_param": "size"}, run_as={"get_param": "name"}),
        b=run(
            input_values={"n": {"get_param": "name"}},
            definition={**SCRIPT, "inputs": [{"name": "n", "type": "Number"}]},
        ),
    )
    status, lines, out = checked(template)
    assert (status, out.startswith("digraph plan {")) == (0, True)
    assert sorted(re.sub(r"up \(\[.*\)", "up (*)", line) for line in lines) == [
        "note: parameter action has no value: 'action' was made up",
        "note: parameter colour has no value: 'red' was made up",
        "note: parameter name has no value: 'name' was made up",
        "note: parameter size has no value: 5 was made up",
        "note: resource a: not checked: with values that were made up (*)",
        "note: resource b: not checked: with values that were made up (task b: input n is declared as Number: 'name' "
        "is none)",
    ]


def test_what_only_a_cloud_knows_is_told(checked: Checked) -> None:
    server: dict[str, Any] = {"type": "OS::Nova::Server", "properties": {"flavor": "m1", "image": "i", "colour": "red"}}
    status, lines, _ = checked(source(a=server))
    assert (status, lines[-1]) == (1, "resource a: property colour: Unknown Property colour")
    del server["properties"]["colour"]
    status, lines, _ = checked(source(a=server))
    assert status == 0
    assert "note: resource a: not checked: property flavor, which only a cloud can judge" in lines


def test_a_file_that_is_named_and_cannot_be_read(
    checked: Checked, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nothing.yaml", "."):
        assert main([str(tmp_path / name)]) == 1
        assert main([str(TEMPLATES / "hello.yaml"), "-e", str(tmp_path / name)]) == 1
        assert capsys.readouterr().err.count("cannot be read: ") == 2
    status, (line,), _ = checked(source(a=run()), **{"env.yaml": "- no map"})
    assert (status, "env.yaml is no YAML map" in line) == (1, True)
    status, (line,), _ = checked(source(a=run()), **{"env.yaml": "colours: {}"})
    assert (status, line) == (1, 'environment has wrong section "colours"')
    status, _, _ = checked(source(a=run(input_values={"x": {"get_file": "data"}})), data=b"\xff\x00\xfe")
    assert status == 0, "Heat's client sends what is no text as base64"


def test_every_template_of_ours_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    for template in sorted(TEMPLATES.glob("*.yaml")):
        assert main([str(template)]) == 0, (template, capsys.readouterr().err)
    for template in sorted((HERE / "stock").glob("*.yaml")):
        assert main([str(template), "-e", str(DROP_IN)]) == 0, (template, capsys.readouterr().err)

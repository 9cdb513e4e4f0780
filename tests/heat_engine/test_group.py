# SPDX-License-Identifier: Apache-2.0
"""OS::HeatWorkflow::TaskGroup in a real Heat: one resource, many servers, and only what changed runs again."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.shapes import Task
from tests.docs.pages import ADMIN, blocks
from tests.heat_engine.servers import servers_of

Tasks = Callable[[Stack], list[Task]]
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def fleet(cloud: Any) -> Any:
    """Three servers that outlive the stacks of this module, by name."""
    with servers_of(cloud, NAMES) as servers:
        yield servers


def group(hot: Any, servers: Any, what: dict[str, Any], policy: Any = None, **properties: Any) -> Any:
    own: dict[str, Any] = {"definition": what, "servers": servers, **properties}
    resource = {"type": "OS::HeatWorkflow::TaskGroup", "properties": own}
    return {**resource, "update_policy": policy} if policy else resource


def template(hot: Any, outputs: dict[str, Any] | None = None, **resources: Any) -> dict[str, Any]:
    source: dict[str, Any] = hot.template(outputs, **resources)
    del source["resources"]["machine"]
    return source


def runs(tasks: list[Task]) -> list[tuple[str, str, str]]:
    return [(task["name"], task["action"], task["state"]) for task in tasks]


def test_one_resource_runs_everywhere_and_gives_maps(hot: Any, stacks: Stacks, fleet: Any, tasks_of: Tasks) -> None:
    say = hot.script("echo $deploy_server_id; echo $deploy_resource_name >&2; printf x > $heat_outputs_path.url", "url")
    names = ["url", "urls", "deploy_stdouts", "deploy_stderr", "deploy_status_codes", "outputs", "failed", "task_ids"]
    outputs: dict[str, Any] = {name: {"get_attr": ["web", name]} for name in names}
    outputs["one"] = {"get_attr": ["web", "url", "b"]}
    stack = stacks.create("group", template(hot, outputs, web=group(hot, fleet, say)))
    said = stack.outputs
    ids = said.pop("task_ids")
    assert said == {
        "url": dict.fromkeys(NAMES, "x"),
        "urls": dict.fromkeys(NAMES, "x"),
        "deploy_stdouts": {name: f"{fleet[name]}\n" for name in NAMES},
        "deploy_stderr": {name: f"{name}\n" for name in NAMES},
        "deploy_status_codes": dict.fromkeys(NAMES, 0),
        "outputs": {name: {"url": "x"} for name in NAMES},
        "failed": [],
        "one": "x",
    }
    tasks = tasks_of(stack)
    assert {task["name"]: task["id"] for task in tasks} == {f"web/{name}": ids[name] for name in NAMES}
    assert [resource.resource_name for resource in stack.resources()] == ["web"]


def test_an_update_runs_on_new_and_changed_servers_and_takes_back_on_those_that_go(
    hot: Any, stacks: Stacks, fleet: Any, tasks_of: Tasks, tmp_path: pathlib.Path
) -> None:
    what = hot.script(f"echo $deploy_action $deploy_resource_name >> {tmp_path}/done", release="String")
    undo = hot.script(f"echo undo $deploy_resource_name $release >> {tmp_path}/done")

    def web(release: str, *names: str) -> Any:
        servers = {name: fleet[name] for name in names}
        return template(hot, web=group(hot, servers, what, undo=undo, input_values={"release": release}))

    def told() -> list[str]:
        lines = sorted((tmp_path / "done").read_text().splitlines())
        (tmp_path / "done").unlink()
        return lines

    stack = stacks.create("moving", web("1", "a", "b"))
    assert told() == ["CREATE a", "CREATE b"]
    stack.update(web("1", "a", "c"))
    assert told() == ["CREATE c", "undo b 1"], "b's server lives on"
    stack.update(web("2", "a", "c"))
    assert told() == ["UPDATE a", "UPDATE c"]
    stack.delete()
    assert told() == ["undo a 2", "undo c 2"], "the servers are of another stack"
    assert all(task["detached"] for task in tasks_of(stack) if task["action"] != "UNDO")


def test_failure_says_where_and_why_and_the_next_update_runs_what_failed(
    hot: Any, stacks: Stacks, fleet: Any, tasks_of: Tasks, tmp_path: pathlib.Path
) -> None:
    unlucky = (
        f"test $deploy_resource_name = a || test -e {tmp_path}/luck || {{ echo no $deploy_resource_name >&2; exit 7; }}"
    )
    web = template(hot, web=group(hot, fleet, hot.script(unlucky)))
    stack = stacks.create("unlucky", web, wait=False)
    with pytest.raises(DevCloudError):
        stack.wait()
    expected = (
        f"task web failed on 2 of 3 servers: b ({fleet['b']}) failed with exit code 7: no b; "
        f"c ({fleet['c']}) failed with exit code 7: no c"
    )
    assert expected in stack.reason
    (tmp_path / "luck").touch()
    stack.update(web)
    assert sorted(task["name"] for task in tasks_of(stack)) == ["web/a", "web/b", "web/b", "web/c", "web/c"]


def test_failures_within_max_errors_are_listed_and_tried_again_by_the_next_update(
    hot: Any, stacks: Stacks, fleet: Any, tasks_of: Tasks, tmp_path: pathlib.Path
) -> None:
    shy = hot.script(f"test $deploy_resource_name != b || test -e {tmp_path}/luck")
    policy = {"batch_create": {"max_errors": 1}}
    web = template(hot, {"failed": {"get_attr": ["web", "failed"]}}, web=group(hot, fleet, shy, policy))
    stack = stacks.create("tolerant", web)
    assert stack.outputs == {"failed": ["b"]}
    assert [task["batch"] for task in tasks_of(stack)] == [{"max_size": 1, "pause": 0, "max_errors": 1}] * 3
    (tmp_path / "luck").touch()
    stack.update(web)
    assert stack.outputs == {"failed": []}
    assert runs(tasks_of(stack))[3:] == [("web/b", "CREATE", "succeeded")]


def test_a_rolling_update_stops_at_its_first_failure(
    hot: Any, stacks: Stacks, fleet: Any, tasks_of: Tasks, tmp_path: pathlib.Path
) -> None:
    def web(release: str) -> Any:
        what = hot.script(f"echo $deploy_resource_name {release} >> {tmp_path}/done; test {release} != bad")
        return template(hot, web=group(hot, fleet, what, {"rolling_update": {"pause_time": 0.1}}))

    stack = stacks.create("rolling", web("good"))
    stack.update(web("bad"), wait=False)
    with pytest.raises(DevCloudError, match=r"web failed on 1 of 3 servers: a .* exit code 1.*; not begun on 2: b, c"):
        stack.wait()
    assert (tmp_path / "done").read_text().splitlines()[3:] == ["a bad"]
    stack.update(web("better"))
    assert (tmp_path / "done").read_text().splitlines()[4:] == ["a better", "b better", "c better"]


def test_a_rollback_takes_the_new_back_and_runs_the_old_again(
    hot: Any, stacks: Stacks, fleet: Any, tmp_path: pathlib.Path
) -> None:
    def web(release: str) -> Any:
        what = hot.script(
            f"echo {release} >> {tmp_path}/$deploy_resource_name; test {release} != 2 -o $deploy_resource_name != b"
        )
        undo = hot.script(f"echo undo {release} >> {tmp_path}/$deploy_resource_name")
        return template(hot, web=group(hot, {name: fleet[name] for name in "ab"}, what, undo=undo))

    stack = stacks.create("back", web("1"), disable_rollback=False)
    stack.update(web("2"), wait=False, disable_rollback=False)
    stack.wait_until(lambda: stack.status == "ROLLBACK_COMPLETE")
    assert (tmp_path / "a").read_text().split("\n")[:-1] == ["1", "2", "undo 2", "1"]
    assert (tmp_path / "b").read_text().split("\n")[:-1] == ["1", "2", "1"], "what failed is not taken back"


def test_no_servers_is_no_work(hot: Any, stacks: Stacks, tasks_of: Tasks, fleet: Any) -> None:
    say = hot.script("true")
    outputs = {"out": {"get_attr": ["web", "deploy_stdouts"]}}
    stack = stacks.create("empty", template(hot, outputs, web=group(hot, {}, say)))
    assert stack.outputs == {"out": {}}
    stack.update(template(hot, outputs, web=group(hot, {"a": fleet["a"]}, say)))
    assert stack.outputs == {"out": {"a": ""}}


def test_suspend_resume_and_delete_run_on_every_server(
    hot: Any, stacks: Stacks, fleet: Any, tasks_of: Tasks, tmp_path: pathlib.Path
) -> None:
    every = ["CREATE", "UPDATE", "SUSPEND", "RESUME", "DELETE"]
    what = hot.script(f"echo $deploy_action >> {tmp_path}/$deploy_resource_name")
    servers = {"a": fleet["a"], "dead": "nobody-is-there"}
    web = group(hot, servers, what, actions=every, pickup_timeout=1, signal_transport="NO_SIGNAL")
    one = group(hot, {"b": fleet["b"]}, what, actions=every)
    stack = stacks.create("every", template(hot, web=web, one=one))
    for verb, action in ((stacks.heat.actions.suspend, "SUSPEND"), (stacks.heat.actions.resume, "RESUME")):
        verb(stack.id)
        stack.wait_until(lambda wanted=f"{action}_COMPLETE": stack.status == wanted)  # type: ignore[misc]
    stack.delete()
    assert (tmp_path / "b").read_text().split() == ["CREATE", "SUSPEND", "RESUME", "DELETE"]
    assert all(task["detached"] for task in tasks_of(stack))


def test_deleting_ends_what_runs_and_skips_the_dead(
    hot: Any, stacks: Stacks, fleet: Any, tmp_path: pathlib.Path
) -> None:
    long = hot.script(f"test $deploy_action = DELETE && exit; echo $$ > {tmp_path}/pid; exec sleep 600")
    servers = {"a": fleet["a"], "dead": "nobody-is-there"}
    web = group(hot, servers, long, actions=["CREATE", "DELETE"], pickup_timeout=2)
    stack = stacks.create("long", template(hot, web=web), wait=False)
    stack.wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    stack.delete()
    assert not pathlib.Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()
    reasons = [e.resource_status_reason for e in stacks.heat.events.list(stack.id) if e.resource_name == "web"]
    assert any(r.startswith("task web/dead of action DELETE was skipped: no agent picked it up") for r in reasons)


@pytest.mark.parametrize(
    ("policy", "properties", "words"),
    [
        ({"rolling_update": {"pause_time": 1800}}, {}, "pauses for 3600 s in all between 3 batches"),
        ({"batch_create": {"max_batch_size": 0}}, {}, "max_batch_size"),
        (None, {"definition": {"group": "../x"}}, "is no group name"),
        (None, {"config": "x"}, "not both"),
    ],
)
def test_what_could_never_run_is_refused_in_words(
    hot: Any, stacks: Stacks, fleet: Any, policy: Any, properties: dict[str, Any], words: str
) -> None:
    web = group(hot, fleet, hot.script("true"), policy, **properties)
    with pytest.raises(Exception, match=words):
        stacks.create("never", template(hot, web=web), timeout_mins=60)


def test_hidden_outputs_are_refused_unless_exposed(hot: Any, stacks: Stacks, fleet: Any) -> None:
    secret = hot.script("printf s3cret > $heat_outputs_path.pw; printf 1 > $heat_outputs_path.n", "pw", "n")
    outputs = {"pw": {"get_attr": ["web", "pw"]}, "all": {"get_attr": ["web", "outputs"]}}
    servers = {name: fleet[name] for name in "ab"}
    with pytest.raises(Exception, match="task web: output pw is hidden, and output pw of the stack reads it"):
        stacks.create("hidden", template(hot, outputs, web=group(hot, servers, secret, hidden_outputs=["pw"])))
    late = {"type": "OS::Heat::Value", "properties": {"type": "comma_delimited_list", "value": ["pw"]}}
    hidden = {"hidden_outputs": {"get_attr": ["late", "value"]}}  # so it shows when it is read
    stack = stacks.create("hidden", template(hot, outputs, late=late, web=group(hot, servers, secret, **hidden)))
    assert stack.outputs == {"pw": None, "all": {"a": {"n": "1"}, "b": {"n": "1"}}}
    exposed = group(hot, servers, secret, expose_hidden=True, **hidden)
    stack.update(template(hot, outputs, late=late, web=exposed))
    shown = {"pw": "s3cret", "n": "1"}
    assert stack.outputs == {"pw": {"a": "s3cret", "b": "s3cret"}, "all": {"a": shown, "b": shown}}


def test_a_server_without_an_agent_is_named(hot: Any, stacks: Stacks, fleet: Any) -> None:
    servers = {"a": fleet["a"], "dead": "nobody-is-there"}
    web = group(hot, servers, hot.script("true"), pickup_timeout=2)
    with pytest.raises(
        DevCloudError, match=r"web failed on 1 of 2 servers: dead .nobody-is-there. timed out: no agent"
    ):
        stacks.create("dead", template(hot, web=web))


def test_the_template_on_the_page_about_upgrades_reaches_every_agent(hot: Any, stacks: Stacks, fleet: Any) -> None:
    """The agents here run from a checkout, so each says that it was installed in another way; one batch was begun."""
    (source,) = [yaml.safe_load(text) for language, text in blocks(ADMIN / "upgrade.rst") if language == "yaml"]
    source["resources"]["agents"]["update_policy"]["batch_create"]["max_batch_size"] = 2
    with pytest.raises(DevCloudError, match=r"failed on 2 of 3 servers: .*installed by user_data.*; not begun on 1: c"):
        stacks.create("upgrade", source, parameters={"release": "0" * 64, "servers": fleet})

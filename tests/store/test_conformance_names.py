# SPDX-License-Identifier: Apache-2.0
"""Conformance: names are compared byte for byte, on every database alike (S27, S33)."""

from __future__ import annotations

import dataclasses

import pytest

from heat_workflow import model
from heat_workflow.store import Store, Tx
from tests.harness import facts
from tests.harness.stores import insert

TWINS = [
    ("a", "A"),
    ("\u00e9", "e\u0301"),  # NFC and NFD
    ("a", "a "),
    ("a", " a"),
    ("a\u200b", "a"),  # zero width
    ("\U0001f600", "\U0001f601"),  # four bytes; some collations take all of them for one
    ("ß", "ss"),
    ("\u0131", "i"),
    ("a", "ä"),
    ("a%", "ab"),
    ("a_", "ab"),
    ("1", "01"),
    ("0", "a"),
]
ODD = [
    "' OR '1'='1",
    "x'); DROP TABLE task; --",
    "\\",
    "\\'",
    "%s",
    "%(x)s",
    ":name",
    "?",
    "\u2019",
    '"',
    "\u202eabc",
    "a/b",
]


async def test_s33_twins_are_two_names(store: Store) -> None:
    for name, twin in TWINS:
        workflow, namesake = facts.workflow(name=name), facts.workflow(name=twin)
        project = workflow.id
        agents = [facts.agent(project_id=project, server=server, version=server) for server in (name, twin)]
        one, other = facts.task(workflow, 1, name=name), facts.task(workflow, 2, name=twin)
        both = [dataclasses.replace(w, project_id=model.ProjectId(project)) for w in (workflow, namesake)]
        await insert(store, one, other, workflows=both, agents=agents)

        def look(
            tx: Tx, name: str = name, twin: str = twin, workflow_id: str = workflow.id, project: str = project
        ) -> list[object]:
            return [
                *(tx.find_names(workflow_id, names) for names in ([name], [twin], [twin, name])),
                *(tx.list_workflows(project, {"name": n}, None, 9) for n in (name, twin)),
                *(
                    tx.list_agents(project, {field: n}, None, 9)
                    for n in (name, twin)
                    for field in ("server", "version")
                ),
            ]

        first, second = ([agent] for agent in agents)
        wanted = [[one], [other], [one, other], both[:1], both[1:], first, first, second, second]
        assert await store.read(look) == wanted, (name, twin)


async def test_s33_a_project_a_route_or_a_key_of_a_twin_is_another_one(store: Store) -> None:
    for name, twin in TWINS:
        mine, theirs = (facts.workflow(project_id=project) for project in (name, twin))
        tasks = [
            facts.task(mine, 1, route=name, concurrency_key=name),
            facts.task(mine, 2, route=twin, concurrency_key=twin),
            facts.task(theirs, 1, route=name, concurrency_key=name),
        ]
        await insert(store, *tasks, workflows=[mine, theirs])

        def look(tx: Tx, name: str = name, twin: str = twin, tasks: list[model.Task] = tasks) -> list[object]:
            found = [tx.find_ready(name, route, 9, 0) for route in (name, twin)]
            taken = [tx.take_key(task) for task in tasks]
            tx.delete_workflow(tasks[0].workflow_id)
            tx.delete_workflow(tasks[2].workflow_id)
            return [*found, taken]

        assert await store.write(look) == [tasks[:1], tasks[1:2], [True] * 3], (name, twin)


@pytest.mark.parametrize("name", ODD)
async def test_s27_text_that_looks_like_sql_is_text(store: Store, name: str) -> None:
    workflow = facts.workflow(name=name, tags=[name])
    tasks = [facts.task(workflow, 1, name=name, route=name, spec={name: name}), facts.task(workflow, 2, name="other")]
    await insert(store, *tasks, workflows=[workflow])
    assert await store.read(lambda tx: tx.find_names(workflow.id, [name])) == tasks[:1]
    assert await store.read(lambda tx: tx.find_ready(facts.PROJECT, name, 10, 0)) == tasks[:1]
    filters = {"name": name, "tag": name}
    assert await store.read(lambda tx: tx.list_workflows(facts.PROJECT, filters, None, 10)) == [workflow]
    assert await store.read(lambda tx: tx.list_workflows(facts.PROJECT, {}, name, 10)) == []
    assert await store.read(lambda tx: tx.list_tasks(workflow.id, marker=name)) == []
    assert await store.read(lambda tx: tx.list_tasks(workflow.id, state=name)) == []


async def test_a_name_of_the_greatest_length_is_kept_whole(store: Store) -> None:
    longest = "\U0001f600" * 255
    workflow = facts.workflow(name=longest)
    task = facts.task(workflow, name=f"{longest}/{longest}", fanout=longest, concurrency_key=longest)
    agent = facts.agent(name=longest)
    await insert(store, task, workflows=[workflow], agents=[agent])
    assert await store.read(lambda tx: tx.find_names(workflow.id, [longest])) == [task]
    assert await store.read(lambda tx: tx.find_agent(agent.id)) == agent
    assert await store.write(lambda tx: tx.take_key(task))
    assert await store.read(lambda tx: tx.key_holder(facts.PROJECT, longest)) == task.id

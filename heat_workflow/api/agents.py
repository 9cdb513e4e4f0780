# SPDX-License-Identifier: Apache-2.0
"""Agents over HTTP, operator side: register, grant, watch, revoke."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from heat_workflow import errors, model
from heat_workflow.api import answers, queries, schemas, views
from heat_workflow.api.pages import fitting, page, written
from heat_workflow.api.routing import Answer, Call, Route
from heat_workflow.store import Tx
from heat_workflow.taskqueue import agents
from heat_workflow.taskqueue.looking import in_batches

ROOT = "/v1/agents"
ONE = ROOT + "/{agent_id}"
_EVENTS_MOST = 2**31 - 1  # what a database takes as LIMIT


def _shown(tx: Tx, project_id: str, agent_id: str) -> dict[str, Any]:
    agent = agents.get_agent(tx, project_id, agent_id)
    return views.agent(agent, [task.id for task in tx.held_tasks(agent.id)])


async def list_agents(call: Call) -> Answer:
    query: queries.AgentsQuery = call.query
    if query.all_projects and not call.allowed("agents:get_all_projects"):
        raise errors.Forbidden("the policy agents:get_all_projects does not allow this with your roles", code="policy")
    filters: dict[str, Any] = {"server": query.server, "version": query.version}
    filters["state"] = None if query.state is None else query.state.value
    filters["seen_before"] = None if query.seen_before is None else query.seen_before.timestamp()
    given = {name: value for name, value in filters.items() if value is not None}
    project_id = None if query.all_projects else call.project_id

    def read(tx: Tx) -> bytes:
        def some(marker: str | None, count: int) -> list[model.Agent]:
            return tx.list_agents(project_id, given, marker, count)

        def shown() -> Iterator[dict[str, Any]]:
            for found in in_batches(some, query.marker, lambda agent: agent.id):
                running = tx.running_tasks([agent.id for agent in found])
                yield from (views.agent(agent, running.get(agent.id, [])) for agent in found)

        return page("agents", shown(), query.limit)

    return Answer(200, await call.queue.read(read))


async def put_agent(call: Call) -> Answer:
    body: schemas.AgentIn = call.body
    agent, token, new = await call.quotas.write(
        call.project_id, agents.register_agent, call.project_id, call.path["agent_id"], body.new_agent()
    )
    return Answer(201 if new else 200, await _registration(call, agent, token))


async def _registration(call: Call, agent: model.Agent, token: str | None) -> dict[str, Any]:
    current = await asyncio.to_thread(call.releases.find_current)
    return {**views.agent(agent, []), "join_token": token, "agent_sha256": current}


async def show_agent(call: Call) -> Answer:
    return Answer(200, await call.queue.read(_shown, call.project_id, call.path["agent_id"]))


async def change_agent(call: Call) -> Answer:
    body: schemas.AgentPatch = call.body
    agent_id = call.path["agent_id"]
    await call.queue.write(agents.change_agent, call.project_id, agent_id, body.name, body.capabilities, body.server)
    return Answer(200, await call.queue.read(_shown, call.project_id, agent_id))


async def delete_agent(call: Call) -> Answer:
    await call.queue.write(agents.revoke_agent, call.project_id, call.path["agent_id"])
    return Answer(204)


async def rejoin_agent(call: Call) -> Answer:
    body: schemas.RejoinIn = call.body
    agent, token = await call.queue.write(agents.rejoin_agent, call.project_id, call.path["agent_id"], body.join_ttl)
    return Answer(200, await _registration(call, agent, token))


async def quarantine_agent(call: Call) -> Answer:
    await call.queue.write(agents.quarantine_agent, call.project_id, call.path["agent_id"])
    return Answer(200, await call.queue.read(_shown, call.project_id, call.path["agent_id"]))


async def list_agent_events(call: Call) -> Answer:
    """Numbered from 1 for each agent: the store's own numbers would tell how much happens in other projects."""
    query: queries.AgentEventsQuery = call.query

    def read(tx: Tx) -> bytes:
        agent = agents.find_any_state(tx, call.project_id, call.path["agent_id"])
        found = tx.list_agent_events(agent.id, 0, min(query.after + query.limit, _EVENTS_MOST))[query.after :]
        shown = (views.agent_event(seq, event) for seq, event in enumerate(found, query.after + 1))
        kept, _ = fitting(shown, query.limit)
        return written("events", [text for _, text in kept], last=query.after + len(kept))

    return Answer(200, await call.queue.read(read))


def _drain(draining: bool) -> Callable[[Call], Any]:
    async def endpoint(call: Call) -> Answer:
        await call.queue.write(agents.drain_agent, call.project_id, call.path["agent_id"], draining)
        return Answer(200, await call.queue.read(_shown, call.project_id, call.path["agent_id"]))

    return endpoint


EVENTS_QUERY = queries.AgentEventsQuery
GET, MANAGE = "agents:get", "agents:manage"
ROUTES = [
    Route("GET", ROOT, list_agents, GET, "List agents", shows=answers.Agents, query=queries.AgentsQuery),
    Route(
        "PUT",
        ONE,
        put_agent,
        MANAGE,
        "Register: the join token is shown here, once",
        shows=answers.Registration,
        body=schemas.AgentIn,
        answers=(200, 201),
        refusals=(404, 409, 429),
    ),
    Route("GET", ONE, show_agent, GET, "Show an agent", shows=answers.Agent, refusals=(404,)),
    Route(
        "PATCH",
        ONE,
        change_agent,
        MANAGE,
        "Grant capabilities, bind the server",
        shows=answers.Agent,
        body=schemas.AgentPatch,
        refusals=(404,),
    ),
    Route("DELETE", ONE, delete_agent, MANAGE, "Revoke", answers=(204,), refusals=(404,)),
    Route(
        "POST",
        ONE + "/rejoin",
        rejoin_agent,
        MANAGE,
        "A new join token",
        shows=answers.Registration,
        body=schemas.RejoinIn,
        body_may_lack=True,
        refusals=(404,),
    ),
    Route("POST", ONE + "/drain", _drain(True), MANAGE, "Give no new work", shows=answers.Agent, refusals=(404,)),
    Route("POST", ONE + "/undrain", _drain(False), MANAGE, "Give work again", shows=answers.Agent, refusals=(404,)),
    Route(
        "POST",
        ONE + "/quarantine",
        quarantine_agent,
        MANAGE,
        "Cut off, keep the evidence",
        shows=answers.Agent,
        refusals=(404,),
    ),
    Route(
        "GET",
        ONE + "/events",
        list_agent_events,
        GET,
        "Security events",
        shows=answers.AgentEvents,
        query=queries.AgentEventsQuery,
        refusals=(404,),
    ),
]

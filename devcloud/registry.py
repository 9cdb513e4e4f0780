# SPDX-License-Identifier: Apache-2.0
"""Registry: which agents the API knows, with the join data that Heat holds for them."""

import dataclasses
import urllib.parse
from collections.abc import Iterator, Mapping

from keystoneauth1.session import Session

ORCHESTRATION = {"service_type": "orchestration", "interface": "public"}
GUEST_TASKS = {"service_type": "guest-tasks", "interface": "public"}


@dataclasses.dataclass(frozen=True)
class Registered:
    """An agent as the API lists it."""

    id: str
    name: str
    state: str
    server: str | None
    heat: Mapping[str, str] | None
    join_expires_at: str | None


def list_registered(admin: Session) -> Iterator[Registered]:
    """Every agent of every project; raises keystoneauth1's exceptions when the API cannot be asked."""
    marker = ""
    while True:
        answer = admin.get(f"/v1/agents?all_projects=true{marker}", endpoint_filter=GUEST_TASKS).json()
        for agent in answer["agents"]:
            yield Registered(**{field.name: agent.get(field.name) for field in dataclasses.fields(Registered)})
        if not answer.get("next_marker"):
            return
        marker = f"&marker={urllib.parse.quote(answer['next_marker'])}"


def find_join_data(admin: Session, agent: Registered) -> Mapping[str, str] | None:
    """The `join` attribute of the agent's Heat resource; None while Heat has none, or when it was used."""
    if agent.heat is None:
        return None
    stack = f"{urllib.parse.quote(agent.heat['stack_name'])}/{agent.heat['stack_id']}"
    resource = urllib.parse.quote(agent.heat["resource"], safe="")
    path = f"/stacks/{stack}/resources/{resource}?with_attr=join"
    shown = admin.get(path, endpoint_filter=ORCHESTRATION).json()["resource"]
    join = shown["attributes"].get("join")
    return join if isinstance(join, Mapping) else None

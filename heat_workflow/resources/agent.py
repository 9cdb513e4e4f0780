# SPDX-License-Identifier: Apache-2.0
"""Agent: the type OS::HeatWorkflow::Agent, which registers an agent and holds what a machine needs to join as it."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

from heat.common import exception
from heat.common.i18n import _
from heat.engine import attributes, constraints, properties, support

from heat_workflow import errors
from heat_workflow.client import Client
from heat_workflow.client_plugin import CLIENT_NAME, MOST_JOIN_TTL
from heat_workflow.resources import secrecy
from heat_workflow.resources.user_data import NO_RELEASE, agent_part
from heat_workflow.shapes import AgentBody, Join, Registration

NAME, CAPABILITIES, SERVER, JOIN_TTL = "name", "capabilities", "server", "join_ttl"
AGENT_ID, JOIN, USER_DATA = "agent_id", "join", "user_data"
TOKEN_KEY, EXPIRES_KEY, USER_DATA_KEY = "join_token", "join_expires_at", "user_data"

_Schema = properties.Schema

name_schema = _Schema(
    _Schema.STRING,
    _("Name of the agent, for people. Default: made from the names of stack and resource."),
    update_allowed=True,
)
capabilities_schema = _Schema(
    _Schema.LIST,
    _("What the agent may be given to do, besides the tasks of its own server."),
    schema=_Schema(_Schema.STRING),
    default=[],
    update_allowed=True,
)
join_ttl_schema = _Schema(
    _Schema.INTEGER,
    _("Seconds within which the machine has to join, at most a day. Default: as the cloud is configured, an hour."),
    constraints=[constraints.Range(min=1, max=MOST_JOIN_TTL)],
    update_allowed=True,
)
agent_id_attribute = attributes.Schema(_("ID of the agent."), type=attributes.Schema.STRING)
join_attribute = attributes.Schema(
    _(
        "What the machine needs to join: api_url, agent_id, join_token and ca_pem, the [agent] section of its "
        "agent.conf. Null once it has joined, for the token is good once, and null for everybody who may not update "
        "the stack."
    ),
    type=attributes.Schema.MAP,
    cache_mode=attributes.Schema.CACHE_NONE,
)
user_data_attribute = attributes.Schema(
    _(
        "User data that makes a server with a stock cloud image join as this agent: it fetches the agent, checks its "
        "digest, and starts it at every boot. As part of an OS::Heat::MultipartMime it goes with other parts. It stays "
        "the same after the join token in it was used, so that it replaces no server. Null for everybody who may not "
        "update the stack."
    ),
    type=attributes.Schema.STRING,
    cache_mode=attributes.Schema.CACHE_NONE,
)


class AgentResource(secrecy.KeepsSecrets):
    """Registers an agent with the tasks API; deleting the resource revokes the agent.

    ``get_resource`` gives what a Task takes as its server: the property server, or the agent's own ID if there is
    none. The agent may run every task of that server.
    """

    support_status = support.SupportStatus(version="1.0.0")
    default_client_name = CLIENT_NAME
    always_replace_on_check_failed = False
    secret_data = frozenset({TOKEN_KEY, USER_DATA_KEY})

    properties_schema = {
        NAME: name_schema,
        CAPABILITIES: capabilities_schema,
        SERVER: _Schema(
            _Schema.STRING,
            _(
                "ID of the server that the agent is in, if that exists before the agent does. Leave it out when the "
                "server boots with this agent's join data."
            ),
            update_allowed=True,
        ),
        JOIN_TTL: join_ttl_schema,
    }
    attributes_schema = {AGENT_ID: agent_id_attribute, JOIN: join_attribute, USER_DATA: user_data_attribute}

    def handle_create(self) -> None:
        self.resource_id_set(self.uuid)
        self._keep_token(self._api().put_agent(self.resource_id, self._registration()))

    def needs_replace_failed(self) -> bool:
        """Never: a machine may already have joined as this agent."""
        return False

    def _needs_update(self, *args: Any, **kwargs: Any) -> bool:
        changed: bool = super()._needs_update(*args, **kwargs)
        return changed or self.status == self.FAILED or self._token_is_useless() or self._lacks_user_data()

    def handle_update(self, json_snippet: Any, tmpl_diff: Any, prop_diff: Any) -> None:
        self.properties = json_snippet.properties(self.properties_schema, self.context)
        if self.resource_id is None:
            self.handle_create()
            return
        try:
            agent = self._api().get_agent(self.resource_id)
        except errors.NotFound:  # the engine ended before the registration got through
            self._keep_token(self._api().put_agent(self.resource_id, self._registration()))
            return
        wanted = self._registration()
        self._api().patch_agent(
            self.resource_id,
            {"name": wanted["name"], "capabilities": wanted["capabilities"], "server": wanted["server"]},
        )
        if agent["state"] != "pending":
            self.data_delete(TOKEN_KEY)
        elif (
            JOIN_TTL in prop_diff or TOKEN_KEY not in self.data() or self._token_is_useless() or self._lacks_user_data()
        ):
            self._keep_token(self._api().rejoin_agent(self.resource_id))

    def handle_check(self) -> None:
        agent = self._api().get_agent(self.resource_id)
        if agent["state"] in ("suspect", "revoked"):
            raise exception.Error(f"agent {agent['name']} ({agent['id']}) is {agent['state']}")

    def handle_delete(self) -> None:
        if self.resource_id is None:
            return
        with contextlib.suppress(errors.NotFound):
            self._api().delete_agent(self.resource_id)

    def get_reference_id(self) -> str:
        if self.resource_id is None:
            return str(self.name)
        return str(self._server() or self.resource_id)

    def _resolve_attribute(self, name: str) -> Any:
        if self.resource_id is None or name == AGENT_ID:
            return self.resource_id
        if not secrecy.may_have_secrets(self.stack):
            return None
        return self._user_data() if name == USER_DATA else self._join()

    def _server(self) -> str | None:
        """The server that the author names, None if the agent stands for itself."""
        server: str | None = self.properties[SERVER]
        return server

    def _registration(self) -> AgentBody:
        return {
            "name": self.properties[NAME] or self.physical_resource_name() or self.name,
            "capabilities": sorted(self.properties[CAPABILITIES]),
            "server": self._server() or self.resource_id,
            "join_ttl": self.properties[JOIN_TTL] or self.client_plugin().join_ttl(),
            "heat": {"stack_id": self.stack.id, "stack_name": self.stack.name, "resource": self.name},
        }

    def _keep_token(self, registration: Registration) -> None:
        """Keep the token, encrypted: the API shows it once. It is dropped when it was used."""
        token, release = registration.get("join_token"), registration.get("agent_sha256")
        if token is None:
            return
        self.data_set(TOKEN_KEY, token, redact=True)
        self.data_set(EXPIRES_KEY, registration["join_expires_at"])
        if USER_DATA in self.attributes_schema and release is not None:
            self.data_set(USER_DATA_KEY, agent_part(self._join_data(token), release), redact=True)

    def _token_is_useless(self) -> bool:
        """Whether a token that nobody used has run out, or cannot be read here, so that an update makes a new one."""
        data = self.data()
        if TOKEN_KEY not in data or EXPIRES_KEY not in data:
            return False
        expires_at = datetime.datetime.fromisoformat(data[EXPIRES_KEY].replace("Z", "+00:00"))
        return self._secret(TOKEN_KEY) is None or expires_at <= datetime.datetime.now(datetime.timezone.utc)

    def _join(self) -> Join | None:
        token = self._secret(TOKEN_KEY)
        if token is None:
            return None
        # If the API cannot tell (it is out of reach, or an admin of another project asks) the token may be unused.
        with contextlib.suppress(errors.HeatWorkflowError):
            if self._api().get_agent(self.resource_id)["state"] != "pending":
                self.data_delete(TOKEN_KEY)
                return None
        return self._join_data(token)

    def _join_data(self, token: str) -> Join:
        plugin = self.client_plugin()
        return {
            "api_url": plugin.guest_api_url(),
            "agent_id": str(self.resource_id),
            "join_token": token,
            "ca_pem": plugin.guest_ca_pem(),
        }

    def _user_data(self) -> str:
        """The text made with the token, kept as it was: another text would replace the server that booted with it."""
        kept = self._secret(USER_DATA_KEY)
        if kept is None:
            raise exception.Error(f"agent {self.name}: {NO_RELEASE}")
        return kept

    def _lacks_user_data(self) -> bool:
        """Whether the last token was given out while the API had no agent to serve."""
        return USER_DATA in self.attributes_schema and self._secret(USER_DATA_KEY) is None

    def _api(self) -> Client:
        client: Client = self.client_plugin().client_for(self.stack)
        return client

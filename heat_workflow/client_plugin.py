# SPDX-License-Identifier: Apache-2.0
"""Client plugin: how heat-engine gets a client of the tasks API, with the stack's rights and shared connections."""

from __future__ import annotations

import datetime
import functools
import logging
import pathlib
import weakref
from collections.abc import Callable
from typing import Any

import requests
from heat.common import config as heat_config
from heat.common import exception as heat_exception
from heat.engine.clients import client_plugin
from keystoneauth1 import exceptions as ks_exceptions
from keystoneauth1 import plugin as ks_plugin
from keystoneauth1 import session as ks_session
from oslo_config import cfg

from heat_workflow import authorities, errors
from heat_workflow.client import SERVICE_TYPE, Client

LOG = logging.getLogger(__name__)

CLIENT_NAME = "heat_workflow"
CLIENT_GROUP = "clients_heat_workflow"
GUEST_GROUP = "heat_workflow"
FAULTS_TOLD = 5  # a bundle of public CAs has more
JOIN_TTL = 3600
MOST_JOIN_TTL = 24 * 3600
CONNECTIONS_KEPT = 128  # heat-engine runs 64 threads per worker, and each holds at most one request

client_opts = [
    cfg.StrOpt("endpoint_type", help="Interface of the catalog's guest-tasks endpoint that heat-engine calls."),
    cfg.StrOpt("ca_file", help="File of the CA certificates that the tasks API's certificate is checked against."),
    cfg.BoolOpt("insecure", help="If set, the tasks API's certificate is not checked. For tests only."),
    cfg.StrOpt("cert_file", help="File of a client certificate to show to the tasks API."),
    cfg.StrOpt("key_file", help="File of that certificate's key."),
]
guest_opts = [
    cfg.StrOpt(
        "guest_api_url",
        help="URL at which guests reach the tasks API, without a path. Default: the public guest-tasks endpoint.",
    ),
    cfg.StrOpt(
        "guest_ca_file",
        help="File of the CA certificates that guests check the tasks API against. Default: the guest trust store.",
    ),
    cfg.IntOpt(
        "join_token_ttl",
        default=JOIN_TTL,
        min=1,
        max=MOST_JOIN_TTL,
        help="Seconds a join token is good for where the template does not say. Until then, or until the machine has "
        "joined, whoever sees the token can join in the machine's place: no longer than a machine takes to boot.",
    ),
    cfg.FloatOpt(
        "waiting_event_after",
        default=60,
        min=1,
        help="Seconds after which a stack event says what a task waits for that no agent has begun, and that lie "
        "at least between two such events when the reason changes.",
    ),
    cfg.FloatOpt(
        "delete_wait",
        default=60,
        min=1,
        help="Seconds a DELETE task or an undo may wait for an agent; then it is skipped, and a stack event says so. "
        "A dead server would hold up the deletion of its stack otherwise.",
    ),
]
cfg.CONF.register_opts(client_opts, group=CLIENT_GROUP)
cfg.CONF.register_opts(guest_opts, group=GUEST_GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The options for heat.conf, for oslo.config's generator."""
    return [(CLIENT_GROUP, client_opts), (GUEST_GROUP, guest_opts)]


@functools.lru_cache(maxsize=4)
def _tell_faults(ca_file: str, pem: str) -> None:
    """Once for what is in the file: a server that waits for an agent whose first boot fails tells nobody why."""
    for fault in authorities.faults_of_ca(pem.encode(), datetime.datetime.now(datetime.timezone.utc))[:FAULTS_TOLD]:
        LOG.warning("guests may refuse the tasks API: guest_ca_file %s: %s", ca_file, fault)


class StackAuth(ks_plugin.BaseAuthPlugin):  # type: ignore[misc]
    """The request's own token, and once that is refused the stack's stored rights (its trust).

    A stack operation may outlive the token it began with; keystoneauth repeats a request that got 401 once if
    ``invalidate`` says that there is something else to try.
    """

    def __init__(self, context: Any, stored_context: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self._context = context
        self._stored_context = stored_context

    def get_token(self, session: ks_session.Session, **kwargs: Any) -> str | None:
        # The context's own session reaches keystone with keystone's CA; ours knows only the tasks API's.
        token: str | None = self._context.auth_plugin.get_token(self._context.keystone_session)
        return token

    def invalidate(self) -> bool:
        find, self._stored_context = self._stored_context, None
        if find is None:
            return False
        try:
            stored = find()
            stored.auth_plugin.get_token(stored.keystone_session)
        except (heat_exception.HeatException, ks_exceptions.ClientException) as failure:
            LOG.warning("token was refused and the stack's stored rights are of no use: %s", failure)
            return False
        LOG.info("token was refused, went on with the stack's stored rights (trust %s)", stored.trust_id)
        self._context = stored
        return True


class HeatWorkflowClientPlugin(client_plugin.ClientPlugin):  # type: ignore[misc]
    """Heat's way to the tasks API: ``client()`` as any plugin, ``client_for(stack)`` for what may take long."""

    exceptions_module = errors
    service_types = [GUEST_TASKS] = [SERVICE_TYPE]

    def _create(self, version: str | None = None) -> Client:
        return self._client(StackAuth(self.context))

    def client_for(self, stack: Any) -> Client:
        """A client that outlives the request's token by means of the stack's trust; one per stack and context."""
        key = ("stack", stack.id)
        if key not in self._client_instances:
            alive = weakref.ref(stack)

            def stored_context() -> Any:
                living = alive()
                if living is None:
                    raise heat_exception.Error("the stack is not loaded any more")
                return living.stored_context()

            self._client_instances[key] = self._client(StackAuth(self.context, stored_context))
        client: Client = self._client_instances[key]
        return client

    def guest_api_url(self) -> str:
        """Where guests reach the tasks API."""
        url = cfg.CONF[GUEST_GROUP].guest_api_url or self.url_for(service_type=SERVICE_TYPE, interface="public")
        return str(url).rstrip("/")

    def guest_ca_pem(self) -> str | None:
        """The CA certificates for guests; None: their own trust store will do."""
        ca_file = cfg.CONF[GUEST_GROUP].guest_ca_file
        if not ca_file:
            return None
        pem = pathlib.Path(ca_file).read_text()
        _tell_faults(ca_file, pem)
        return pem

    def join_ttl(self) -> int:
        """Seconds a join token is good for where the template does not say."""
        return int(cfg.CONF[GUEST_GROUP].join_token_ttl)

    def waiting_event_after(self) -> float:
        """Seconds after which an event says what a task waits for."""
        return float(cfg.CONF[GUEST_GROUP].waiting_event_after)

    def delete_wait(self) -> float:
        """Seconds that work which only cleans up may wait for an agent."""
        return float(cfg.CONF[GUEST_GROUP].delete_wait)

    def is_not_found(self, ex: BaseException) -> bool:
        return isinstance(ex, errors.NotFound)

    def is_conflict(self, ex: BaseException) -> bool:
        return isinstance(ex, errors.Conflict)

    def is_over_limit(self, ex: BaseException) -> bool:
        return isinstance(ex, (errors.TooLarge, errors.TooMany))

    def is_not_yet(self, ex: BaseException) -> bool:
        """Whether the API is only out of reach for now, so that a waiting resource goes on waiting."""
        return isinstance(ex, (errors.Unavailable, errors.TooMany))

    def _client(self, auth: StackAuth) -> Client:
        http = requests.Session()
        http.trust_env = False  # no proxy and no .netrc on the way to an internal endpoint; asking for them costs 1 ms
        http.mount("https://", _connections())
        http.mount("http://", _connections())
        session = ks_session.Session(
            auth=auth,
            session=http,
            connect_retries=cfg.CONF.client_retry_limit,
            **heat_config.get_ssl_options(CLIENT_NAME),
        )
        interface = self._get_client_option(CLIENT_NAME, "endpoint_type")
        return Client(
            session,
            endpoint_override=self.url_for(service_type=SERVICE_TYPE, endpoint_type=interface),
            global_request_id=self.context.request_id,
        )


@functools.cache
def _connections() -> Any:
    """The process's kept connections to the tasks API, keyed by host and CA inside.

    Heat makes a context, and with it a client, for every resource it works on; without this each would begin with
    a TLS handshake.
    """
    return ks_session.TCPKeepAliveAdapter(pool_connections=8, pool_maxsize=CONNECTIONS_KEPT)

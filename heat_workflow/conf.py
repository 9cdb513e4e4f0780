# SPDX-License-Identifier: Apache-2.0
"""Configuration of the tasks API: every option with its meaning, unit and default."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

API = [
    cfg.HostAddressOpt("bind_host", default="127.0.0.1", help="Address the API listens on."),
    cfg.PortOpt("bind_port", default=8790, help="Port the API listens on."),
    cfg.StrOpt("cert_file", help="PEM certificate chain; with key_file the API speaks TLS itself."),
    cfg.StrOpt("key_file", help="PEM private key of cert_file."),
    cfg.StrOpt(
        "auth_strategy",
        default="keystone",
        choices=[
            ("keystone", "keystonemiddleware validates every operator token"),
            ("noauth", "X-Auth-Token is taken as user:project[:role,role]; loopback addresses only"),
        ],
        help="How operators prove who they are. Agents always use their own credential.",
    ),
    cfg.ListOpt(
        "serve",
        default=["operator", "guest"],
        help="The halves this process serves. In production run two: operator inside, guest where guests reach it.",
    ),
    cfg.ListOpt(
        "trusted_proxies",
        default=[],
        help="Addresses or networks of proxies in front of the API. Their X-Forwarded-For says where a request comes "
        "from, for the limits that count by source address; anybody else's is ignored.",
    ),
    cfg.FloatOpt(
        "max_wait",
        default=50.0,
        min=1.0,
        max=50.0,
        help="Seconds for which an answer is held back at most: an agent's poll, an operator's ?wait. Keep it "
        "below the idle timeout of the proxies in front.",
    ),
    cfg.IntOpt("keep_days", default=30, min=1, help="Days that finished workflows and revoked agents are kept."),
    cfg.StrOpt(
        "agents_dir",
        default="/var/lib/heat-workflow/agents",
        help="Directory of the released agents, files ending in .pyz, that the API serves to guests. Command "
        "heat-workflow-manage agent build puts them there. It is the same on every host of the API.",
    ),
]
DATABASE = [
    cfg.StrOpt(
        "connection",
        default="sqlite:////var/lib/heat-workflow/heat-workflow.sqlite",
        secret=True,
        help="SQLAlchemy URL of the store: sqlite:///PATH, postgresql+psycopg://... or mysql+pymysql://...",
    ),
]
SECRETS = [
    cfg.StrOpt(
        "key_file", help="Key ring that hidden values are encrypted with; made by heat-workflow-manage key add."
    ),
]
QUOTA = [
    cfg.IntOpt(
        "workflows",
        default=100_000,
        min=-1,
        help="Workflows that one project may keep, finished ones until they are purged too. -1: any number. A request "
        "that would never fit is refused with 413, one that does not fit now with 429. Each API process looks the sum "
        "up every 30 s, so several may let a project go somewhat beyond.",
    ),
    cfg.IntOpt("tasks", default=2_000_000, min=-1, help="Tasks that one project may keep. -1: any number."),
    cfg.IntOpt(
        "bytes",
        default=20 * 1024**3,
        min=-1,
        help="Bytes that one project may keep: definitions, inputs, outputs and logs. Outcomes are counted and never "
        "refused. -1: any number.",
    ),
    cfg.IntOpt(
        "agents",
        default=50_000,
        min=-1,
        help="Agents that one project may have, revoked ones not counted. -1: any number.",
    ),
]
GROUPS: dict[str, Sequence[cfg.Opt]] = {"api": API, "database": DATABASE, "secrets": SECRETS, "quota": QUOTA}


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known to ``conf``; repeated, it does nothing."""
    for group, options in GROUPS.items():
        conf.register_opts(options, group=group)


def list_opts() -> list[tuple[str, Sequence[cfg.Opt]]]:
    """For oslo-config-generator."""
    return list(GROUPS.items())

# SPDX-License-Identifier: Apache-2.0
"""heat-workflow-manage: what an operator does to the store itself, beside the API.

Exit status: 0 done, 1 refused or failed (standard error says why), 2 not understood.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from oslo_config import cfg
from oslo_log import log

from heat_workflow import conf as options
from heat_workflow import errors
from heat_workflow.cmd import agent_archive
from heat_workflow.releases import Releases
from heat_workflow.store import Store, schema
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.opening import open_store
from heat_workflow.taskqueue import agents, upkeep

_PAGE = 200  # hidden values in one transaction
T = TypeVar("T")
Run = Callable[[cfg.ConfigOpts, argparse.Namespace], None]


@dataclasses.dataclass(frozen=True)
class Command:
    """One command, ``heat-workflow-manage GROUP NAME``; ``run`` raises a HeatWorkflowError where it cannot."""

    group: str
    name: str
    run: Run
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def sync(conf: cfg.ConfigOpts, args: argparse.Namespace) -> None:
    done = schema.sync(conf.database.connection, args.phase)
    for revision in done:
        print(f"ran {revision}")
    if not done:
        print(f"nothing to do: the database stands at {schema.version(conf.database.connection)}")


def _sync_arguments(parser: argparse.ArgumentParser) -> None:
    phase = parser.add_mutually_exclusive_group()
    pre = "only what the release before can live with: run it before the first replica is upgraded"
    post = "only what no replica of the release before bears: run it after the last one is upgraded"
    phase.add_argument("--pre", dest="phase", action="store_const", const="pre", help=pre)
    phase.add_argument("--post", dest="phase", action="store_const", const="post", help=post)


def version(conf: cfg.ConfigOpts, _args: argparse.Namespace) -> None:
    current = schema.version(conf.database.connection)
    print(f"{current or 'none'} (this release: {schema.newest()})")


def purge(conf: cfg.ConfigOpts, args: argparse.Namespace) -> None:
    days = conf.api.keep_days if args.older_than is None else args.older_than
    # A tombstone keeps its agent's id from being used again, so it stays for keep_days at least.
    tombstone_days = max(days, conf.api.keep_days)
    if args.dry_run:
        found = _on_store(conf, lambda store: store.read(lambda tx: upkeep.count_purgeable(tx, days, tombstone_days)))
        print(f"would remove {found.workflows} workflows and {found.tombstones} revoked agents")
        return
    gone, definitions = _on_store(conf, lambda store: _purge(store, days, tombstone_days))
    print(
        f"removed {gone.workflows} workflows and {gone.tombstones} revoked agents, "
        f"and {definitions} definitions that no task has any more"
    )


async def _purge(store: Store, days: float, tombstone_days: float) -> tuple[upkeep.Purged, int]:
    workflows = tombstones = definitions = 0
    while True:
        gone = await store.write(lambda tx: upkeep.purge(tx, days, tombstone_days))
        workflows, tombstones = workflows + gone.workflows, tombstones + gone.tombstones
        if not gone.workflows and not gone.tombstones:
            break
    while unused := await store.write(upkeep.purge_definitions):
        definitions += unused
    return upkeep.Purged(workflows, tombstones), definitions


def _purge_arguments(parser: argparse.ArgumentParser) -> None:
    older = "days since a workflow ended ([api] keep_days); revoked agents stay for keep_days at least"
    parser.add_argument("--older-than", type=_days, metavar="DAYS", help=older)
    parser.add_argument("--dry-run", action="store_true", help="count only")


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < 100_000:
        raise argparse.ArgumentTypeError(f"{text} is no number of days")
    return days


def rejoin(conf: cfg.ConfigOpts, args: argparse.Namespace) -> None:
    """One line of JSON per agent, with its new join token, on standard output and nowhere else."""
    count = _on_store(conf, lambda store: _rejoin(store, args.project, args.join_ttl))
    print(f"{count} agents have to join again", file=sys.stderr)


async def _rejoin(store: Store, project_id: str | None, join_ttl: float) -> int:
    found = await store.read(lambda tx: upkeep.list_agents(tx, project_id))
    for listed in found:
        agent, token = await store.write(
            lambda tx, a=listed: agents.rejoin_agent(tx, a.project_id, a.id, join_ttl)  # type: ignore[misc]
        )
        shown = {"agent_id": agent.id, "project_id": agent.project_id, "name": agent.name, "server": agent.server}
        print(json.dumps({**shown, "join_token": token}), flush=True)
    return len(found)


def _rejoin_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="the agents of every project")
    which.add_argument("--project", metavar="ID", help="the agents of one project")
    most = agents.JOIN_TTL_MOST
    parser.add_argument("--join-ttl", type=float, default=most, metavar="S", help=f"seconds to join in ({most:g})")


def revoke_all(conf: cfg.ConfigOpts, _args: argparse.Namespace) -> None:
    count = _on_store(conf, _revoke_all)
    print(f"{count} agents are locked out until they join again: heat-workflow-manage agent rejoin --all")


async def _revoke_all(store: Store) -> int:
    found = await store.read(lambda tx: upkeep.list_agents(tx, None))
    ended = [
        await store.write(lambda tx, a=agent: upkeep.revoke_session(tx, a.id))  # type: ignore[misc]
        for agent in found
    ]
    return sum(ended)


def key_add(conf: cfg.ConfigOpts, _args: argparse.Namespace) -> None:
    """Every API process has to read the new ring before values sealed with it can be read everywhere."""
    path = _key_file(conf)
    ring = (KeyRing.load(path) if os.path.exists(path) else KeyRing()).with_new_key()
    ring.save(path)
    print(
        f"key {ring.primary} seals from now on; {len(ring.keys)} keys in {path}. Copy the file to every API host, "
        "restart the API processes, then run: heat-workflow-manage key rotate"
    )


def key_rotate(conf: cfg.ConfigOpts, _args: argparse.Namespace) -> None:
    print(f"{_on_store(conf, _reseal)} hidden values are sealed with key {KeyRing.load(_key_file(conf)).primary}")


def key_check(conf: cfg.ConfigOpts, _args: argparse.Namespace) -> None:
    ring = KeyRing.load(_key_file(conf))
    count = _on_store(conf, _check_sealed)
    print(f"{count} hidden values can be read; {len(ring.keys)} keys, key {ring.primary} seals")


async def _reseal(store: Store) -> int:
    total: int = 0
    marker: tuple[str, str, str] | None = None
    while True:
        count, marker = await store.write(lambda tx, m=marker: tx.reseal(m, _PAGE))  # type: ignore[misc]
        total += count
        if marker is None:
            return total


async def _check_sealed(store: Store) -> int:
    count: int = await store.read(lambda tx: tx.count_readable_secrets())
    return count


def _key_file(conf: cfg.ConfigOpts) -> str:
    if not conf.secrets.key_file:
        raise errors.Invalid("[secrets] key_file is not set in heat-workflow.conf")
    return str(conf.secrets.key_file)


def build(conf: cfg.ConfigOpts, _args: argparse.Namespace) -> None:
    content = agent_archive.build_agent()
    digest = Releases(conf.api.agents_dir).add(content)
    print(f"{digest} {len(content)} bytes in {conf.api.agents_dir}; new machines get it")


def current(conf: cfg.ConfigOpts, args: argparse.Namespace) -> None:
    releases = Releases(conf.api.agents_dir)
    if args.sha256:
        releases.make_current(args.sha256)
    chosen = releases.find_current()
    for digest in releases.digests():
        print(f"{digest}{' current' if digest == chosen else ''}")


def _current_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sha256", nargs="?", help="the release that new machines shall get; without it, show them")


COMMANDS: Sequence[Command] = [
    Command("db", "sync", sync, "bring the database to this release's schema", _sync_arguments),
    Command("db", "version", version, "show the schema's revision"),
    Command("db", "purge", purge, "remove ended workflows and revoked agents that are old enough", _purge_arguments),
    Command("key", "add", key_add, "make a new key that seals hidden values from now on"),
    Command("key", "rotate", key_rotate, "seal all hidden values anew with the newest key"),
    Command("key", "check", key_check, "make sure that every hidden value can be read"),
    Command("agent", "build", build, "make the agent's file and have new machines get it"),
    Command("agent", "current", current, "show the releases of the agent, or choose another", _current_arguments),
    Command("agent", "rejoin", rejoin, "give agents new join tokens; their old secrets are void", _rejoin_arguments),
    Command("session", "revoke-all", revoke_all, "void every agent's secret, as after a restored backup"),
]


def _on_store(conf: cfg.ConfigOpts, work: Callable[[Store], Awaitable[T]]) -> T:
    """The result of the work on the configured store."""

    async def run() -> T:
        store = open_store(conf.database.connection, conf.secrets.key_file)
        await store.start(lambda keys: None)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heat-workflow-manage", description="Look after the store of heat-workflow.")
    parser.add_argument("--config-file", action="append", metavar="PATH", help="instead of heat-workflow.conf")
    parser.add_argument("--config-dir", action="append", metavar="PATH", help="a directory of *.conf files")
    groups = parser.add_subparsers(required=True, metavar="GROUP")
    made: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for command in COMMANDS:
        if command.group not in made:
            group = groups.add_parser(
                command.group, help=", ".join(c.name for c in COMMANDS if c.group == command.group)
            )
            made[command.group] = group.add_subparsers(required=True, metavar="COMMAND")
        one = made[command.group].add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(one)
        one.set_defaults(run=command.run)
    return parser


def _configured(args: argparse.Namespace) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    options.register(conf)
    places = {"--config-file": args.config_file or [], "--config-dir": args.config_dir or []}
    conf(
        [part for option, paths in places.items() for path in paths for part in (option, path)], project="heat-workflow"
    )
    conf.set_default("use_stderr", True)  # standard output is for what was asked
    log.set_defaults(default_log_levels=[*log.get_default_log_levels(), "alembic=WARN"])
    log.setup(conf, "heat-workflow")
    return conf


def main(argv: list[str] | None = None) -> int:
    """Run one command."""
    args = _parser().parse_args(argv)
    try:
        args.run(_configured(args), args)
    except (errors.HeatWorkflowError, cfg.Error) as exc:
        print(f"heat-workflow-manage: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

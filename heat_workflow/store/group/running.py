# SPDX-License-Identifier: Apache-2.0
"""Running: how a group of turns is looked up, locked, loaded, decided and written."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from heat_workflow import model
from heat_workflow.failpoints import failpoint
from heat_workflow.store import Asks, Tx, rows
from heat_workflow.store import tables as t
from heat_workflow.store.group import sets as by
from heat_workflow.store.group.facts import AloneError, Counters, Facts, LaterError, Pool
from heat_workflow.store.group.overlay import Overlay
from heat_workflow.store.group.sets import ChangedError, Sets, by_set, listed
from heat_workflow.store.statements.history import OUTCOME
from heat_workflow.store.statements.tasks import MUTABLE
from heat_workflow.store.write import Write

MOST = 64  # turns in a group
SIZE_MOST = 256 * 1024  # bytes that one turn of a group may bring
GROUP_SIZE_MOST = 1024 * 1024
_DEPENDANTS_MOST = 64  # of one reported task
_PLACES_MOST = 256  # (project, route) pairs that a group looks at
_SPARE = 4  # candidates besides one for each claim: some may not fit
_WITH_KEY_MOST = 256  # ready tasks looked at for those keys that are given back
_DEFINITIONS_MOST = 32 * 1024 * 1024  # bytes of definitions kept
# The columns that change together. What fits none of these is written whole.
_KINDS: tuple[tuple[str, ...], ...] = (
    ("pending",),
    ("lease_until", "due_at"),
    ("state", "status_reason", "finished_at", "lease_until", "cancel_until", "not_before", "confirmed", "due_at"),
    ("state", "status_reason", "pending", "ready_at", "not_before", "due_at"),
    ("state", "attempt", "attempts_left", "claim_id", "agent_id", "started_at", "lease_until", "due_at"),
)
_CAS = ("id", "state", "attempt", "pending")
_EVENT = ("workflow_id", "seq", "at", "type", "task_id", "body")
_LOCK = ("project_id", "concurrency_key", "task_id")


class Turn(Write):
    """A use case that says what it is going to look at."""

    def __init__(self, asks: Asks, fn: Callable[[Tx], Any], future: asyncio.Future[Any]) -> None:
        super().__init__(fn, future)
        self.asks = asks
        self.passed_over = 0  # times


def next_group(waiting: collections.deque[Turn]) -> list[Turn]:
    """Take the next ones: no more than fit into a group."""
    turns: list[Turn] = []
    size = 0
    while waiting and len(turns) < MOST:
        if waiting[0].asks.task is None and waiting[0].future.cancelled():
            waiting.popleft()  # its caller has left: a task would be handed out to nobody
            continue
        size += waiting[0].asks.size
        if turns and size > GROUP_SIZE_MOST:
            break
        turns.append(waiting.popleft())
    return turns


class Definitions(Mapping[tuple[str, str], dict[str, Any]]):
    """Definitions by project and id. One never changes, so they are kept, those that were used last."""

    def __init__(self, most: int = _DEFINITIONS_MOST) -> None:
        self._most = most
        self._size = 0
        self._kept: collections.OrderedDict[tuple[str, str], tuple[dict[str, Any], int]] = collections.OrderedDict()

    def __getitem__(self, key: tuple[str, str]) -> dict[str, Any]:
        return self._kept[key][0]

    def __iter__(self) -> Any:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, sets: Sets, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], dict[str, Any]]:
        """Those of the wanted ones that there are; the ones not kept yet are read."""
        wanted = set(wanted)
        missing = sorted(key for key in wanted if key not in self._kept)
        for project_id, id_, body in by_set(sets, t.definition, ["project_id", "id"], missing):
            self._kept[project_id, id_] = (json.loads(body), len(body))
            self._size += len(body)
        taken = {}
        for key in wanted:
            if key in self._kept:
                self._kept.move_to_end(key)
                taken[key] = self._kept[key][0]
        while self._size > self._most:
            self._size -= self._kept.popitem(last=False)[1][1]
        return taken


@dataclasses.dataclass
class Look:
    """What was seen without locks: enough to know what to lock and to load."""

    agents: dict[str, model.Agent | None]
    claims: dict[tuple[str, str], model.Attempt | None]
    reported: dict[str, str]  # task id to workflow id
    places: list[tuple[str, str, int]]  # project, route, how many
    workflow_ids: set[str]
    candidates: list[Any] | None  # rows of tasks, where nothing has to be locked first


@dataclasses.dataclass
class Outcome:
    """What became of a group's turns. The ones ``done`` get their answers once the transaction is committed."""

    done: list[Turn] = dataclasses.field(default_factory=list)
    later: list[Turn] = dataclasses.field(default_factory=list)
    alone: list[Turn] = dataclasses.field(default_factory=list)


class Group:
    """Runs groups of turns on one connection. BEGIN and COMMIT are its caller's."""

    def __init__(self, sets: Sets, keyed_digest: Callable[[str], str], *, locks: bool) -> None:
        self._sets = sets
        self._keyed_digest = keyed_digest
        self._locks = locks
        self._definitions = Definitions()

    def look(self, turns: Sequence[Turn], alone: list[Turn]) -> Look:
        """Before BEGIN where rows can be locked. Turns that are not for a group go to ``alone``."""
        sets = self._sets
        ids = sorted({turn.asks.agent_id for turn in turns})
        agents: dict[str, model.Agent | None] = dict.fromkeys(ids)
        for row in by_set(sets, t.agent, ["id"], [(one,) for one in ids]):
            agent = rows.agent_of(row)
            agents[agent.id] = agent
        pairs = sorted({(turn.asks.agent_id, turn.asks.claim_id) for turn in turns if turn.asks.claim_id is not None})
        claims: dict[tuple[str, str], model.Attempt | None] = dict.fromkeys(pairs)
        for row in by_set(sets, t.attempt, ["agent_id", "claim_id"], pairs):
            attempt = rows.attempt_of(row)
            claims[attempt.agent_id, attempt.claim_id] = attempt
        reported = self._reported(turns, alone)
        places = _places((turn for turn in turns if turn not in alone), agents, claims, alone)
        look = Look(agents, claims, reported, places, set(reported.values()), None)
        if places and self._locks:
            look.workflow_ids.update(row[1] for row in sets.ready(places, "x.workflow_id"))
        elif places:
            look.candidates = sets.ready(places, listed(sets, t.task, "x"))
            column = 1 + rows.TASK.index("workflow_id")
            look.workflow_ids.update(row[column] for row in look.candidates)
        failpoint("group.looked")
        return look

    def _reported(self, turns: Sequence[Turn], alone: list[Turn]) -> dict[str, str]:
        ids = sorted({turn.asks.task[0] for turn in turns if turn.asks.task is not None})
        count = "(SELECT count(*) FROM requirement r WHERE r.requires_id = x.id)"
        found = by_set(self._sets, t.task, ["id"], [(one,) for one in ids], f"x.id, x.workflow_id, {count}")
        many = {row[0] for row in found if row[2] > _DEPENDANTS_MOST}
        alone += [turn for turn in turns if turn.asks.task is not None and turn.asks.task[0] in many]
        return {row[0]: row[1] for row in found if row[0] not in many}

    def settle(self, look: Look, turns: Sequence[Turn], now: float, *, wait: bool) -> Outcome:
        """Lock, load, decide, write. Raises ChangedError if a row is not what it was."""
        facts = Facts(now, look.agents, look.claims)
        if look.workflow_ids:
            for row in self._sets.lock(sorted(look.workflow_ids), wait):
                workflow = rows.workflow_of(row)
                facts.workflows[workflow.id] = workflow
                named = dict(zip(rows.WORKFLOW, row, strict=True))
                facts.counters[workflow.id] = Counters(named["event_seq"], named["byte_count"])
        failpoint("group.locked")
        self._load(facts, look, turns)
        failpoint("group.loaded")
        overlay = Overlay(facts, self._keyed_digest, lambda: self._stalled(look))
        outcome = Outcome()
        for turn in turns:
            _decide(overlay, turn, outcome)
        failpoint("group.decided")
        _write(self._sets, overlay)
        failpoint("group.written")
        return outcome

    def _stalled(self, look: Look) -> set[str]:
        ids = [(one,) for one in sorted(look.agents)]
        return {
            row[0] for row in by_set(self._sets, t.task, ["agent_id"], ids, "x.agent_id", " AND x.state = 'stalled'")
        }

    def _load(self, facts: Facts, look: Look, turns: Sequence[Turn]) -> None:
        sets = self._sets
        again = {attempt.task_id for attempt in look.claims.values() if attempt is not None}
        wanted = sorted({*look.reported, *again, *(turn.asks.task[0] for turn in turns if turn.asks.task is not None)})
        facts.tasks.update(dict.fromkeys(wanted))
        _tasks(facts, by_set(sets, t.task, ["id"], [(one,) for one in sorted({*look.reported, *again})]))
        if look.places:
            found = look.candidates or sets.ready(look.places, listed(sets, t.task, "x"))
            _pools(facts, look.places, found)
        self._load_for_reports(facts, look, turns)
        known = [task for task in facts.tasks.values() if task is not None]
        keys = sorted({(one.project_id, one.concurrency_key) for one in known if one.concurrency_key is not None})
        facts.keys.update(dict.fromkeys(keys))
        for project_id, key, task_id in by_set(sets, t.lock, ["project_id", "concurrency_key"], keys):
            facts.keys[project_id, key] = task_id
        facts.definitions = self._definitions.take(sets, ((one.project_id, one.definition_id) for one in known))

    def _load_for_reports(self, facts: Facts, look: Look, turns: Sequence[Turn]) -> None:
        sets = self._sets
        ids = [one for one, workflow_id in sorted(look.reported.items()) if workflow_id in facts.workflows]
        if not ids:
            return
        pairs = sorted({turn.asks.task for turn in turns if turn.asks.task is not None})
        facts.attempts.update(dict.fromkeys(pairs))
        for row in by_set(sets, t.attempt, ["task_id", "attempt"], pairs):
            attempt = rows.attempt_of(row)
            facts.attempts[attempt.task_id, attempt.attempt] = attempt
        less: collections.Counter[str] = collections.Counter()
        waiting: dict[str, list[str]] = {one: [] for one in ids}
        for required, *row in by.dependants(sets, ids):
            (task,) = _tasks(facts, [row])
            waiting[required].append(task.id)
            less[task.id] += 1
        facts.dependants.update(waiting)
        last = [one for one, count in less.items() if _task(facts, one).pending <= count]
        required_by: dict[str, list[tuple[str, model.TaskState]]] = {one: [] for one in last}
        for task_id, id_, state in by.requirements(sets, sorted(last)):
            required_by[task_id].append((id_, model.TaskState(state)))
        facts.requirements.update(required_by)
        self._load_unfinished(facts, ids)
        self._load_ready_with_key(facts, ids)

    def _load_unfinished(self, facts: Facts, ids: Sequence[str]) -> None:
        """Of workflows that may come to their end, as many tasks as show whether one stays unfinished."""
        mark = "?" if not self._locks else "%s"
        ending = {_task(facts, one).workflow_id for one in ids if facts.tasks[one] is not None}
        ending = {one for one in ending if facts.workflows[one].may_end}
        found: dict[str, list[str]] = {one: [] for one in ending}
        for workflow_id, id_ in by.unfinished(self._sets, sorted(ending), len(ids) + 1, mark):
            found[workflow_id].append(id_)
        facts.unfinished.update(found)

    def _load_ready_with_key(self, facts: Facts, ids: Sequence[str]) -> None:
        held = (task for one in ids if (task := facts.tasks[one]) is not None)
        keys = sorted({(task.project_id, task.concurrency_key) for task in held if task.concurrency_key is not None})
        order = f" AND x.state = 'ready' ORDER BY x.{self._sets.q('rank')}, x.ready_at LIMIT {_WITH_KEY_MOST}"
        found = by_set(self._sets, t.task, ["project_id", "concurrency_key"], keys, also=order)
        if len(found) == _WITH_KEY_MOST:
            return
        ready: dict[tuple[str, str], list[str]] = {(project_id, str(key)): [] for project_id, key in keys}
        for task in _tasks(facts, found):
            ready[task.project_id, str(task.concurrency_key)].append(task.id)
        facts.ready_with_key.update(ready)


def _task(facts: Facts, task_id: str) -> model.Task:
    task = facts.tasks[task_id]
    assert task is not None
    return task


def _tasks(facts: Facts, found: Iterable[Any]) -> list[model.Task]:
    """The tasks of the rows; one that is loaded already stays as it is."""
    tasks = []
    for row in found:
        task = rows.task_of(row)
        if facts.tasks.get(task.id) is None:
            facts.tasks[task.id] = task
        tasks.append(_task(facts, task.id))
    return tasks


def _places(
    turns: Iterable[Turn],
    agents: Mapping[str, model.Agent | None],
    claims: Mapping[tuple[str, str], model.Attempt | None],
    alone: list[Turn],
) -> list[tuple[str, str, int]]:
    """Where to look for work, and for how much."""
    wanted: collections.Counter[tuple[str, str]] = collections.Counter()
    for turn in turns:
        agent, claim_id = agents[turn.asks.agent_id], turn.asks.claim_id
        if agent is None or claim_id is None or claims[agent.id, claim_id] is not None or not agent.may_take:
            continue
        new = {(agent.project_id, route) for route in agent.routes}
        if len(wanted.keys() | new) > _PLACES_MOST:
            alone.append(turn)
        else:
            wanted.update(new)
    return [(project_id, route, count + _SPARE) for (project_id, route), count in wanted.items()]


def _pools(facts: Facts, places: Sequence[tuple[str, str, int]], found: Iterable[Any]) -> None:
    counts = [0] * len(places)
    pools = [Pool([], False) for _ in places]
    workflow = rows.TASK.index("workflow_id")
    for n, *row in found:
        counts[n] += 1
        if row[workflow] in facts.workflows:
            (task,) = _tasks(facts, [row])
            pools[n].ids.append(task.id)
        else:
            pools[n].elsewhere = True
    for (project_id, route, most), count, pool in zip(places, counts, pools, strict=True):
        pool.more = count == most
        facts.pools[project_id, route] = pool


def _decide(overlay: Overlay, turn: Turn, outcome: Outcome) -> None:
    overlay.begin()
    turn.forget()
    try:
        turn.result = turn.fn(cast(Tx, overlay))
    except AloneError:
        overlay.take_back()
        outcome.alone.append(turn)
    except LaterError:
        overlay.take_back()
        outcome.later.append(turn)
    except Exception as exc:  # the use case refused, or it is broken: it alone hears of that
        overlay.take_back()
        turn.error = exc
        outcome.done.append(turn)
    else:
        overlay.keep()
        turn.wakes, turn.finished = overlay.wakes, overlay.finished
        outcome.done.append(turn)


def _write(sets: Sets, overlay: Overlay) -> None:
    """What the turns have changed."""
    _write_keys(sets, overlay)
    _write_tasks(sets, overlay)
    _write_attempts(sets, overlay)
    _write_events(sets, overlay)


def _same(count: int, wanted: int) -> None:
    if count != wanted:
        raise ChangedError(f"{count} rows of {wanted} were as they had been read")


def _write_keys(sets: Sets, overlay: Overlay) -> None:
    moved = sorted(key for key, holder in overlay.facts.keys.items() if holder != overlay.keys_before[key])
    freed = [(*key, old) for key in moved if (old := overlay.keys_before[key]) is not None]
    taken = [(*key, new) for key in moved if (new := overlay.facts.keys[key]) is not None]
    if freed:
        _same(sets.delete(t.lock, _LOCK, freed), len(freed))
    if taken:
        sets.insert(t.lock, _LOCK, taken)


def _write_tasks(sets: Sets, overlay: Overlay) -> None:
    kinds: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for task_id, task in sorted(overlay.facts.tasks.items()):
        before = overlay.before[task_id]
        if task is before or task is None or before is None:
            continue
        changed = {name for name in MUTABLE if getattr(task, name) != getattr(before, name)}
        if not changed:
            continue
        kind: tuple[str, ...] = next((kind for kind in _KINDS if changed.issubset(kind)), MUTABLE)
        new = (rows.plain(getattr(task, name)) for name in kind)
        kinds.setdefault(kind, []).append((task_id, before.state.value, before.attempt, before.pending, *new))
    for kind, changes in sorted(kinds.items()):
        _same(sets.update(t.task, _CAS, kind, changes), len(changes))


def _write_attempts(sets: Sets, overlay: Overlay) -> None:
    attempts = overlay.facts.attempts
    new = [rows.attempt_row(made) for place in sorted(overlay.new_attempts) if (made := attempts[place]) is not None]
    if new:
        sets.insert(t.attempt, rows.ATTEMPT, [tuple(row[name] for name in rows.ATTEMPT) for row in new])
    saved = [
        (*place, *(row[name] for name in OUTCOME))
        for place in sorted(overlay.saved_attempts.keys() - overlay.new_attempts.keys())
        if (made := attempts[place]) is not None and (row := rows.attempt_row(made))
    ]
    if saved:
        _same(sets.update(t.attempt, ("task_id", "attempt"), OUTCOME, saved), len(saved))


def _write_events(sets: Sets, overlay: Overlay) -> None:
    """Number the events of each workflow without gaps, under its lock, and count what it has grown by."""
    by_workflow: dict[str, list[tuple[str, str | None, str]]] = {one: [] for one in overlay.grown}
    for workflow_id, type_, task_id, body in overlay.events:
        by_workflow.setdefault(workflow_id, []).append((type_, task_id, body))
    counters, events = [], []
    for workflow_id, news in sorted(by_workflow.items()):
        stood = overlay.facts.counters[workflow_id]
        last, size = stood.event_seq + len(news), stood.byte_count + overlay.grown[workflow_id]
        counters.append((workflow_id, stood.event_seq, last, size))
        events += [
            (workflow_id, seq, overlay.now, type_, task_id, body)
            for seq, (type_, task_id, body) in enumerate(news, stood.event_seq + 1)
        ]
    if counters:
        names = ("event_seq", "byte_count")
        _same(sets.update(t.workflow, ("id", "event_seq"), names, counters), len(counters))
    if events:
        sets.insert(t.event, _EVENT, events)

# SPDX-License-Identifier: Apache-2.0
"""The layers: what each room of the house may import. The table is the deployment rule, so it is a test."""

from __future__ import annotations

import ast
import dataclasses
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("heat_workflow", "guest_agent", "devcloud")
LOG = frozenset({"oslo_log"})


@dataclasses.dataclass(frozen=True)
class Room:
    """One row: files, what they may import of the project, what of others. ``*`` lets everything in."""

    name: str
    files: tuple[str, ...]
    own: frozenset[str]
    others: frozenset[str] = frozenset()


def room(name: str, files: str, own: str = "", others: str = "") -> Room:
    return Room(name, tuple(files.split()), frozenset(own.split()), frozenset(others.split()))


TABLE = [
    room("errors", "heat_workflow/errors.py heat_workflow/__init__.py"),
    room("model", "heat_workflow/model.py heat_workflow/lifecycle.py", "model errors"),
    room("releases", "heat_workflow/releases.py", "errors"),
    room("authorities", "heat_workflow/authorities.py", "", "cryptography"),
    room("failpoints", "heat_workflow/failpoints.py"),
    room("loops", "heat_workflow/loops.py", "errors", "oslo_log"),
    room("conf", "heat_workflow/conf.py", "", "oslo_config"),
    room(
        "store",
        "heat_workflow/store",
        "store failpoints loops model errors",
        "sqlalchemy alembic cryptography oslo_db oslo_log psycopg",
    ),
    room("wakeup", "heat_workflow/wakeup.py", "store model errors", "oslo_log"),
    room("taskqueue", "heat_workflow/taskqueue", "taskqueue wakeup store failpoints loops model errors", "oslo_log"),
    room(
        "api",
        "heat_workflow/api",
        "api taskqueue wakeup store releases loops model errors conf",
        "starlette pydantic pydantic_core prometheus_client webob oslo_policy oslo_middleware oslo_config oslo_log "
        "keystonemiddleware",
    ),
    room(
        "cmd",
        "heat_workflow/cmd",
        "cmd api taskqueue wakeup store releases authorities model errors conf",
        "oslo_config oslo_log uvicorn",
    ),
    room(
        "client",
        "heat_workflow/client.py heat_workflow/wire.py heat_workflow/shapes.py",
        "client errors",
        "keystoneauth1 requests",
    ),
    room("edges", "heat_workflow/edges.py", "client", "heat"),
    room(
        "plan",
        "heat_workflow/plan/__init__.py heat_workflow/plan/__main__.py heat_workflow/plan/graph.py "
        "heat_workflow/plan/sources.py",
        "plan plan-adapter model errors",
        "yaml",
    ),
    room(
        "plan-adapter",
        "heat_workflow/plan/hot.py heat_workflow/plan/checking.py",
        "plan plan-adapter edges errors",
        "heat oslo_config oslo_service",
    ),
    room(
        "resources",
        "heat_workflow/client_plugin.py heat_workflow/resources",
        "client edges authorities errors resources",
        "heat keystoneauth1 oslo_config oslo_log requests",
    ),
    room("plugin_dir", "heat_workflow/plugin_dir", "resources"),
    room("guest_agent", "guest_agent", "guest_agent", "requests"),
    room("devcloud", "devcloud", "*", "*"),
]
ROOMS = {path: row.name for row in TABLE for path in row.files}


def files_of(row: Room) -> list[Path]:
    found: list[Path] = []
    for name in row.files:
        place = ROOT / name
        found += [place] if place.suffix else sorted(place.rglob("*.py"))
    return found


def imports_of(path: Path) -> set[str]:
    """Every module the file imports, wherever in the file that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module in OURS else {module}
    return found


def room_of(module: str) -> str:
    """The room a module of ours stands in."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        place = "/".join(parts[:length])
        for candidate in (place, f"{place}.py", f"{place}/__init__.py"):
            if candidate in ROOMS:
                return ROOMS[candidate]
    return module


def foreign(row: Room, path: Path) -> list[str]:
    """The imports of the file that the row does not allow."""
    wrong = []
    for module in imports_of(path):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names:
            continue
        allowed = row.own if top in OURS else row.others
        if "*" not in allowed and (room_of(module) if top in OURS else top) not in allowed:
            wrong.append(module)
    return wrong


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_room_imports_only_what_its_row_allows(row: Room) -> None:
    files = files_of(row)
    assert files, f"room {row.name} does not exist"
    wrong = {str(path.relative_to(ROOT)): found for path in files if (found := foreign(row, path))}
    assert wrong == {}


def test_every_file_stands_in_a_room() -> None:
    standing = {path for row in TABLE for path in files_of(row)}
    everything = {path for package in OURS for path in (ROOT / package).rglob("*.py")}
    assert {str(path.relative_to(ROOT)) for path in everything - standing} == set()


def test_only_the_composition_root_opens_a_store() -> None:
    openers = {
        path.name
        for path in files_of(next(row for row in TABLE if row.name == "api"))
        if "heat_workflow.store.opening" in imports_of(path)
    }
    assert openers == {"app.py"}


def test_every_file_says_its_place_in_its_first_line() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in (*OURS, "tests", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_a_forbidden_import_is_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def late():\n    from heat_workflow.api import app\n    import sqlalchemy\n")
    agent = next(row for row in TABLE if row.name == "guest_agent")
    assert sorted(foreign(agent, bad)) == ["heat_workflow.api", "sqlalchemy"]

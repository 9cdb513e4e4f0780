# SPDX-License-Identifier: Apache-2.0
"""`python -m heat_workflow.plan TEMPLATE [-e ENV]`: check a HOT template and print its task graph.

What is wrong is on standard error, a line each, and the exit status is 1. Notes say there what was made up or could not
be checked; they are no mistakes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from heat_workflow import errors
from heat_workflow.plan.graph import as_dot, as_json
from heat_workflow.plan.sources import read_sources


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m heat_workflow.plan", description="Check a template and print its task graph."
    )
    parser.add_argument("template", type=Path)
    parser.add_argument("-e", "--environment", type=Path)
    parser.add_argument("--format", choices=("dot", "json"), default="dot")
    asked = parser.parse_args(arguments)
    try:
        sources = read_sources(asked.template, asked.environment)
    except errors.Invalid as wrong:
        return _refuse([wrong.detail], [])
    # Heat takes seconds to load: not for --help, nor for a file that is not there.
    from heat_workflow.plan.hot import read_template

    read = read_template(sources)
    if read.graph is None:
        return _refuse(read.problems, read.notes)
    _say(read.notes)
    sys.stdout.write(as_dot(read.graph) if asked.format == "dot" else as_json(read.graph) + "\n")
    return 0


def _refuse(problems: Iterable[str], notes: Iterable[str]) -> int:
    _say(notes)
    sys.stderr.writelines(f"{line}\n" for line in problems)
    return 1


def _say(notes: Iterable[str]) -> None:
    sys.stderr.writelines(f"note: {line}\n" for line in notes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""`python -m heat_workflow.plan TEMPLATE [-e ENV]`: print the task graph of a HOT template."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from heat_workflow import errors
from heat_workflow.plan.graph import as_dot, as_json
from heat_workflow.plan.sources import read_sources


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m heat_workflow.plan", description="The task graph of a template.")
    parser.add_argument("template", type=Path)
    parser.add_argument("-e", "--environment", type=Path)
    parser.add_argument("--format", choices=("dot", "json"), default="dot")
    asked = parser.parse_args(arguments)
    try:
        sources = read_sources(asked.template, asked.environment)
        # Heat takes seconds to load: not for --help, nor for a file that is not there.
        from heat_workflow.plan.hot import read_graph

        graph = read_graph(sources)
    except errors.Invalid as wrong:
        sys.stderr.write(f"{wrong.detail}\n")
        return 1
    sys.stdout.write(as_dot(graph) if asked.format == "dot" else as_json(graph) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks [NAME ...]`: run the benchmarks, all or by name, and print a table of each."""

from __future__ import annotations

import importlib
import os
import sys

NAMES = ["agent", "chain", "heat-group", "queue", "turns", "adds", "replicas", "growth", "waiting"]


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} at the start; medians of alternated rounds")
    for name in names or NAMES:
        importlib.import_module(f"benchmarks.{name.replace('-', '_')}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

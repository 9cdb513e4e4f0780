# SPDX-License-Identifier: Apache-2.0
"""Flood: one agent that asks as fast as it can, from a process of its own.

``python -m tests.faults.flood PORT TOKEN``: claims in vain, reports of tasks it does not hold, until standard input
ends; prints how many answers it got of each status.
"""

from __future__ import annotations

import collections
import http.client
import json
import sys
import threading
import uuid

CONNECTIONS = 4


def flood(port: int, token: str, over: threading.Event, heard: collections.Counter[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    while not over.is_set():
        claim = json.dumps({"claim_id": str(uuid.uuid4()), "wait": 0})
        stolen = json.dumps({"attempt": 1, "claim_id": str(uuid.uuid4()), "status": "succeeded"})
        for method, path, body in (
            ("POST", "/agent/v1/claim", claim),
            ("PUT", f"/agent/v1/tasks/{uuid.uuid4()}/report", stolen),
        ):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            heard[answer.status] += 1
    connection.close()


def main() -> None:
    port, token = int(sys.argv[1]), sys.argv[2]
    over = threading.Event()
    counters = [collections.Counter[int]() for _ in range(CONNECTIONS)]
    threads = [threading.Thread(target=flood, args=(port, token, over, heard)) for heard in counters]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    total = sum(counters, collections.Counter[int]())
    print(json.dumps({str(status): count for status, count in total.items()}))


if __name__ == "__main__":
    main()

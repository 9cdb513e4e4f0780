# SPDX-License-Identifier: Apache-2.0
"""The agent's door for ``python -m guest_agent`` and for the zipapp."""

import sys

from guest_agent.main import main

if __name__ == "__main__":
    sys.exit(main())

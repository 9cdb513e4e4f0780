# SPDX-License-Identifier: Apache-2.0
"""The tasks API: HTTP in front of the task queue."""

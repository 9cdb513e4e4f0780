# SPDX-License-Identifier: Apache-2.0
"""The agent in the guest: it pulls tasks, runs them through a hook, and never loses a result."""

VERSION = "0.1.0"

# SPDX-License-Identifier: Apache-2.0
"""Plan: the task graph of a HOT template, without any cloud."""

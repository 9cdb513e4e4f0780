# SPDX-License-Identifier: Apache-2.0
"""Plugin module: Heat loads it under a name of its own, so it only re-exports and our modules stay loaded once."""

from heat_workflow.resources import resource_mapping as resource_mapping

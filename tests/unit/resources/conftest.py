# SPDX-License-Identifier: Apache-2.0
"""Loads Heat for the tests of the pure parts of our resources, on threads as heat-engine does."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Heat's libraries warn when they are imported
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)
    from heat_workflow.resources import resource_mapping

    resource_mapping()

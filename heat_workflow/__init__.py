# SPDX-License-Identifier: Apache-2.0
"""heat-workflow: ordered software configuration for OpenStack Heat."""

__version__ = "0.1.0"

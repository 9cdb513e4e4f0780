# SPDX-License-Identifier: Apache-2.0
"""Packaging: pbr reads everything from setup.cfg."""

import setuptools

setuptools.setup(setup_requires=["pbr>=6.0"], pbr=True)

# SPDX-License-Identifier: Apache-2.0
"""The main job: latency of map, unmap and translate, of the real engine on real process memory.

``run(plan)`` measures and returns a plain dict (see :mod:`iommufd_fast.bench.schema`) that the table, the JSON file
and the HTML report are made from.
"""

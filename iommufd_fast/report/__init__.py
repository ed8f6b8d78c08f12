# SPDX-License-Identifier: Apache-2.0
"""Reports from result documents: a table for the terminal, plots, one self-contained HTML file."""

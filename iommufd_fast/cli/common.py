# SPDX-License-Identifier: Apache-2.0
"""What the commands share: lists as options, errors as sentences, optional packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import click

from iommufd_fast.bench import matrix
from iommufd_fast.cli import INSTALL


class ListOf(click.ParamType):
    """A comma-separated list: of words from a set, or of numbers through a parser."""

    name = "list"

    def __init__(
        self, metavar: str, parse: Callable[[str], Any] | None = None, words: Sequence[str] = (), low: int = 0
    ) -> None:
        self.metavar, self.parse, self.words, self.low = metavar, parse, words, low

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return self.metavar

    def _one(self, part: str) -> Any:
        if self.parse is None:
            if part not in self.words:
                raise ValueError(f"{part!r} is none of {', '.join(self.words)}")
            return part
        value = self.parse(part)
        if value < self.low:
            raise ValueError(f"{part!r} is below {self.low}")
        return value

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(matrix.lists(value, lambda part: self._one(part.strip())))
        except ValueError as e:
            self.fail(str(e), param, ctx)


def need(package: str, what: str) -> None:
    """Stop with one clear sentence when an optional package is not there."""
    if find_spec(package) is None:
        raise click.ClickException(f"{what} needs {package}, which is not installed; run: {INSTALL}")


@contextmanager
def sentences() -> Iterator[None]:
    """Errors of the world (files, the engine's refusals, bad input) end the command with their sentence, not with a
    traceback."""
    try:
        yield
    except (OSError, ValueError, MemoryError) as e:
        raise click.ClickException(str(e) or type(e).__name__) from e

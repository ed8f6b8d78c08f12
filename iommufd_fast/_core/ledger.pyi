# SPDX-License-Identifier: Apache-2.0
from typing import NoReturn

class Ledger:
    def __len__(self) -> int: ...

class Home:
    def __reduce__(self) -> NoReturn: ...
    @property
    def id(self) -> int: ...

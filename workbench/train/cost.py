"""What a training costs: hours, energy, money; estimated before, counted while it runs, and ended by a budget."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SpecError, StorageError
from ..storage import write_atomic

if TYPE_CHECKING:
    from ..settings import Settings
    from .spec import Budget, TrainSpec

SPENT = "spent.json"
"""File in a run's directory: what was spent, over all attempts."""
WATTS = {"core": 10.0, "gpu": 300.0}
"""Power of a busy core and of a GPU that tells nothing, with what its machine needs for it; ``watts`` in the settings says otherwise."""
KEEP_SECONDS = 5.0


@dataclass(frozen=True)
class Rates:
    """Watts and prices, as the settings say them; a price that isn't set is None."""

    core_watts: float
    gpu_watts: float
    kwh: float | None
    core_hour: float | None
    gpu_hour: float | None
    currency: str

    @classmethod
    def of(cls, settings: Settings) -> Rates:
        """The rates of a workspace."""
        watts, prices = {**WATTS, **settings.watts}, settings.prices
        return cls(watts["core"], watts["gpu"], prices.get("kwh"), prices.get("core"), prices.get("gpu"), settings.currency)

    @property
    def priced(self) -> bool:
        """True where anything has a price."""
        return any(p is not None for p in (self.kwh, self.core_hour, self.gpu_hour))

    def of_time(self, seconds: float, cores: float, gpus: float = 0.0, watts: float | None = None) -> dict[str, float | None]:
        """``kwh`` and ``money`` of a time: what devices cost an hour, and the energy they draw.

        Examples
        --------
        >>> rates = Rates(10, 300, 0.5, 0.1, None, "EUR")
        >>> {k: round(v, 6) for k, v in rates.of_time(3600, cores=2).items()}
        {'kwh': 0.02, 'money': 0.21}
        """
        hours = seconds / 3600
        kwh = hours * (cores * self.core_watts + (gpus * self.gpu_watts if watts is None else watts)) / 1000
        money = hours * (cores * (self.core_hour or 0.0) + gpus * (self.gpu_hour or 0.0)) + kwh * (self.kwh or 0.0)
        return {"kwh": kwh, "money": money if self.priced else None}


def cost_words(cost: Mapping[str, Any], currency: str) -> str:
    """Energy and money as a person says them.

    Examples
    --------
    >>> cost_words({"kwh": 0.02, "money": None}, "EUR"), cost_words({"kwh": 0.0004, "money": 0.21}, "EUR")
    ('20 Wh', '0.4 Wh, 0.21 EUR')
    """
    kwh, money = cost["kwh"], cost.get("money")
    words = f"{kwh:,.2f} kWh" if kwh >= 1 else f"{kwh * 1000:.2g} Wh"
    return words if money is None else f"{words}, {money:,.2f} {currency}" if money >= 0.01 else f"{words}, under 0.01 {currency}"


def refuse_unpriced(spec: TrainSpec, settings: Settings) -> None:
    """Raise where a budget is in money and nothing has a price.

    Raises
    ------
    SpecError
    """
    if spec.budget is not None and spec.budget.money is not None and not Rates.of(settings).priced:
        raise SpecError.one("budget.money", f"received {spec.budget.money:g}, and nothing has a price; expected prices in workbench.toml: "
                            "under [prices] kwh, core or gpu (an hour of one)")


def spent(folder: Path) -> dict[str, float]:
    """What the run of a directory has spent, as far as it is written down: ``hours``, ``kwh``, ``money``."""
    try:
        return json.loads((folder / SPENT).read_text())["spent"]
    except (OSError, ValueError, KeyError):
        return {"hours": 0.0, "kwh": 0.0, "money": 0.0}


class Meter:
    """Counts what a run spends, also over restarts of its driver; a budget counts from where the run was last resumed.

    Parameters
    ----------
    folder : the run's directory.
    """

    def __init__(self, folder: Path, rates: Rates, budget: Budget | None):
        self.file, self.rates, self.budget = folder / SPENT, rates, budget
        self.spent, self.base = spent(folder), {"hours": 0.0, "kwh": 0.0, "money": 0.0}
        with contextlib.suppress(OSError, ValueError, KeyError):
            self.base = json.loads(self.file.read_text())["base"]
        self._at: float | None = None
        self._kept = time.monotonic()

    def add(self, ranks: Iterable[Mapping[str, Any]]) -> None:
        """What the ranks told just now counts for the time since they told before; a pause of over a minute is none of it."""
        now, ranks = time.monotonic(), list(ranks)
        passed, self._at = now - (now if self._at is None else self._at), now
        if not 0 < passed < 60:
            return
        gpus = sum("gpu_memory" in r for r in ranks)
        watts = sum(r["watts"] for r in ranks) if gpus and all("watts" in r for r in ranks) else None
        made = self.rates.of_time(passed, sum(r.get("cpu") or 0.0 for r in ranks), gpus, watts)
        self.spent = {"hours": self.spent["hours"] + passed / 3600, "kwh": self.spent["kwh"] + made["kwh"],
                      "money": self.spent["money"] + (made["money"] or 0.0)}
        if now - self._kept > KEEP_SECONDS:
            self.keep()

    def count(self, parts: Iterable[Mapping[str, float]]) -> None:
        """What the parts of a run have spent, runs of their own, is what it has spent."""
        parts = list(parts)
        self.spent = {name: sum(p[name] for p in parts) for name in self.spent}
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self.keep()

    def over(self) -> str | None:
        """Which part of the budget is spent, in words; None while there is some left."""
        if self.budget is None:
            return None
        for name, unit in (("hours", "h"), ("kwh", "kWh"), ("money", self.rates.currency)):
            limit = getattr(self.budget, name)
            if limit is not None and self.spent[name] - self.base[name] >= limit:
                return f"the budget of {limit:g} {unit} is spent"
        return None

    def keep(self, *, ended: bool = False) -> None:
        """Write down what was spent; ``ended`` where the budget ended the run: whoever resumes it grants it once more."""
        self._kept = time.monotonic()
        self.base = dict(self.spent) if ended else self.base
        try:
            write_atomic(self.file, json.dumps({"spent": self.spent, "base": self.base}))
        except (OSError, StorageError):  # a full disk: counted on, written when there is room
            return

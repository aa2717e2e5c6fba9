"""All probes, found by their files: ``memorised.py`` holds the probe ``memorised``."""

from __future__ import annotations

import importlib
import pkgutil

from ..probe import Probe


def _kinds() -> dict[str, type[Probe]]:
    found = {}
    for name in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        own = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Probe) and v.__module__ == module.__name__]
        if len(own) != 1 or "probe" not in own[0].model_fields or own[0].model_fields["probe"].default != name:
            raise TypeError(f'{module.__file__} must hold one subclass of Probe with the field probe: Literal["{name}"] = "{name}"')
        found[name] = own[0]
    return found


KINDS = _kinds()
"""name -> class, in alphabetical order."""

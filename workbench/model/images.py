"""Models of images and clips on disk: ``config.json`` with the architecture's name and sizes, ``model.safetensors``, ``samples.png``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import pictures
from ..errors import StorageError
from .weights import load_weights, save_weights

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

ARCHITECTURES = ("diffusion", "gan")
SAMPLES = "samples.png"
"""File of what a model makes: drawn once, where it was trained."""


def config_of(folder: Path) -> dict[str, Any] | None:
    """The configuration of a model of images; none for other models."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and config.get("architecture") in ARCHITECTURES else None


def network(config: dict[str, Any]) -> nn.Module:
    """The network of a configuration, with weights by torch's random state."""
    from .dcgan import Generator
    from .diffuser import Diffuser

    return (Generator if config["architecture"] == "gan" else Diffuser)(config)


def load_images(folder: Path) -> nn.Module:
    """A model of images in evaluation mode, fp32, on the CPU: ``generate(count, seed, label)`` gives images in [-1, 1].

    Raises
    ------
    StorageError, UnsafeFileError
    """
    config, weights = config_of(folder), folder / "model.safetensors"
    if config is None:
        raise StorageError("is no model of images", where=folder, allowed=f"config.json with architecture {' or '.join(ARCHITECTURES)}")
    held = load_weights(weights)
    try:
        model = network(config)
        model.load_state_dict(held)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise StorageError("holds other weights than its configuration says", where=weights, received=str(error).splitlines()[0],
                           hint="Train again with --again") from None
    return model.eval()


def save_images(model: nn.Module, folder: Path, samples: bytes | None = None) -> None:
    """Write a model's files into a directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config, indent=1), "utf-8")
    save_weights(dict(model.state_dict()), folder / "model.safetensors")
    if samples is not None:
        (folder / SAMPLES).write_bytes(samples)


def grid(made: np.ndarray, columns: int) -> bytes:
    """One PNG of pictures (n, channels, height, width) in [-1, 1], or one animated PNG of clips (n, channels, frames, height, width).

    Examples
    --------
    >>> import numpy as np
    >>> pictures.pixels_of(grid(np.zeros((5, 1, 8, 8), np.float32), 3)).shape
    (1, 1, 17, 26)
    """
    import numpy as np

    count, *other, height, width = made.shape
    rows = -(-count // columns)
    whole = np.full((*other, rows * (height + 1) - 1, columns * (width + 1) - 1), -1, np.float32)  # a black line between
    for n, one in enumerate(made):
        y, x = n // columns * (height + 1), n % columns * (width + 1)
        whole[..., y:y + height, x:x + width] = one
    return pictures.drawn(whole)

"""What can be learned, one a file. The table says where each is; nothing here imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """Where an objective lives, and the words for what it counts and measures."""

    module: str
    """``package.module:Class`` of the LightningModule that each rank makes"""
    material: str
    """module that makes what is read, once for a dataset version: ``refuse``, ``cached``, ``prepare``"""
    unit: str
    """what is counted as trained"""
    measure: str
    """what is measured on the held-out split: the lower the better"""
    scale: float = 1.0
    """what the ratio of the sums of ``Objective.scores`` is multiplied with to give the measure"""
    streams: bool = False
    """counts tokens of one long stream, not samples"""


KINDS = {
    "pretrain": Kind("workbench.train.objectives.pretrain:Pretrain", "workbench.train.reading.tokens", "tokens", "bits_per_byte",
                     1 / math.log(2), streams=True),
    "sft": Kind("workbench.train.objectives.sft:Finetune", "workbench.train.reading.answers", "chats", "answer_loss"),
    "dpo": Kind("workbench.train.objectives.dpo:Preferences", "workbench.train.reading.answers", "pairs", "preference_loss"),
    "gan": Kind("workbench.train.objectives.gan:Gan", "workbench.train.reading.pixels", "images", "distance"),
    "diffusion": Kind("workbench.train.objectives.diffusion:Diffusion", "workbench.train.reading.pixels", "images", "noise_error"),
    "module": Kind("workbench.train.objectives.own:Own", "workbench.train.reading.own", "batches", "val_loss"),
}
"""Objectives by the word that a spec names them with."""

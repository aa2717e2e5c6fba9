"""What people write with trl and peft: one fine-tuning as ``finetuning.py`` asks for it; knows nothing of the workbench.

    python trl_trainers.py asked.json said.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """When each step was over."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.at.append(time.perf_counter())


def main(asked: dict) -> dict:
    """Train; returns the loss of each step and when it was over."""
    torch.set_num_threads(asked["threads"])
    tokenizer = AutoTokenizer.from_pretrained(asked["base"])
    tokenizer.chat_template = asked["template"]
    model = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=torch.float32)
    common = {"output_dir": asked["out"], "per_device_train_batch_size": asked["batch"], "num_train_epochs": 1,
              "max_length": asked["context"],
              "learning_rate": asked["rate"], "lr_scheduler_type": "cosine", "warmup_steps": 0, "weight_decay": 0.0, "adam_beta2": 0.95,
              "max_grad_norm": 1.0, "seed": asked["seed"], "use_cpu": not torch.cuda.is_available(), "bf16": False,
              "gradient_checkpointing": False, "report_to": [], "save_strategy": "no", "logging_steps": 10**6, "disable_tqdm": True}
    if asked["kind"] == "dpo":
        kind, config = DPOTrainer, DPOConfig(beta=asked["beta"], precompute_ref_log_probs=asked["precompute"], **common)
    else:
        kind, config = SFTTrainer, SFTConfig(assistant_only_loss=True, packing=False, **common)

    class Watched(kind):
        def _get_train_sampler(self, *_: object, **__: object) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)  # the rows come in their order

        def training_step(self, *given: object, **more: object) -> torch.Tensor:
            loss = super().training_step(*given, **more)
            losses.append(loss.item())
            return loss

    losses, clock = [], Clock()
    adapter = LoraConfig(r=asked["rank"], lora_alpha=asked["alpha"], lora_dropout=0.0, task_type="CAUSAL_LM",
                         target_modules="all-linear") if asked["rank"] else None
    torch.manual_seed(asked["seed"])
    trainer = Watched(model=model, args=config, train_dataset=Dataset.from_list(asked["rows"]), processing_class=tokenizer,
                      peft_config=adapter, callbacks=[clock])
    begin = time.perf_counter()
    trainer.train()
    return {"losses": losses, "at": clock.at, "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))

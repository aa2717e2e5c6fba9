"""What fine-tuning shares: a base from its directory, with an adapter or whole; answers shown; the model written as one that serves."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from ... import model as models
from ...errors import SourceError
from ..objective import Objective, spaced
from ..reading.answers import Answers, Samples, Split
from ..reading.base import Base
from ..reading.turns import Template

ANSWER_TOKENS = 64
"""Most tokens of an answer that is shown."""
GROUP = 8
"""Samples that are scored at once."""


class Tuned(Objective):
    """A base that is taught by answers; a subclass says by which loss."""

    BESIDE: ClassVar[tuple[str, ...]] = ()
    """what is told of held-out samples besides the measure: means over them"""

    @cached_property
    def made(self) -> Answers:
        """The chats as the base reads them."""
        return Answers(Path(self.plan["answers"]), self.plan["base"])

    @cached_property
    def adapter(self) -> dict[str, Any] | None:
        """What is trained in place of the base's weights."""
        return self.plan["objective"]["adapter"]

    @cached_property
    def base(self) -> Base:
        """Where it began."""
        return Base(**{k: Path(v) if k == "path" else v for k, v in self.plan["base"].items()})

    def reads(self) -> Samples:
        return Samples(self.made.split("train"), self.made.count("train"), self.plan["seed"])

    def fresh(self) -> torch.nn.Module:
        model = models.load_pretrained(self.base.path)
        if self.adapter:
            self.strict_loading = False  # checkpoints hold the adapter alone
            model = adapted(model, self.adapter, self.plan["seed"])
        return model.train()

    def scores(self, most: int | None = None, model: torch.nn.Module | None = None) -> torch.Tensor:
        """Amount and weight of each sample of the validation split; ranks take turns at them."""
        split = self.made.split("validation")
        samples = spaced(self.made.count("validation"), most)
        table = torch.zeros(len(samples), 2 + len(self.BESIDE), dtype=torch.float64)
        own = list(range(self.rank, len(samples), self.world))
        with evaluated(model or self.model) as model:
            for group in alike(split, [samples[n] for n in own]):
                batch = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v
                         for k, v in split.batch([samples[own[n]] for n in group]).items()}
                for n, row in zip(group, self.judged(batch, model).double().cpu(), strict=True):
                    table[own[n]] = row
        table = self.together(table)
        self.beside = dict(zip(self.BESIDE, table[:, 2:].mean(0).tolist(), strict=True))
        return table[:, :2]

    def judged(self, batch: dict[str, Any], model: torch.nn.Module) -> torch.Tensor:
        """Amount and weight of each sample of a batch, and what ``BESIDE`` names, shape (samples, 2 + names)."""
        raise NotImplementedError

    def shown(self, step: int, model: torch.nn.Module | None = None) -> list[dict[str, Any]]:  # noqa: ARG002 - answers are the likeliest ones
        """An answer to each of the plan's questions: the likeliest token at each place."""
        tokenizer = self.tokenizer
        template, found = Template(tokenizer, self.base.config.get("bos_token_id")), []
        with evaluated(model or self.model) as model:
            for prompt in self.plan["prompts"]:
                ids = template.asked([{"role": "user", "content": prompt}])[-self.plan["context"] + 1:]
                given = torch.tensor([ids], device=model.device)
                made = model.generate(input_ids=given, attention_mask=torch.ones_like(given), do_sample=False,
                                      max_new_tokens=min(ANSWER_TOKENS, self.plan["context"] - len(ids)),
                                      eos_token_id=self.ends or None, pad_token_id=self.ends[0] if self.ends else 0)
                found.append({"prompt": prompt, "text": tokenizer.decode(made[0, len(ids):].tolist(), skip_special_tokens=True)})
        return found

    @cached_property
    def tokenizer(self):
        """The base's, with the template that is trained with."""
        found = self.base.tokenizer()
        found.chat_template = self.made.meta["template"]
        return found

    @cached_property
    def ends(self) -> list[int]:
        """Tokens that an answer is over with: the base's own, and the mark that the template puts behind answers."""
        known = self.base.config.get("eos_token_id")
        return sorted({*([known] if isinstance(known, int) else known or ()),
                       *([self.made.meta["end"]] if self.made.meta["end"] is not None else ())})

    @property
    def parameters_count(self) -> int:
        """Parameters of the model as it is written: without the adapter, which is added into them."""
        return sum(p.numel() for n, p in self.model.named_parameters() if "lora_" not in n)

    def is_matrix(self, name: str, parameter: torch.nn.Parameter) -> bool:
        """True for matrices of layers, whatever a base calls them."""
        return parameter.dim() == 2 and not any(word in name for word in ("embed", "wte", "wpe", "lm_head"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what an adapter does not change."""
        if self.adapter:
            trained = {n for n, p in self.named_parameters() if p.requires_grad}
            checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}

    def save(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        model = self.model.to("cpu").eval()
        if self.adapter:
            for config in model.peft_config.values():
                config.base_model_name_or_path = self.base.reference
            model.save_pretrained(out / "adapter", save_embedding_layers=False)
            shutil.rmtree(out / "adapter" / ".cache", ignore_errors=True)
            (out / "adapter" / "README.md").unlink(missing_ok=True)
            model = model.merge_and_unload()
        if self.ends:
            model.generation_config.eos_token_id = self.ends if len(self.ends) > 1 else self.ends[0]
        model.config.name_or_path = ""  # a version's digest does not tell where its base lay
        kept = self.base.config.get("dtype") or self.base.config.get("torch_dtype") or "float32"
        model.to(getattr(torch, kept, torch.float32)).save_pretrained(out, max_shard_size="10TB")
        models.save_tokenizer(self.tokenizer, out)


def adapted(model: torch.nn.Module, adapter: dict[str, Any], seed: int) -> torch.nn.Module:
    """The model with low-rank matrices beside its linear layers, which alone are trained; the same for the same seed."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=adapter["rank"], lora_alpha=adapter["alpha"], lora_dropout=adapter["dropout"], task_type="CAUSAL_LM",
                        target_modules=list(adapter["targets"]) or "all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            layers = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
            raise SourceError("no layers to adapt", where="objective.adapter.targets", received=list(adapter["targets"]),
                              allowed=f"names of linear layers: {', '.join(layers)}", hint=f"{error}"[:160]) from None


def nats(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Cross entropy of each target, shape (sequences, columns); 0 where nothing is trained.

    Logits are made where any sequence of the batch is trained, and nowhere else.
    """
    columns, targets = batch["columns"], batch["targets"]
    if _keeps(model):
        logits = model(input_ids=batch["ids"], logits_to_keep=columns, use_cache=False).logits
    else:
        logits = model(input_ids=batch["ids"], use_cache=False).logits[:, columns]
    flat = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def _keeps(model: torch.nn.Module) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def alike(split: Split, samples: list[int]) -> Iterator[list[int]]:
    """Places of samples in groups of about one length."""
    lengths = [max(int(split.lengths[n]) for n in split.of([s])) for s in samples]
    ordered = sorted(range(len(samples)), key=lambda n: (lengths[n], n))
    return (ordered[n:n + GROUP] for n in range(0, len(ordered), GROUP))


class evaluated:  # noqa: N801 - used as a word of its own: with evaluated(model) as model
    """A model in evaluation mode, without gradients, and as it was before afterwards."""

    def __init__(self, model: torch.nn.Module):
        self.model, self.training, self.quiet = model, model.training, torch.no_grad()

    def __enter__(self) -> torch.nn.Module:
        self.quiet.__enter__()
        return self.model.eval()

    def __exit__(self, *raised: Any) -> None:
        self.model.train(self.training)
        self.quiet.__exit__(*raised)

"""Small chats, preferences and a base for the tests of fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench import chats
from workbench.dataset import Dataset, drop_schema, record_id, record_schema, write_dataset
from workbench.model import learn_tokenizer, llama_config, new_llama, save_tokenizer
from workbench.workspace import Workspace

COLOURS = {"sky": "blue", "grass": "green", "blood": "red", "snow": "white", "coal": "black", "lemon": "yellow"}
ASKED = ("What colour is {}?", "Tell me the colour of {}.", "The colour of {} is what?", "And {}: which colour has it?",
         "Is {} of a colour?")
HELD_OUT = 6
"""Records of validation: one for each thing."""


def said(thing: str, asked: str, answer: str = "It is {}.") -> list[dict[str, str]]:
    """A question and its answer."""
    return [{"role": "user", "content": asked.format(thing)}, {"role": "assistant", "content": answer.format(COLOURS[thing])}]


def asked(count: int = 60, answer: str = "It is {}.") -> list[list[dict[str, str]]]:
    """Chats on colours; the first are asked as no other is."""
    things = list(COLOURS)
    held = [said(thing, "Which colour has {}?", answer) for thing in things]
    return [*held, *(said(things[n % 6], ASKED[n // 6 % 5], answer) for n in range(count))]


def written(workspace: Workspace, name: str, form: str, values: list[dict[str, Any]], held_out: int = HELD_OUT) -> Dataset:
    """A dataset of chats or preferences; the first so many are held out."""
    import pyarrow as pa

    rows = []
    for n, value in enumerate(values):
        text = chats.written(form, value)
        rows.append({"id": record_id(name, f"{n:04d}", text.encode()), "text": text, "image": None, "label": None, "source": name,
                     "locator": f"{n:04d}", "cluster": str(n), "split": "validation" if n < held_out else "train"})
    return write_dataset(workspace, name, pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(), card="",
                         manifest={"modality": "text", "form": form, "spec": {}, "parents": {}, "drops": {}})


def chat_data(workspace: Workspace, name: str = "colours", answer: str = "It is {}.") -> Dataset:
    """Chats on colours."""
    return written(workspace, name, "chat", [{"messages": messages} for messages in asked(answer=answer)])


def pair_data(workspace: Workspace, name: str = "liked") -> Dataset:
    """Preferences: the answer in a sentence over the one without an end."""
    return written(workspace, name, "preference", [
        {"prompt": messages[:1], "chosen": messages[1:], "rejected": [{"role": "assistant", "content": "Who can tell"}]}
        for messages in asked()])


def base_in(folder: Path, context: int = 64, **tokenizer: Any) -> Path:
    """A directory in Hugging Face's form: a Llama of 100K with random weights."""
    made = learn_tokenizer((m["content"] for messages in asked() for m in messages), 330)
    for name, value in tokenizer.items():
        setattr(made, name, value)
    new_llama(llama_config("100K", len(made), context), 0).save_pretrained(folder)
    save_tokenizer(made, folder)
    return folder

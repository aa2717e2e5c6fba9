"""Fine-tuning trains the answers of chats and nothing else, the same on any number of ranks and over any stop, and what it makes serves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from answered import ASKED, COLOURS, asked, base_in, chat_data, written

from workbench import runs
from workbench.errors import RunFailedError, SourceError, SpecError
from workbench.model import load_pretrained
from workbench.serve.text import Language
from workbench.train.fit import objective
from workbench.train.plan import planned
from workbench.train.reading import answers, sight
from workbench.train.reading import base as bases
from workbench.train.reading.answers import Answers, Samples
from workbench.train.reading.order import Share
from workbench.train.reading.turns import Template
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace

MARKED = ("{{ bos_token }}{% for m in messages %}{{ m['role'] }}:{% if m['role'] == 'assistant' %}{% generation %} {{ m['content'] }}"
          "{{ eos_token }}{% endgeneration %}{% else %} {{ m['content'] }}{% endif %}{{ '\\n' }}{% endfor %}"
          "{% if add_generation_prompt %}assistant:{% endif %}")
TALK = [{"role": "system", "content": "Be brief."}, *asked()[0], *asked()[1], {"role": "user", "content": "Thanks."}]


def spec_of(base: Path | str, data: str = "colours", adapter: dict | None = None, **changes) -> TrainSpec:
    objective = {"kind": "sft", "base": str(base), "adapter": adapter, "context": 64} | changes.pop("objective", {})
    return TrainSpec.load({"word": "train", "data": data, "name": "taught", "objective": objective, "epochs": 25, "learning_rate": 1e-2,
                           "every": {"checkpoint": 20, "evaluate": 40, "sample": 1000}, "prompts": ["What colour is sky?"], **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return base_in(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def colours(live):
    return chat_data(live)


@pytest.fixture(scope="module")
def hued(live):
    return chat_data(live, "hued", answer="{}, I say.")


@pytest.fixture(scope="module")
def taught(live, colours, base) -> runs.Run:
    """All weights, from random ones."""
    return runs.run(spec_of(base), live)


@pytest.fixture
def place(tmp_path) -> Workspace:
    made = Workspace(tmp_path).open()
    chat_data(made)
    return made


def made_of(spec: TrainSpec, place: Workspace) -> tuple[Answers, dict]:
    """What a spec reads, and what each rank would be told."""
    from workbench.dataset import Dataset

    dataset = Dataset.open(spec.data, place)
    made = answers.make(spec, place, dataset, bases.found(spec.objective.base, place))
    return made, planned(spec, made.count("train")).to_dict() | made.told()


# What is trained ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [None, MARKED])
def test_of_a_talk_the_answers_with_their_ends_are_trained_and_nothing_else(base, template):
    tokenizer = bases.Base("base", base, "").tokenizer(template)
    turn = Template(tokenizer, 0).turn(TALK)
    runs_of, before = [], 0
    for token, trained in zip(turn.ids, turn.trained, strict=True):
        if trained and not before:
            runs_of.append([])
        if trained:
            runs_of[-1].append(token)
        before = trained
    assert [tokenizer.decode(r) for r in runs_of] == [" It is blue.<|endoftext|>", " It is green.<|endoftext|>"]
    assert turn.ids[0] == 0 and turn.ids[1] != 0 and turn.ended == 0 and not turn.merged
    assert tokenizer.decode(turn.ids[1:]) == ("system: Be brief.\nuser: Which colour has sky?\nassistant: It is blue.<|endoftext|>\n"
                                              "user: Which colour has grass?\nassistant: It is green.<|endoftext|>\nuser: Thanks.\n")


@pytest.mark.parametrize("template", [None, MARKED])
def test_a_question_is_asked_in_the_tokens_that_were_trained_and_served(base, template, tmp_path):
    tokenizer = bases.Base("base", base, "").tokenizer(template)
    made = Template(tokenizer, 0)
    question = made.asked(TALK[:2])
    assert made.turn(TALK[:3]).ids[:len(question)] == question
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((base / "config.json").read_bytes())
    language = Language(tmp_path)
    assert language.tokens(language.chat(TALK[:2])) == question


@pytest.mark.parametrize(("template", "said"), [
    ("{% for m in messages %}{{ m['content'] }}{% if loop.last %}<last>{% endif %}{% endfor %}", "does not show what an assistant writes"),
    ("{{ raise_exception('roles must alternate') }}", "refuses a chat; received 'roles must alternate'"),
])
def test_a_template_that_can_not_be_trained_with_is_refused(base, template, said):
    tokenizer = bases.Base("base", base, "").tokenizer(template)
    with pytest.raises(SourceError, match=said):
        Template(tokenizer).turn(TALK)


def test_what_is_cut_or_without_an_answer_is_counted_and_said(base, place):
    long = asked()[0][0]["content"] + " now" * 80
    written(place, "odd", "chat", [
        *({"messages": m} for m in asked()[:8]),
        {"messages": [{"role": "user", "content": long}, asked()[0][1]]}, {"messages": [*asked()[0], {"role": "user", "content": long}]},
        {"messages": [{"role": "user", "content": "Hm."}]}])
    made, _ = made_of(spec_of(base, "odd", objective={"context": 999}), place)
    counts = made.meta["splits"]["train"]
    assert (counts["records"], counts["samples"], counts["cut"], counts["left_out"]) == (5, 3, 2, 2)
    assert "64 tokens instead of 999" in made.notes()[0] and made.notes()[1].startswith("2 of 5 records are cut at 64 tokens")
    assert made.notes()[2].startswith("2 of 5 records train nothing")
    assert made.split("train").cut.tolist() == [0, 0, 1] and made.split("train").rows.tolist() == [0, 1, 3]


def test_an_end_that_no_template_writes_is_said(base, place):
    made, _ = made_of(spec_of(base, objective={"template": "{% for m in messages %}{{ m['content'] }} {% endfor %}"}), place)
    assert made.meta["end"] is None and "writes no end mark" in made.notes()[-1]


# The loss ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sequences", "chunks", "world", "split"), [(4, 2, 1, 1), (4, 2, 2, 1), (2, 3, 2, 1), (4, 2, 1, 2), (3, 4, 3, 2)])
def test_the_loss_of_a_step_is_the_mean_over_all_its_trained_tokens(base, place, sequences, chunks, world, split):
    answer = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So it is, as all know who saw it."}]}
    written(place, "uneven", "chat", [{"messages": m} for m in asked()[:20]] + [answer] * 4)
    _, plan = made_of(spec_of(base, "uneven", batch={"sequences": sequences}), place)
    module = objective(plan | {"sequences": sequences})
    total = 0.0
    for rank in range(world):
        share = Share(sequences, chunks, rank, world, split)
        for number in range(share.accumulate):
            step, positions, weight = share.batch(number)
            with torch.no_grad():
                total += weight * module.loss(module.reading.batch(positions, share.whole(step))).item() / (world * share.accumulate)
    model, nats, tokens = load_pretrained(base), 0.0, 0
    for sample in module.reading.named(range(sequences * chunks)):
        ids, trained = module.reading.split.sequence(sample)
        with torch.no_grad():
            logs = model(input_ids=torch.tensor(ids.astype("int64"))[None]).logits[0].log_softmax(-1)
        for n in range(1, len(ids)):
            nats, tokens = nats - trained[n] * logs[n - 1, int(ids[n])].item(), tokens + int(trained[n])
    assert total == pytest.approx(nats / tokens, abs=1e-5)


def test_each_sample_is_read_once_an_epoch(base, place):
    made, _ = made_of(spec_of(base), place)
    samples = Samples(made.split("train"), made.count("train"), 7)
    assert sorted(samples.named(range(60))) == sorted(samples.named(range(60, 120))) == list(range(60))
    assert samples.named(range(60)) != samples.named(range(60, 120))


# Whole runs --------------------------------------------------------------------------------------------------------------------------


def test_a_base_learns_to_answer_and_the_version_answers_as_any_other(taught):
    metrics, model = taught.result["metrics"], taught.output
    assert metrics["answer_loss"] < 0.3 * metrics["answer_loss_before"] and metrics["gain"]["high"] < 0
    assert metrics["held_out"] == sum(len(model.tokenizer()(f" It is {c}.").input_ids) + 1 for c in COLOURS.values())
    before, after = ([e.data for e in taught.events(kinds=["sample"]) if e.step == step] for step in (0, max(taught.curve("loss"))[0]))
    assert before[0]["prompt"] == "What colour is sky?" and before[0]["text"] != after[0]["text"] == " It is blue."
    language, loaded_model = Language(model.path), model.load()
    ids = language.tokens(language.chat([{"role": "user", "content": "What colour is sky?"}]))
    made = loaded_model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20)[0, len(ids):].tolist()
    assert made[-1] in language.ends and language.tokenizer.decode(made[:-1]) == " It is blue."
    assert "sft" in model.card and "all weights" in model.card and taught.id in model.card
    assert model.manifest["metrics"]["base"]["digest"] and not (model.path / "adapter").exists()


def test_an_adapter_on_a_registered_version_is_written_merged_and_beside(live, taught, hued):
    from peft import PeftModel

    run = runs.run(spec_of("taught", "hued", {"rank": 8, "alpha": 32}, name="spoken", epochs=10), live)
    metrics, path = run.result["metrics"], run.output.path
    assert metrics["answer_loss"] < 0.5 * metrics["answer_loss_before"]
    assert metrics["base"] == {"reference": "taught", "digest": taught.output.digest}
    assert sorted(p.name for p in (path / "adapter").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert str(live.root) not in (path / "adapter" / "adapter_config.json").read_text() + (path / "config.json").read_text()
    ids = torch.arange(1, 20)[None]
    with_adapter = PeftModel.from_pretrained(taught.output.load(), path / "adapter").eval()
    assert torch.allclose(with_adapter(input_ids=ids).logits, run.output.load()(input_ids=ids).logits, atol=1e-4)
    assert run.output.manifest["parameters"] == taught.output.manifest["parameters"]
    run.output.verify()


def test_a_run_that_is_stopped_ends_bit_by_bit_as_one_that_is_not(live, taught, hued):
    spec = spec_of("taught", "hued", {"rank": 4}, name="whole", epochs=15, every={"checkpoint": 10, "evaluate": 1000, "sample": 1000})
    whole = runs.run(spec, live)
    stopped = runs.submit(TrainSpec.load(spec.to_dict() | {"name": "halted"}), live)
    assert any((e.step or 0) >= 20 for e in stopped.follow())
    stopped.stop()
    stopped.wait(60, check=False)
    assert stopped.state == "stopped"
    stopped.resume().wait(120)
    assert stopped.curve("loss") == whole.curve("loss")
    assert stopped.output.digest == whole.output.digest


def test_one_rank_takes_the_same_steps_as_two(live, taught, base):
    one = runs.run(spec_of(base, hardware={"ranks": 1, "threads": 1}, batch={"accumulate": 2}, name="alone"), live)
    two = dict(taught.curve("loss"))
    assert set(two) == set(dict(one.curve("loss")))
    # Sums of gradients differ in their last bits, and training carries that on: the first steps tell whether the same is summed.
    assert all(abs(value - two[step]) < 1e-5 for step, value in one.curve("loss")[:20])
    assert one.result["metrics"]["answer_loss"] == pytest.approx(taught.result["metrics"]["answer_loss"], abs=1e-2)


def test_the_first_batch_is_the_one_that_the_ranks_read(live, taught, base):
    seen = sight.first_batch(taught.spec, live)
    read = {e.data["rank"]: e.data for e in taught.events(kinds=["mark"]) if e.name == "reads"}
    assert {str(rank): [m["digest"]] for rank, m in read.items()} == seen["digests"]
    assert [s["start"] for s in seen["sequences"]] == [n for rank in (0, 1) for n in read[rank]["windows"]]
    for sequence in seen["sequences"]:
        trained = "".join(t for t, on in zip(sequence["texts"], sequence["trained"], strict=True) if on)
        record = sequence["records"][0]
        thing, put = list(COLOURS)[int(record["locator"]) % 6], ASKED[(int(record["locator"]) - 6) // 6 % 5]
        assert trained == f" It is {COLOURS[thing]}.<|endoftext|>" and put.format(thing) in "".join(sequence["texts"])
    assert seen["trained"] == sum(map(sum, (s["trained"] for s in seen["sequences"]))) and seen["cut"] == 0


def test_ranks_that_share_out_a_matrix_see_the_same_chats(live, colours, base):
    seen, one = (sight.first_batch(spec_of(base, hardware=h), live) for h in ({"ranks": 4, "tensor": 2}, {"ranks": 2}))
    assert [seen["digests"][str(rank)] for rank in range(4)] == [one["digests"][str(reader)] for reader in (0, 0, 1, 1)]
    assert [s["start"] for s in seen["sequences"]] == [s["start"] for s in one["sequences"]]
    assert {tuple(s["ranks"]) for s in seen["sequences"]} == {(0, 1), (2, 3)}


# What is refused ---------------------------------------------------------------------------------------------------------------------


def test_what_can_not_be_trained_is_refused_when_it_is_submitted(live, colours, base, tmp_path):
    with pytest.raises(SourceError, match="holds no chats; received 'records of form text'"):
        runs.submit(spec_of(base, "docs"), live)
    bare = base_in(tmp_path / "bare", chat_template=None)
    with pytest.raises(SourceError, match='has no chat template.*objective.template="plain"'):
        runs.submit(spec_of(bare), live)
    assert answers.refuse(spec_of(bare, objective={"template": "plain"}), live, colours)["base"]
    with pytest.raises(SpecError, match="adapter.rank"):
        spec_of(base, adapter={"rank": 0})


def test_chats_without_an_answer_are_refused_before_the_first_step(live, base):
    written(live, "mute", "chat", [{"messages": m[:1]} for m in asked()])
    with pytest.raises(RunFailedError, match="the first batch trains no token of an answer.*60 records in train, none"):
        runs.run(spec_of(base, "mute"), live)
    with pytest.raises(SourceError, match="trains no token of an answer"):
        sight.first_batch(spec_of(base, "mute"), live)


def test_a_layer_that_is_not_there_is_told_by_the_rank(live, colours, base):
    with pytest.raises(RunFailedError, match="no layers to adapt"):
        runs.run(spec_of(base, adapter={"targets": ["qkv"]}), live)

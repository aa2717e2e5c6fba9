"""The unmodified openai client against a living endpoint: whole, streamed, chat, stop, seed, errors; greedy as transformers has it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import torch

PROMPTS = ["Return the", "Raises ", "A list of", "def f(x):\n", "If the value", "Zzz ü€😀 ", "Construct a new", "x", "The default is",
           "<script>alert('hi')</script>", "New in version", "  \n\n"]


def generated(model, prompt: str, most: int) -> tuple[str, list[int]]:
    """What transformers' generate answers greedily on the registered files, up to the end mark or the context."""
    tokenizer, network = model.tokenizer(), model.load()
    ids = torch.tensor([[0, *tokenizer(prompt).input_ids]])
    out = network.generate(ids, max_new_tokens=min(most, network.config.max_position_embeddings - ids.shape[1]), do_sample=False)
    new = out[0, ids.shape[1]:].tolist()
    return tokenizer.decode(new, skip_special_tokens=True), new


def test_greedy_answers_of_many_at_once_equal_generate(served):
    with ThreadPoolExecutor(len(PROMPTS)) as threads:
        answers = list(threads.map(lambda p: served.client.completions.create(model="docs-lm", prompt=p, max_tokens=40, temperature=0),
                                   PROMPTS))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        text, tokens = generated(served.model, prompt, 40)
        assert answer.choices[0].text == text
        assert answer.usage.completion_tokens == len(tokens)
        assert answer.choices[0].finish_reason == ("stop" if tokens[-1] == 0 else "length")


@pytest.mark.parametrize("temperature", [0, 1])
def test_streamed_and_whole_are_the_same_text(served, temperature):
    ask = {"model": "docs-lm", "prompt": "Return a", "max_tokens": 60, "temperature": temperature, "seed": 7}
    whole = served.client.completions.create(**ask)
    chunks = list(served.client.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage and len({c.id for c in chunks}) == 1 and len(chunks) > 10


def test_a_seed_repeats_an_answer_and_another_does_not(served):
    def ask(seed):
        return served.client.completions.create(model="docs-lm", prompt="The", max_tokens=40, seed=seed, top_p=0.9).choices[0].text

    assert ask(1) == ask(1) != ask(2)
    assert len({ask(None) for _ in range(4)}) == 4


def test_stop_sequences_end_the_text_before_them_streamed_or_whole(served):
    text = served.client.completions.create(model="docs-lm", prompt="Return the", max_tokens=40, temperature=0).choices[0].text
    stop = text[10:13]  # begins and ends within tokens
    want = text[:text.index(stop)]
    ask = {"model": "docs-lm", "prompt": "Return the", "max_tokens": 40, "temperature": 0, "stop": ["never met", stop]}
    answer = served.client.completions.create(**ask)
    assert answer.choices[0].text == want and answer.choices[0].finish_reason == "stop"
    assert "".join(c.choices[0].text for c in served.client.completions.create(**ask, stream=True)) == want


def test_chat_is_the_template_and_then_a_completion(served):
    messages = [{"role": "system", "content": "Be <b>brief</b>."}, {"role": "user", "content": [{"type": "text", "text": "What is it?"}]}]
    plain = [{"role": "system", "content": "Be <b>brief</b>."}, {"role": "user", "content": "What is it?"}]
    prompt = served.model.tokenizer().apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    want, _ = generated(served.model, prompt, 30)
    answer = served.client.chat.completions.create(model="docs-lm", messages=messages, max_tokens=30, temperature=0)
    assert answer.choices[0].message.content == want and answer.choices[0].message.role == "assistant"
    chunks = list(served.client.chat.completions.create(model="docs-lm", messages=messages, max_completion_tokens=30, temperature=0,
                                                        stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == want and chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason


def test_models_lists_what_can_be_asked_for(served):
    names = [m.id for m in served.client.models.list()]
    assert names[:4] == ["bot", "docs-lm", "slow-lm", "poem-lm"] and served.model.reference in names
    assert served.client.models.retrieve("docs-lm").id == "docs-lm"
    for name in ("bot", "docs-lm", served.model.reference):
        assert served.client.completions.create(model=name, prompt="x", max_tokens=1).model == served.model.reference


@pytest.mark.parametrize(("change", "status", "words"), [
    ({"model": "docs-lmm"}, openai.NotFoundError, 'Did you mean "docs-lm"'),
    ({"max_tokens": 0}, openai.BadRequestError, "max_tokens: received 0; expected a number ≥ 1"),
    ({"max_tokens": 5000}, openai.BadRequestError, "at most 2048"),
    ({"temperature": 3}, openai.BadRequestError, "expected a number ≤ 2"),
    ({"n": 2}, openai.BadRequestError, "n: received 2; expected 1"),
    ({"extra_body": {"temprature": 1}}, openai.BadRequestError, 'did you mean "temperature"'),
    ({"prompt": "word " * 200}, openai.BadRequestError, "the model's context has room for 96"),
    ({"prompt": ["one", "two"]}, openai.BadRequestError, "one prompt a request"),
    ({"prompt": [0, 99_999]}, openai.BadRequestError, "a token that the model does not know"),
    ({"stop": list("abcde")}, openai.BadRequestError, "at most 4 stop sequences"),
    ({"echo": True}, openai.BadRequestError, "echo"),
])
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_not_be_answered_is_refused_with_words(served, change, status, words, stream):
    with pytest.raises(status) as caught:
        served.client.completions.create(**{"model": "docs-lm", "prompt": "x", "max_tokens": 2, "stream": stream, **change})
    assert words in caught.value.message
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_a_prompt_of_tokens_and_one_that_fills_the_context(served):
    tokenizer = served.model.tokenizer()
    ids = [0, *tokenizer("Return the").input_ids]
    by_ids = served.client.completions.create(model="docs-lm", prompt=ids, max_tokens=20, temperature=0).choices[0].text
    assert by_ids == generated(served.model, "Return the", 20)[0]
    full = served.client.completions.create(model="docs-lm", prompt=[0, *[5] * 95], max_tokens=20, temperature=0)
    assert full.usage.prompt_tokens == 96 and full.usage.completion_tokens == 1 and full.choices[0].finish_reason == "length"


def post(served, body: str) -> httpx.Response:
    return httpx.post(f"{served.endpoint.address}/completions", content=body, headers={"Authorization": f"Bearer {served.endpoint.token}"})


def test_markup_stays_plain_text(served):
    page = post(served, json.dumps({"model": "<img src=x onerror=alert(1)>", "prompt": "<script>"}))
    assert page.status_code == 404 and page.headers["content-type"] == "application/json"
    assert "<img src=x onerror=alert(1)>" in page.json()["error"]["message"]


@pytest.mark.parametrize(("body", "words"), [
    ('{"model": "docs-lm", "prompt": "\\ud800"}', "no valid Unicode"), ('{"\\ud800": 1, "model": "docs-lm"}', "unable to parse"),
    ("[1]", "no JSON object"), ("{", "no JSON object"), ("[" * 100_000, "no JSON object"), ("\xff", "no JSON object")])
def test_a_body_that_is_no_request_is_refused_with_words(served, body, words):
    page = post(served, body)
    assert page.status_code == 400 and words in page.json()["error"]["message"]

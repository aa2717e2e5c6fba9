"""The model card: what it says, and that nothing from models or data is markup in it."""

from __future__ import annotations

import dataclasses
import html
import re

from hypothesis import given
from hypothesis import strategies as st

from workbench.assess.card import model_card, plain
from workbench.policy import Evidence, Policy, judge

PIECES = [*"ab<>&|*_`[]()!#~$\\\n\r\t :.\u2028", "http", "www.", "<b>", "](x)", "|---|", "://"]
MARKUP = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(MARKUP)
def test_plain_text_is_one_line_without_markup_that_reads_as_it_was(text):
    shown = plain(text)
    assert len(shown.splitlines()) <= 1 and "<" not in shown and ">" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`\[\]*]", shown)
    assert not re.search(r"(?i)\b(https?|ftp)://|\bwww\.", shown)
    assert html.unescape(re.sub(r"\\(.)", r"\1", shown)) == " ".join(text.split())


@given(MARKUP)
def test_every_row_of_a_table_keeps_its_columns(text):
    policy = Policy()
    e = Evidence("memorised", 0.5, 0.4, 0.6, 100, text, "m" * 64, "d" * 64, policy.digest(), 0.0, unit="share",
                 examples=({"record": text, "said": text},), beside={"held-out": 0.0})

    class Thing:
        reference, digest = text, "d" * 64
        manifest = {"name": text, "parameters": 10, "dataset": {"name": text, "digest": "e" * 64}, "metrics": {"loss": 1.0, "note": text},
                    "splits": {"test": {"records": 3, "bytes": 30}}}

    verdict = judge(policy, [e], model="m" * 64, dataset="d" * 64, now=0.0)
    card = model_card(Thing, Thing, [dataclasses.replace(e)], verdict)
    assert "must not be deployed" in card and "held-out 0" in card
    for line in card.splitlines():
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) - 1
            assert cells in (2, 3, 5, 6) and line.endswith(" |")
        else:
            assert re.match(r"#{1,3} |- |$|[A-Z0-9]", line)

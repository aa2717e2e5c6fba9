"""The data card: what it says is what happened, and text from data stays text."""

from __future__ import annotations

from workbench import runs
from workbench.data.card import escape


def test_the_card_tells_splits_sources_steps_drops_and_findings(workspace):
    hostile = workspace.root / "<img src=x onerror=alert(1)>_*.txt"
    paragraphs = [f"Paragraph {n} of a text about {word} and the many things that {word} may be good for in a long winter. " * 8
                  for n, word in enumerate(("wood", "coal", "peat", "wool", "salt"))]
    hostile.write_text("\n\n".join([*paragraphs, "x" * 3, "Write to ada@example.org about it. " + paragraphs[0].replace("wood", "oil")]))
    run = runs.submit({"word": "data", "name": "d", "sources": [{"kind": "files", "paths": ["*.txt"]}]}, workspace, place="here")
    assert run.state == "done", run.failure
    card, manifest = run.output.card, run.output.manifest
    kept = run.output.table().num_rows
    assert f"{kept} text records, kept of {manifest['read']} that were read." in card
    assert "<img" not in card.replace(run.output.manifest["spec"]["sources"][0]["paths"][0], "")
    assert r"&lt;img src=x onerror=alert(1)&gt;\_\*.txt: " in card
    assert "Redacted: 1 email." in card and "near-duplicates: threshold 0.8, words 5" in card
    for step, reasons in manifest["drops"].items():
        for reason, n in reasons.items():
            assert f"| {step} | {reason} | {n} |" in card


def test_a_card_of_pictures_says_nothing_of_personal_data(workspace):
    run = runs.submit({"word": "data", "name": "d", "sources": [{"kind": "digits"}]}, workspace, place="here")
    assert "Personal data" not in run.output.card and "image records" in run.output.card


def test_escaped_text_makes_no_markup():
    assert escape("a|b\n<c> [d](e) `f` #g ~h &amp;") == r"a\|b &lt;c&gt; \[d\](e) \`f\` \#g \~h &amp;amp;"

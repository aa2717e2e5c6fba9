"""Personal data: checksums decide, redaction leaves nothing, precision and recall on a labelled set."""

from __future__ import annotations

import json
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.detect import pii

LABELLED = Path(__file__).parents[3] / "shared" / "data" / "presidio-research" / "synth_dev.json"


def kinds(text: str) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start:f.end]) for f in pii.find(text)]


def luhn(digits: str) -> str:
    """The digits with Luhn's check digit behind them (ISO/IEC 7812-1, annex B), by the book."""
    total = sum(sum(divmod(int(d) * (2 - n % 2), 10)) for n, d in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def iban(country: str, account: str) -> str:
    """An IBAN with its check digits (ISO 13616: 98 minus the rest of the rearranged number by 97)."""
    number = "".join(str(int(c, 36)) for c in account + country + "00")
    return f"{country}{98 - int(number) % 97:02d}{account}"


@given(st.from_regex(r"4[0-9]{14}", fullmatch=True), st.sampled_from(["", " ", "-"]), st.integers(1, 9))
def test_a_card_is_found_by_its_check_digit_alone(digits, gap, off):
    number = luhn(digits)
    written = gap.join(number[n:n + 4] for n in range(0, 16, 4))
    assert ("card", written) in kinds(f"Card: {written}.") or len(set(number)) == 1
    wrong = number[:-1] + str((int(number[-1]) + off) % 10)
    written = gap.join(wrong[n:n + 4] for n in range(0, 16, 4))
    assert not any(kind == "card" for kind, _ in kinds(f"Card: {written}."))


@given(st.from_regex(r"[0-9]{18}", fullmatch=True), st.booleans(), st.integers(1, 96))
def test_an_iban_is_found_by_its_checksum_alone(account, spaced, off):
    number = iban("DE", account)
    written = " ".join(number[n:n + 4] for n in range(0, len(number), 4)) if spaced else number
    assert ("iban", written) in kinds(f"Account {written}, please.")
    check = (int(number[2:4]) - 2 + off) % 97 + 2
    wrong = f"DE{check:02d}{account}"
    written = " ".join(wrong[n:n + 4] for n in range(0, len(wrong), 4)) if spaced else wrong
    assert not any(kind == "iban" for kind, _ in kinds(f"Account {written}, please."))


@pytest.mark.parametrize(("text", "found"), [
    ("ada.lovelace+x@mail.example.org", "ada.lovelace+x@mail.example.org"), ("<ada@example.org>", "ada@example.org"),
    ("`ada@example.org`", "ada@example.org"), ("(ada@example.co.uk).", "ada@example.co.uk"), ("mailto:ö.ä@exämple.de!", "ö.ä@exämple.de"),
    ("@decorator", None), ("a @ b.org", None), ("user@localhost", None), ("x@y.z", None), ("pip install a@b==1.0", None)])
def test_email(text, found):
    assert kinds(text) == ([("email", found)] if found else [])


@pytest.mark.parametrize(("text", "found"), [
    ("Call 020 7946 0958 now", "020 7946 0958"), ("+49 (0)30 1234567", "+49 (0)30 1234567"), ("(555) 123-4567", "(555) 123-4567"),
    ("555-123-4567", "555-123-4567"), ("fax: 12 34 56 78", "12 34 56 78"), ("+1 555 123 4567 x89", "+1 555 123 4567 x89"),
    ("2024-05-17", None), ("12.05.2024", None), ("1999-2004", None), ("ISBN 978-3-16-148410-0", None), ("192.168.100.100", None),
    ("10 20 30 40 50 60", None), ("RFC 1234567890", None), ("0x12345678", None), ("version 1.2.3456789", None), ("3.14159265358", None),
    ("pages 123-4567", None), ("0000000000", None), ("078-05-1120", None)])
def test_phone(text, found):
    assert kinds(text) == ([("phone", found)] if found else [])


PARTS = ["ada@example.org", "020 7946 0958", "call ", iban("DE", "370400440532013000"), luhn("411111111111111"), "+49 30 1234567", " ",
         ", ", "\n", "@", "1", "4111", "DE"]
texts = st.lists(st.one_of(st.sampled_from(PARTS), st.text(string.printable, max_size=12)), max_size=12).map("".join)


@given(texts)
def test_what_was_redacted_holds_nothing_and_findings_do_not_overlap(text):
    redacted, found = pii.redact(text)
    assert pii.find(redacted) == []
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(0 <= f.start < f.end <= len(text) for f in found)
    rebuilt, at = "", 0
    for start, end, kind in found:
        rebuilt, at = rebuilt + text[at:start] + f"<{kind.upper()}>", end
    assert redacted == rebuilt + text[at:]
    assert bool(found) or redacted == text


def test_only_the_kinds_asked_for():
    text = f"ada@example.org {luhn('411111111111111')}"
    assert [f.kind for f in pii.find(text, ["card"])] == ["card"] and pii.find(text, []) == []


def test_a_long_text_of_digits_takes_no_longer_than_its_length():
    import time

    def seconds(n: int) -> float:
        begin = time.process_time()
        pii.find("1 23 456 7890-12 345 " * n)
        return time.process_time() - begin

    seconds(200)
    assert seconds(8000) < 40 * max(seconds(800), 0.005)


@pytest.mark.skipif(not LABELLED.exists(), reason="the labelled set is not here")
def test_precision_and_recall_on_a_labelled_set():
    names = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "IBAN_CODE": "iban"}
    right, wrong, missed = Counter(), Counter(), Counter()
    for document in json.loads(LABELLED.read_text()):
        truth = [(s["start_position"], s["end_position"], names[s["entity_type"]]) for s in document["spans"] if s["entity_type"] in names]
        found = pii.find(document["full_text"])

        def meet(a, b) -> bool:
            return a[2] == b[2] and a[0] < b[1] and b[0] < a[1]

        right.update(f.kind for f in found if any(meet(f, t) for t in truth))
        wrong.update(f.kind for f in found if not any(meet(f, t) for t in truth))
        missed.update(t[2] for t in truth if not any(meet(f, t) for f in found))
    for kind in pii.ALL:
        assert right[kind] / (right[kind] + wrong[kind]) >= 0.97, kind
        assert right[kind] / (right[kind] + missed[kind]) >= 0.93, kind

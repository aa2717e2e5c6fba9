"""Personal data in text: e-mail addresses, phone numbers, IBANs and card numbers, the last two with their checksums."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ALL = ("email", "iban", "card", "phone")
"""Kinds that can be found, the surest first: where two would overlap, the earlier kind has the place."""


class Found(NamedTuple):
    """One finding: ``text[start:end]`` is of ``kind``."""

    start: int
    end: int
    kind: str


def find(text: str, kinds: Iterable[str] = ALL) -> list[Found]:
    """Findings of the given kinds, by position, none overlapping another.

    E-mail addresses by their form; IBANs by form, country and ISO 7064 checksum; cards by issuer range, length
    and Luhn's checksum (ISO/IEC 7812); phone numbers by a form that only they have, or by a looser form beside a
    word such as "call" or "fax". Names and addresses are not looked for.

    Examples
    --------
    >>> find("Write to ada@example.org or call 020 7946 0958.")
    [Found(start=9, end=24, kind='email'), Found(start=33, end=46, kind='phone')]
    """
    wanted = [k for k in ALL if k in set(kinds)]
    found: list[Found] = []
    # What was found is hidden, as if redacted, and the rest looked at again until nothing more shows: so a redacted
    # text holds no finding that the first look did not see.
    while True:
        fresh = _once(text, wanted)
        if not fresh:
            return sorted(found)
        found += fresh
        for start, end, _ in fresh:
            text = f"{text[:start]}<{'X' * (end - start - 2)}>{text[end:]}"


def redact(text: str, kinds: Iterable[str] = ALL) -> tuple[str, list[Found]]:
    """The text with ``<EMAIL>``, ``<PHONE>`` … in place of findings, and the findings by their place in the original.

    Examples
    --------
    >>> redact("card 4111 1111 1111 1111")[0]
    'card <CARD>'
    """
    found = find(text, kinds)
    pieces, at = [], 0
    for start, end, kind in found:
        pieces += [text[at:start], f"<{kind.upper()}>"]
        at = end
    return "".join([*pieces, text[at:]]), found


def _once(text: str, kinds: list[str]) -> list[Found]:
    found: list[Found] = []
    for kind in kinds:
        for start, end in _FINDERS[kind](text):
            if not any(start < f.end and f.start < end for f in found):
                found.append(Found(start, end, kind))
    return found


# --- e-mail ----------------------------------------------------------------------------------------------------------

_DOMAIN = re.compile(r"@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[A-Za-z]{2,24}(?![\w-]|@)")
_LOCAL = re.compile(r"[\w.+%'!#$&*/=?^`{|}~-]+\Z")


def _emails(text: str) -> Iterator[tuple[int, int]]:
    # From the @ outwards: text is full of words and poor in @.
    for match in _DOMAIN.finditer(text) if "@" in text else ():
        local = _LOCAL.search(text, max(0, match.start() - 64), match.start())
        if local:
            lead = len(local.group()) - len(local.group().lstrip(".'`*/{|="))
            if lead < len(local.group()):
                yield local.start() + lead, match.end()


# --- IBAN ------------------------------------------------------------------------------------------------------------

_IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[A-Za-z0-9]{11,30}|(?: [A-Za-z0-9]{4}){2,7}(?: [A-Za-z0-9]{1,4})?)(?!\w)")
_IBAN_MARK = re.compile(r"\d\d(?<=\b[A-Za-z]{2}\d\d)")
"""Where an IBAN may begin, found from its digits: text is full of letters."""


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text) if _IBAN_MARK.search(text) else ():
        from stdnum import iban

        words = match.group().split(" ")
        # A word of text may follow a spaced IBAN and look like its next group: try without the last groups.
        for n in range(len(words), 0, -1):
            candidate = " ".join(words[:n])
            if iban.is_valid(candidate):
                yield match.start(), match.start() + len(candidate)
                break


# --- cards -----------------------------------------------------------------------------------------------------------

_MANY_DIGITS = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
"""Cheap look ahead: no card or phone number has fewer than seven digits near one another."""
_CARD = re.compile(r"(?<![\w.,+-])(?:\d{12,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|[.,]\d)")
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:30[0-5]\d{11}|3[689]\d{12})"  # Diners
    r"|(?:6011|64[4-9]\d|65\d\d|622\d)\d{12,15}"  # Discover, UnionPay
    r"|(?:35(?:2[89]|[3-8]\d)\d{12,15}|(?:2131|1800)\d{11})"  # JCB
    r"|(?:50|5[6-9]|6\d)\d{10,17}")  # Maestro


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text) if _MANY_DIGITS.search(text) else ():
        from stdnum import luhn

        digits = re.sub(r"\D", "", match.group())
        if _ISSUERS.fullmatch(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield match.span()


# --- phone -----------------------------------------------------------------------------------------------------------

_PHONE = re.compile(
    r"(?<![\w.,/=*^~$€£#%:-])(?<!\d[ ,;])(?:"
    r"(?P<world>(?:\+|00)\d{1,3}[ .-]?(?:\(0\)[ .-]?)?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4})"
    r"|(?P<area>\((?!(?:1[6-9]|20)\d\d\))\d{2,5}\)[ .-]?\d{3,4}(?:[ .-]?\d{2,4}){1,2})"
    r"|(?P<america>(?:1[ .-])?\d{3}(?P<mark>[ .-])\d{3}(?P=mark)\d{4})"
    r"|(?P<trunk>0\d{1,4}(?P<gap>[ .-])\d{2,8}(?:(?P=gap)\d{2,4}){0,3})"
    r"|(?P<loose>\d{2,4}(?P<step>[ -])\d{2,4}(?:(?P=step)\d{2,4}){0,3}|\d{10,11}))"
    r"(?:[ ]?(?:x|ext\.?[ ]?)\d{1,5})?(?![\w%°=*^/]|[.,:-]?\d|[ ,;][ ]?\d)")
_BEFORE = re.compile(
    r"\b(?:tele)?(?:phones?|tel|fax|mobile|cell|call(?:ed|ing)?|dial|ring|desk|office|whatsapp|sms|contact|hotline|reach"
    r"|answer(?:ing|s|ed)?|messages?|text(?:ed)?[ ]me|pager|registered)\b[^\d\n]{0,24}\n?[^\d\n]{0,4}\Z", re.IGNORECASE)
_AFTER = re.compile(r"[ ,:(\\-]{0,3}(?:office|fax|mobile|cell|desk|home|work|phone)\b", re.IGNORECASE)
_OTHER = re.compile(r"\b(?:isbn|issn|doi|pmid|arxiv|ids?|no|vol|pages?|pp|rfc|ssn|zip|seed|version)\b[ .:#=-]{0,3}\Z", re.IGNORECASE)
_CROWDED = re.compile(r"\d[ ,;]{1,3}\Z")  # one of a row of numbers
_DATE = re.compile(r"(?:1[6-9]|20)\d\d([ ./-])[01]?\d\1[0-3]?\d|[0-3]?\d([ ./-])[01]?\d\2(?:1[6-9]|20)\d\d"
                   r"|[01]?\d([ ./-])[0-3]?\d\3(?:1[6-9]|20)\d\d|(?:1[6-9]|20)\d\d[ -](?:1[6-9]|20)\d\d")
_SOCIAL_SECURITY = re.compile(r"\d{3}-\d\d-\d{4}")


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text) if _MANY_DIGITS.search(text) else ():
        number = re.sub(r"(?i)[ ]?(?:x|ext).*", "", match.group())
        digits = re.sub(r"\D", "", number)
        if not 7 <= len(digits) <= 15 or set(digits) <= {"0", "1"} or _DATE.fullmatch(number) or _SOCIAL_SECURITY.fullmatch(number):
            continue
        start = match.start()
        before = text[max(0, start - 48):start]
        if _OTHER.search(before):
            continue
        # A form that is hardly anything else stands alone; a looser one needs a word beside it that speaks of phones.
        sure = (len(digits) >= 8 and (match["world"] or match["area"])) or (match["america"] and match["mark"] != " ")
        sure = sure and not _CROWDED.search(before)
        if sure or _BEFORE.search(before) or _AFTER.match(text, match.end()):
            yield match.span()


_FINDERS = {"email": _emails, "iban": _ibans, "card": _cards, "phone": _phones}

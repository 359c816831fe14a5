"""Personal data and secrets -> placeholders, the same one for the same value throughout a row.

In: the texts of one row.  Out: the texts with <手机号_1> or <PHONE_1>, and how many of each kind
there were; never the values. What has a checksum is checked: an order number is no bank card.
Standards: GB 11643-1999 (ID number), ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN), RFC 7519 (JWT).
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date

_NAMES = {
    "secret": ("密钥", "SECRET"),
    "jwt": ("令牌", "TOKEN"),
    "email": ("邮箱", "EMAIL"),
    "id": ("身份证号", "ID"),
    "iban": ("国际账号", "IBAN"),
    "card": ("银行卡号", "CARD"),
    "phone": ("手机号", "PHONE"),
    "ip": ("IP地址", "IP"),
    "plate": ("车牌号", "PLATE"),
}
PLACEHOLDER = re.compile(
    "<(?:" + "|".join(name for pair in _NAMES.values() for name in pair) + r")_\d+>"
)
_HAN = re.compile("[\u3400-\u9fff]")
_PROVINCES = frozenset(  # GB/T 2260
    str(code)
    for first, last in (
        (11, 15),
        (21, 23),
        (31, 37),
        (41, 46),
        (50, 54),
        (61, 65),
        (71, 71),
        (81, 83),
    )
    for code in range(first, last + 1)
)
_FACTORS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
# Issuers and their lengths: Visa, Mastercard, American Express, JCB, Discover, UnionPay.
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|35\d{14}|6011\d{12}|65\d{14}"
    r"|62\d{14,17}"
)


def is_id_number(text: str) -> bool:
    """An 18-digit Chinese ID: province, birthday and the check digit of ISO 7064 MOD 11-2."""
    if text[:2] not in _PROVINCES:
        return False
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * factor for digit, factor in zip(text[:17], _FACTORS, strict=True))
    return born.year > 1800 and "10X98765432"[total % 11] == text[17].upper()


def is_card(text: str) -> bool:
    """A card number of a known issuer whose Luhn sum is right; spaces and hyphens do not count."""
    digits = re.sub(r"[ -]", "", text)
    if not _CARD.fullmatch(digits):
        return False
    doubled = [int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Country, check digits and account, 15 to 34 characters, modulo 97 equal to 1."""
    packed = text.replace(" ", "")
    if not 15 <= len(packed) <= 34:
        return False
    turned = packed[4:] + packed[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def is_address(text: str) -> bool:
    """An IP address of some machine: not this one (127.0.0.1, ::1), not a mask, not unspecified."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified or text.startswith("255."))


def _always(_: str) -> bool:
    return True


_START, _END = r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])"
# Kind -> pattern, check; in this order, so that a key is not taken for what it contains.
_PATTERNS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("secret", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
               r"|(?<![0-9A-Za-z_-])(?:sk-[\w-]{20,}|gh[pousr]_\w{30,}|github_pat_\w{22,}"
               r"|hf_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|xox[abprs]-[\w-]{10,}"
               r"|glpat-[\w-]{20,}|LTAI[A-Za-z0-9]{12,20})", _always),
    ("jwt", r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*", _always),
    ("email", r"(?<![\w.+-])[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b",
     _always),
    ("id", rf"{_START}\d{{17}}[\dXx]{_END}", is_id_number),
    ("iban", rf"{_START}[A-Z]{{2}}\d{{2}}(?: ?[A-Z0-9]{{4}}){{2,7}}(?: ?[A-Z0-9]{{1,4}})?{_END}",
     is_iban),
    ("card", rf"{_START}\d(?:[ -]?\d){{12,18}}{_END}", is_card),
    ("phone", r"(?<![0-9A-Za-z.])(?:(?:\+|00)?86[ -]?)?1[3-9]\d(?:[ -]?\d{4}){2}(?![0-9A-Za-z])"
              r"|(?<![0-9A-Za-z])\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?![0-9A-Za-z])",
     _always),
    ("ip", r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)"
           r"|(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])", is_address),
    ("plate", "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z]"
              r"[·• ]?(?=[A-HJ-NP-Z]{0,4}\d)[A-HJ-NP-Z0-9]{4,5}[A-HJ-NP-Z0-9挂学警港澳]"
              r"(?![0-9A-Za-z])",
     _always),
)  # fmt: skip
_COMPILED = tuple(
    (kind, re.compile(pattern, re.ASCII), check) for kind, pattern, check in _PATTERNS
)
# What no text without personal data has; nearly every text passes here in one look.
_TRACE = re.compile(
    r"\d[ -]?\d{2}[ -]?\d{3}|\d\.\d{1,3}\.|@|eyJ|BEGIN |sk-|gh[pousr]_|github_|hf_|AKIA|AIza|xox"
    r"|glpat-|LTAI|[0-9A-Fa-f:]:[0-9A-Fa-f:]*:|\+\d"
    r"|[\u4e00-\u9fff][A-HJ-NP-Z][·• ]?[A-HJ-NP-Z0-9]{5}",
    re.ASCII,
)


@dataclass
class Scrubber:
    """Placeholders of one row. chinese: in whose names.  counts: values replaced, by kind."""

    chinese: bool
    keep: Collection[str] = ()
    counts: Counter[str] = field(default_factory=Counter)
    _known: dict[tuple[str, str], str] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        """The text with placeholders."""
        if not _TRACE.search(text):
            return text
        for kind, pattern, check in _COMPILED:
            text = pattern.sub(self._put(kind, check), text)
        return text

    def _put(self, kind: str, check: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
        def put(found: re.Match[str]) -> str:
            value = found[0]
            if value in self.keep or not check(value):
                return value
            self.counts[kind] += 1
            same = re.sub(r"[\s().-]", "", value).casefold()
            if kind == "phone":
                same = re.sub(r"^(?:\+|00)?86(?=1\d{10}$)", "", same)
            number = 1 + sum(known == kind for known, _ in self._known)
            name = _NAMES[kind][0 if self.chinese else 1]
            return self._known.setdefault((kind, same), f"<{name}_{number}>")

        return put


def scrubber(texts: str, keep: Collection[str] = ()) -> Scrubber:
    """A scrubber for a row: with Chinese placeholders where its texts are Chinese."""
    return Scrubber(chinese=bool(_HAN.search(texts)), keep=keep)


def only_placeholders(text: str) -> bool:
    """Is there nothing to learn but placeholders?"""
    rest = PLACEHOLDER.sub("", text)
    return rest != text and sum(char.isalnum() for char in rest) < 2

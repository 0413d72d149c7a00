"""A patient's name wherever a data set can hold text, and the search for it where it must not be.

Enters: nothing. Leaves: data elements full of names; a failed test where a name is found, however it was written down.
Never: a name of somebody who lives.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pydicom.datadict import DicomDictionary

from tests.peers import encoding as enc
from tests.peers.datasets import SERIES_UID, SOP_CLASS, SOP_INSTANCE, STUDY_DATE, STUDY_UID, Made, element, make

NAME = "Zorglub^Quentin"
CHARACTER_SET, PATIENT_NAME = 0x00080005, 0x00100010

TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UN", "UR", "UT")
"""PS3.5 table 6.2-1, with UN for what nobody knows."""


@dataclass(frozen=True)
class Script:
    """A specific character set (PS3.3 section C.12.1.1.2), and a name in it."""

    terms: str
    codec: str
    name: str

    @property
    def value(self) -> bytes:
        return self.name.encode(self.codec)


SCRIPTS = (
    Script("ISO_IR 6", "ascii", NAME),
    Script("ISO_IR 100", "latin-1", "Zörglüb^Quéntïn"),
    Script("ISO_IR 144", "iso8859-5", "Зорглуб^Квентин"),
    Script("\\ISO 2022 IR 87", "iso2022_jp", "Zorglub^Quentin=山田桜^太郎丸=やまださくら^たろうまる"),
    Script("\\ISO 2022 IR 149", "euc_kr", "홍길동이^김희중이"),
    Script("ISO_IR 192", "utf-8", "Ζοργλουμπ^Κουεντιν"),
    Script("GB18030", "gb18030", "王小东北^李四光明"),
)


def _forms(script: Script) -> Iterator[str]:
    for word in script.name.replace("=", "^").split("^"):
        for codec in dict.fromkeys((script.codec, "utf-8")):
            data = word.encode(codec)
            # As text, as wrong text, with escapes of Python and of JSON, in a URL, in hexadecimal.
            for text in (word, data.decode("latin-1")):
                yield from (text, ascii(text)[1:-1], json.dumps(text)[1:-1])
            yield from (repr(data)[2:-1], quote(word), quote(data), data.hex())
            # In Base64, wherever in a group of three bytes it begins; the characters at its ends depend on what is beside it.
            for offset in range(3):
                begin, end = (8 * offset + 5) // 6, 4 * ((len(data) + offset) // 3)
                yield base64.b64encode(bytes(offset) + data).decode()[begin:end]


FORMS = frozenset(form.lower() for script in SCRIPTS for form in _forms(script))


def assert_nameless(what: str, text: str) -> None:
    """Fails where a name is in the text."""
    lower = text.lower()
    for form in FORMS:
        at = lower.find(form)
        assert at < 0, f"{form!r} in {what}: {text[max(0, at - 300) : at + 100]!r}"


def even(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def named(count: int = 1, script: Script = SCRIPTS[0]) -> bytes:
    """A value of even length with so many names."""
    return even(b"\\".join([script.value] * count))


Elements = list[tuple[int, str, bytes]]


def of_every_vr(script: Script) -> Elements:
    """Of every kind of text, before the identifiers, between and behind them; private ones with their creator, and unknown ones."""
    elements: Elements = [(CHARACTER_SET, "CS", even(script.terms.encode())), (PATIENT_NAME, "PN", named(script=script))]
    for group in (0x0009, 0x0011, 0x0021):
        elements.append((group << 16 | 0x0010, "LO", named(script=script)))
    for group in (0x0009, 0x0010, 0x0011, 0x0021):
        elements += [(group << 16 | 0x1000 + n, vr, named(1 + n % 3, script)) for n, vr in enumerate(TEXT_VRS)]
    return elements


def of_the_dictionary(script: Script, *, explicit: bool = True, little: bool = True) -> Elements:
    """Every element of PS3.6 that is text, but those that name an instance; every sequence, with a name at each of two depths."""
    kept = {SOP_CLASS, SOP_INSTANCE, STUDY_DATE, STUDY_UID, SERIES_UID, CHARACTER_SET}
    elements: Elements = [(CHARACTER_SET, "CS", even(script.terms.encode()))]
    for tag, (vr, *_) in DicomDictionary.items():
        if tag >> 16 < 0x0008 or tag in kept:
            continue
        if vr in TEXT_VRS:
            elements.append((tag, vr, named(script=script)))
        elif vr == "SQ":
            elements.append((tag, vr, sequence(script, explicit=explicit, little=little)))
    return elements


def sequence(script: Script, *, explicit: bool = True, little: bool = True) -> bytes:
    """The items of a sequence: one with a name, one of undefined length with another sequence in it."""
    order = "<" if little else ">"

    def item(content: bytes) -> bytes:
        return struct.pack(f"{order}HHL", 0xFFFE, 0xE000, len(content)) + content

    name = element(PATIENT_NAME, "PN", named(script=script), explicit=explicit, little=little)
    inner = element(0x0040A730, "SQ", item(name), explicit=explicit, little=little)
    open_item = struct.pack(f"{order}HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + name + inner + struct.pack(f"{order}HHL", 0xFFFE, 0xE00D, 0)
    return item(name) + open_item


EXTRA = of_every_vr(SCRIPTS[0])

Sent = tuple[int, Made, bytes]
"""Presentation context, what the command says, data set."""

EXPLICIT, VERIFICATION, DEFLATED, IMPLICIT, BIG_ENDIAN = 1, 3, 7, 9, 11
CONTEXTS = [
    enc.Context(EXPLICIT, enc.CT_IMAGE),
    enc.Context(VERIFICATION, enc.VERIFICATION),
    enc.Context(DEFLATED, enc.CT_IMAGE, (enc.DEFLATED_LE,)),
    enc.Context(IMPLICIT, enc.CT_IMAGE, (enc.IMPLICIT_LE,)),
    enc.Context(BIG_ENDIAN, enc.CT_IMAGE, (enc.EXPLICIT_BE,)),
]


def good_instances(study: str = "") -> list[Sent]:
    """Instances that are stored: every script, every encoding, every text of the dictionary."""
    made = [(EXPLICIT, make(study=study, extra=of_every_vr(script))) for script in SCRIPTS]
    for script, context, how in zip(SCRIPTS, (EXPLICIT, DEFLATED, IMPLICIT, BIG_ENDIAN), ("", "deflated", "implicit", "big"), strict=False):
        explicit, little = how != "implicit", how != "big"
        extra: Sequence[tuple[int, str, bytes]] = of_the_dictionary(script, explicit=explicit, little=little)
        made.append((context, make(study=study, extra=extra, explicit=explicit, little=little, deflated=how == "deflated")))
    # A date that is none.
    dated = make(study=study, extra=EXTRA)
    return [(context, one, one.data_set) for context, one in made] + [(1, dated, dated.data_set.replace(b"20260102", named()[:8]))]


def bad_instances(study: str = "") -> list[Sent]:
    """Instances that are not stored, for each reason that lies in them."""
    good = make(study=study, extra=EXTRA)
    made: list[Sent] = []
    for lacking in ("study", "series", "sop_instance", "sop_class"):
        # A name where a UID belongs.
        for uid in (None, NAME):
            made.append((EXPLICIT, good, make(**{"study": study, lacking: uid, "extra": EXTRA}).data_set))  # type: ignore[arg-type]
    made.append((EXPLICIT, Made(good.data_set, enc.CT_IMAGE, NAME, good.study, good.series), make(sop_instance=NAME, extra=EXTRA).data_set))
    made.append((EXPLICIT, Made(good.data_set, NAME, good.sop_instance, good.study, good.series), good.data_set))
    # A head that cannot be read, one that is cut inside a name, one whose first element claims the rest.
    for script in SCRIPTS:
        for context in (EXPLICIT, DEFLATED, IMPLICIT, BIG_ENDIAN):
            made.append((context, good, named(40, script)))
    made.append((EXPLICIT, good, good.data_set[: good.data_set.index(named()) + 5]))
    made.append((EXPLICIT, good, element(0x00080008, "CS", named(), length=60000) + good.data_set))
    made.append((EXPLICIT, good, b""))
    return made


def large_instances(study: str = "") -> list[Sent]:
    """Two that are longer than what a receiver keeps in memory: one that is stored, one whose head cannot be read."""
    spilled = make(study=study, extra=EXTRA, pixel_bytes=9 << 20)
    return [(EXPLICIT, spilled, spilled.data_set), (EXPLICIT, spilled, named() * (9 << 16))]

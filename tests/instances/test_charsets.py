"""Text under every character set that DICOM defines: read, written, and never garbled in silence."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes

from gateway.instances.charsets import UTF_8, NotRepresentable, choose, decode, encode, known

JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
H_3_1 = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
H_3_2 = b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"
I_2 = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
K_2 = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="

STANDARD = [
    (("", "ISO 2022 IR 87"), H_3_1, JAPANESE),
    (("ISO 2022 IR 13", "ISO 2022 IR 87"), H_3_2, "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    (("", "ISO 2022 IR 149"), I_2, "Hong^Gildong=洪^吉洞=홍^길동"),
    (("", "ISO 2022 IR 58"), K_2, "Zhang^XiaoDong=张^小东="),
    (("GB18030",), b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    (("ISO_IR 192",), b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=", "Wang^XiaoDong=王^小東="),
    (("ISO_IR 100",), b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    (("ISO_IR 101",), b"Wa\xb3\xeasa", "Wałęsa"),
    (("ISO_IR 126",), b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    (("ISO_IR 127",), b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
    (("ISO_IR 138",), b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    (("ISO_IR 144",), b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
    (("ISO_IR 166",), b"\xb9\xd2\xc2", "นาย"),
    (("ISO_IR 148",), b"\xc7avu\xfeo\xf0lu", "Çavuşoğlu"),
    (("ISO_IR 13",), b"\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ"),
]
"""Names from PS3.5 Annexes H, I, J and K and PS3.3 C.12.1.1.2, and one for each other set."""


@pytest.mark.parametrize(("terms", "written", "text"), STANDARD)
def test_names_are_read_as_the_standard_writes_them(terms: tuple[str, ...], written: bytes, text: str) -> None:
    assert decode(written, "PN", terms, "ISO_IR 100") == text


@pytest.mark.parametrize(("terms", "written", "text"), STANDARD)
def test_names_are_written_as_the_standard_writes_them(terms: tuple[str, ...], written: bytes, text: str) -> None:
    assert encode(text, terms, is_name=True) == written


# pydicom leaves the escape sequences of GB 2312 in the text.
@pytest.mark.parametrize(
    ("terms", "text"), [(case[0], case[2]) for case in STANDARD if "ISO 2022 IR 58" not in case[0]]
)
def test_pydicom_reads_what_is_written_here(terms: tuple[str, ...], text: str) -> None:
    encodings = convert_encodings(list(terms))
    assert decode_bytes(encode(text, terms, is_name=True), encodings, {0x5E, 0x3D}) == text


_LETTERS = {
    ("ISO_IR 100",): "éÉñß ÆÿO'",
    ("ISO_IR 101",): "ŁłĄęŻź e",
    ("ISO_IR 144",): "ЯяЖж n",
    ("ISO_IR 126",): "ΩωΑά a",
    ("ISO_IR 192",): "Łé山ﾔ길Жω",
    ("GB18030",): "Łé山길Жω王",
    ("GBK",): "山王小东",
    ("", "ISO 2022 IR 87"): "山田やaB",
    ("", "ISO 2022 IR 87", "ISO 2022 IR 159"): "山丂aB",
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): "ﾔﾏ山田xY",
    ("", "ISO 2022 IR 149"): "홍길동洪ab",
    ("", "ISO 2022 IR 58"): "张小东ab",
    ("ISO 2022 IR 100", "ISO 2022 IR 144"): "éЯжaß",
    ("ISO 2022 IR 100", "ISO 2022 IR 101", "ISO 2022 IR 126", "ISO 2022 IR 87"): "éłω山 a",
}
_PERSONS = st.sampled_from(list(_LETTERS)).flatmap(
    lambda terms: st.tuples(
        st.just(terms),
        st.lists(st.text(_LETTERS[terms], min_size=1, max_size=6), min_size=1, max_size=5).map("^".join),
        st.sampled_from(["=", "\\", "^^"]),
        st.text(_LETTERS[terms], max_size=6),
    )
)


@given(_PERSONS)
def test_what_a_set_can_say_comes_back_as_it_was(person: tuple[tuple[str, ...], str, str, str]) -> None:
    terms, first, delimiter, second = person
    text = f"{first}{delimiter}{second}"
    assert decode(encode(text, terms, is_name=True), "PN", terms, "ISO_IR 100") == text
    line = f"{first}\\{second}".replace("^", " ")
    assert decode(encode(line, terms), "LO", terms, "ISO_IR 100") == line


@given(
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from([b"\x1b$B", b"\x1b-A", b"\x1b$)C", b"\x1b", b"=", b"^", b"\\", b"\xe9", b"A", b"$B;3"])
    ).map(b"".join),
    st.lists(
        st.sampled_from(
            ["", "ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 87", "ISO 2022 IR 149", "GB18030", "NONSENSE", "ISO_IR 13"]
        ),
        max_size=3,
    ),
    st.sampled_from(["", "ISO_IR 100", "ISO_IR 144", "ISO_IR 192", "NONSENSE"]),
)
def test_no_bytes_under_no_declaration_raise(text: bytes, terms: list[str], fallback: str) -> None:
    for vr in ("PN", "LO", "UT"):
        assert isinstance(decode(text, vr, tuple(terms), fallback), str)


@given(st.text(alphabet="éŁЯω山홍ab^=\\ﾔ\ufffd", max_size=12), st.sampled_from(list(_LETTERS)))
def test_writing_says_what_it_cannot_and_says_nothing_else(text: str, terms: tuple[str, ...]) -> None:
    [chosen] = [choose(terms, [text])]
    written = encode(text, chosen, is_name=True)
    assert decode(written, "PN", chosen, "") == text
    if chosen != terms:
        assert chosen == (UTF_8,)
        with pytest.raises(NotRepresentable):
            encode(text, terms)


def test_undeclared_text_is_read_in_the_sites_own_set() -> None:
    for declared in ((), ("",), ("ISO_IR 6",), ("NONSENSE",)):
        assert decode(b"Jos\xe9", "LO", declared, "ISO_IR 100") == "José"
        assert decode(b"\xb8\xda\xd0\xdd", "LO", declared, "ISO_IR 144") == "Икан"


@pytest.mark.parametrize("declared", [(), ("ISO_IR 100",), ("ISO_IR 6",), ("ISO_IR 148",)])
def test_utf_8_that_is_undeclared_or_called_latin_is_recognised(declared: tuple[str, ...]) -> None:
    assert decode("José^Ł".encode(), "PN", declared, "ISO_IR 100") == "José^Ł"


def test_bytes_that_another_set_gives_letters_to_are_read_as_declared() -> None:
    # Two Cyrillic capitals are also one sign in UTF-8; they stay what they were declared to be.
    assert decode("ТА".encode("iso8859_5"), "PN", ("ISO_IR 144",), "ISO_IR 100") == "ТА"
    # With a byte that Cyrillic does not have, the declaration is known to be wrong.
    assert decode("Łukasz".encode(), "PN", ("ISO_IR 144",), "ISO_IR 100") == "Łukasz"


def test_quotation_marks_of_windows_are_read_in_what_calls_itself_latin() -> None:
    assert decode(b"O\x92BRIEN", "PN", ("ISO_IR 100",), "") == "O’BRIEN"


@pytest.mark.parametrize(
    ("declared", "written", "text"),
    [
        (("ISO_IR 192",), b"Jos\xe9", "Jos\ufffd"),
        (("ISO_IR 13",), b"\x8e\x52\x93\x63", "\ufffdR\ufffdc"),
        (("ISO_IR 144",), b"\x85", "\ufffd"),
        (("", "ISO 2022 IR 149"), b"\xb1\xe6", "\ufffd\ufffd"),
        (("ISO_IR 127",), b"\xa1", "\ufffd"),
        (("", "ISO 2022 IR 87"), b"\x1b$B;", "\ufffd\ufffd"),
        (("", "ISO 2022 IR 87"), b"\x1b%GA", "\ufffd%GA"),
    ],
)
def test_what_a_declared_set_does_not_have_is_replaced_not_guessed(
    declared: tuple[str, ...], written: bytes, text: str
) -> None:
    assert decode(written, "PN", declared, "ISO_IR 100") == text


def test_a_designation_ends_where_the_standard_says_in_names_and_in_text() -> None:
    terms = ("ISO 2022 IR 100", "ISO 2022 IR 144")
    assert decode(b"\x1b-L\xcf^\xe9", "PN", terms, "") == "Я^é"
    assert decode(b"\x1b-L\xcf^\xcf\\\xe9", "LO", terms, "") == "Я^Я\\é"
    assert decode(b"\x1b-L\xcf\r\n\xe9", "UT", terms, "") == "Я\r\né"


def test_texts_that_would_take_too_long_are_not_read_as_text_or_not_written_so() -> None:
    terms = ("", "ISO 2022 IR 87")
    assert decode(b"\x1b$B;3" * 1_024, "UT", terms, "") == "山" * 1_024
    assert "\x1b" in decode(b"\x1b$B;3" * 1_025, "UT", terms, "")
    assert choose(terms, ["山" * 1_024]) == terms and choose(terms, ["山" * 1_025]) == (UTF_8,)


def test_terms_are_known_in_the_spellings_that_archives_use() -> None:
    for term in ("ISO_IR 100", "ISO-IR 100", "iso_ir 100", "ISO IR 100", "ISO_IR 100 "):
        assert known((term,)) == ("ISO_IR 100",)
    assert known(("", "ISO 2022 IR 87")) == ("", "ISO 2022 IR 87")
    assert known(("UTF-8",)) == ("ISO_IR 192",)
    assert known(()) == known(("",)) == known(("ISO_IR 100", "SOMETHING")) == known(("100",)) == ()


def test_the_requesters_set_is_kept_while_it_can_say_everything() -> None:
    assert choose(("ISO_IR 100",), ["José", "Smith"]) == ("ISO_IR 100",)
    assert choose(("ISO_IR 100",), ["José", "Wałęsa"]) == (UTF_8,)
    assert choose(("NONSENSE",), ["Smith"]) == choose((), ["Smith"]) == (UTF_8,)


@given(st.sampled_from(list(_LETTERS)), st.binary(max_size=30).filter(lambda text: b"\x1b" not in text))
def test_pydicom_agrees_wherever_it_reads_without_doubt(terms: tuple[str, ...], text: bytes) -> None:
    # pydicom takes the empty set for Latin-1 and JIS X 0201 for Shift JIS.
    assume(terms[0] not in ("", "ISO 2022 IR 13") and not any(0x80 <= byte < 0xA0 for byte in text))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            expected = decode_bytes(text, convert_encodings(list(terms)), {0x5E, 0x3D})
        except UserWarning:
            reject()
    found = decode(text, "PN", terms, "ISO_IR 100")
    is_utf_8 = terms[0] not in (UTF_8, "GB18030", "GBK") and found == text.decode(errors="replace")
    assert found == expected or is_utf_8

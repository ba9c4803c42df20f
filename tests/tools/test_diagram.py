"""The sequence diagram: one layout, drawn as text and as a picture."""

import re
from xml.etree import ElementTree as ET

from rpcproto.recording import (
    ASCII,
    BOXES,
    Arrow,
    Note,
    Row,
    Style,
    Trace,
    as_svg,
    as_text,
    lay_out,
    spans,
)
from rpcproto.recording.rows import PacketView

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*rows: Row, names: tuple[str, ...] = ("a", "b", "c"), width: int = 50) -> list[str]:
    return as_text(lay_out(names, rows, width), ASCII).splitlines()


def picture(*rows: Row, names: tuple[str, ...] = ("a", "b"), title: str = "") -> str:
    return as_svg(lay_out(names, rows, 60), title, "what happens")


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


# as text


def test_arrows_cross_the_lifelines_between_their_ends() -> None:
    assert drawn(Arrow(1.5, "a", "c", "over"), Arrow(2.0, "c", "a", "back")) == [
        "            a             b             c",
        "   1.500 s  |---------- over ---------->|",
        "   2.000 s  |<--------- back -----------|",
    ]


def test_a_packet_that_got_lost_ends_in_a_cross() -> None:
    assert drawn(Arrow(1.0, "b", "c", "gone", arrives=False))[1] == (
        "   1.000 s  |             |--- gone ---x|"
    )


def test_the_detail_of_an_arrow_is_under_it() -> None:
    assert drawn(Arrow(1.0, "a", "c", "over", detail="and more"))[1:] == [
        "   1.000 s  |---------- over ---------->|",
        "            |         and more          |",
    ]


def test_notes_are_wrapped_before_the_next_lifeline() -> None:
    assert drawn(Note(1.0, "b", "one two three four"), width=62)[1:] == [
        "   1.000 s  |                 * one two three   |",
        "            |                 | four            |",
    ]


def test_a_note_without_room_goes_over_the_lifelines() -> None:
    assert drawn(Note(1.0, "a", "one two three four"))[1:] == [
        "   1.000 s  * one two three four        |"
    ]
    assert drawn(Note(1.0, "c", "one two three four"))[1:] == [
        "   1.000 s  |        one two three four *"
    ]


def test_labels_that_do_not_fit_between_the_ends_are_beside_them() -> None:
    assert drawn(Arrow(1.0, "a", "b", "x" * 12, detail="y" * 11))[1:] == [
        "   1.000 s  |------------>| xxxxxxxxxxxx",
        "            |             | yyyyyyyyyyy |",
    ]
    assert drawn(Arrow(1.0, "b", "c", "x" * 11))[1] == "   1.000 s  | xxxxxxxxxxx |------------>|"


def test_a_label_is_cut_rather_than_drawn_over_another_lifeline() -> None:
    arrow = Arrow(1.0, "b", "c", "stream chunk, 173 bytes")
    names = ("a", "b", "c", "d")
    assert drawn(arrow, names=names, width=80)[1:] == [
        "   1.000 s  |                 |- stream chunk~ >|                 |"
    ]
    assert "stream chunk, 173 bytes" in drawn(arrow, names=names, width=120)[1]


def test_labels_and_names_that_are_too_long_are_cut_and_say_so() -> None:
    arrow = Arrow(1.0, "a", "b", "x" * 40, detail="y" * 40)
    assert drawn(arrow)[1:] == [
        "   1.000 s  |- xxxxxxxx~ >|             |",
        "            |  yyyyyyyy~  |             |",
    ]
    assert "xxxxxxxx…" in as_text(lay_out(("a", "b", "c"), [arrow], 50), BOXES)
    assert drawn(names=("a" * 40, "b"))[0] == "            " + "a" * 20 + "~ b"


def test_what_would_be_an_order_to_a_terminal_is_not_drawn() -> None:
    lines = drawn(
        Arrow(0.0, "a", "b\x1b", "\x1b[31m", detail="\x07"),
        Note(0.0, "a", "one\ntwo \x9b \ud800"),
        names=("a", "b\x1b"),
    )
    assert all(line.isprintable() for line in lines)
    assert "b?" in lines[0]
    assert "* one two ? ?" in lines[3]


def test_even_where_there_is_no_room_something_is_drawn() -> None:
    rows = (
        Arrow(0.0, "a", "b", "over", detail="x"),
        Note(0.0, "a", "xy"),
        Arrow(0.0, "a", "a", "x"),
    )
    assert len(drawn(*rows, width=14)) == 6


def test_both_sets_of_glyphs_take_one_column_each() -> None:
    assert all(len(glyph) == 1 for glyph in (*BOXES, *ASCII))


def test_the_parts_of_a_line_have_the_style_of_what_they_show() -> None:
    arrow = Arrow(0.0, "a", "b", "ack", Style.ACK)
    _, line = spans(lay_out(("a", "b"), (arrow,), 40), ASCII)
    assert line == [
        ("   0.000 s", Style.LINE),
        ("  ", Style.PLAIN),
        ("|", Style.LINE),
        ("----- ack ---->", Style.ACK),
        ("|", Style.LINE),
    ]


class Counted(str):
    """A name that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_the_work_of_a_diagram_is_not_quadratic_in_its_participants() -> None:
    trace = Trace()
    for number in range(500):
        trace.note(0.0, Counted(number), "is here")
        trace.arrow(0.0, Counted(number), Counted(number + 1), PacketView("ack", 50))
    trace.layout(10_000)
    assert Counted.compared < 20 * 500  # a list of them would be searched 125,000 times


# as SVG


def test_no_label_of_a_picture_crosses_a_lifeline_where_it_fits_between_two() -> None:
    ends = [tuple(pair) for pair in ("ac", "ca", "ad", "da")]
    rows = [Arrow(0.0, one, other, "request", detail="100 bytes") for one, other in ends]
    layout = lay_out(tuple("abcd"), rows, 100)
    svg = parsed(as_svg(layout, "", ""))
    lifelines = [14 + column * 8 for column in layout.columns]
    labels = [text for text in svg.iter(f"{SVG}text") if "middle" in text.get("class", "")]
    assert len(labels) == 8
    for label in labels:
        half = len(label.text or "") * 4  # more than a letter has
        assert all(abs(int(label.get("x", "0")) - lifeline) > half for lifeline in lifelines)


def test_a_picture_is_well_formed_whatever_is_in_it() -> None:
    nasty = "<script>&\"'\x00\x1b\ud800\uffff</svg>]]>"
    row = (Arrow(0.0, "a", nasty, nasty, detail=nasty), Note(0.0, "a", nasty))
    root = parsed(as_svg(lay_out(("a", nasty), row, 300), nasty, nasty))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "style", "rect", "path", "text", "circle",
    }  # fmt: skip
    shown = "<script>&\"'?????</svg>]]>"[:13]
    assert sum(shown in (text.text or "") for text in root.iter(f"{SVG}text")) >= 3


def test_a_picture_stands_alone() -> None:
    svg = picture(Arrow(0.0, "a", "b", "request"), Note(0.0, "a", "hm"))
    [address] = re.findall("https?://[^\"' ]*", svg)
    assert address == "http://www.w3.org/2000/svg"  # the name of the namespace, which nobody loads
    assert not re.search(r"url\(|@import|@font-face|href|script|on\w+=", svg)


def test_a_picture_says_what_it_shows_to_those_who_do_not_see_it() -> None:
    root = parsed(picture(title="A call"))
    assert root.get("role") == "img"
    named = [element.get("id") for element in root if element.text in ("A call", "what happens")]
    assert root.get("aria-labelledby", "").split() == named == ["title", "desc"]


def test_every_style_has_a_colour_for_light_and_for_dark_surroundings() -> None:
    style = parsed(picture()).findtext(f"{SVG}style") or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for each in Style:
        pattern = rf"\.{each.value} {{ color: (#[0-9a-f]{{6}}) }}"
        assert re.findall(pattern, light) != re.findall(pattern, dark) != []


def contrast(one: str, two: str) -> float:
    """How well two colours can be told apart, from 1 to 21, as the WCAG counts it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_every_text_of_a_picture_can_be_read_on_its_paper() -> None:
    style = parsed(picture()).findtext(f"{SVG}style") or ""
    for half in style.split("@media"):
        [paper] = re.findall(r"\.paper { fill: (#\w+) }", half)
        for colour in re.findall(r"color: (#\w+)", half):
            assert contrast(paper, colour) >= 4.5, (paper, colour)


def test_a_picture_shows_the_same_texts_as_the_terminal() -> None:
    rows = (
        Arrow(0.0, "a", "b", "request, 52 bytes", detail="2 bytes"),
        Note(0.05, "b", "runs a method whose name is so long that it goes on in a second line"),
        Arrow(0.05, "b", "a", "response"),
    )
    layout = lay_out(("a", "b"), rows, 60)
    text = " ".join(re.sub("[-|<>*]", " ", as_text(layout, ASCII)).split())
    texts = [element.text or "" for element in parsed(as_svg(layout, "", "")).iter(f"{SVG}text")]
    assert len(texts) >= 10
    assert sorted(" ".join(texts).split()) == sorted(text.split())


def test_a_lost_packet_is_crossed_out_in_a_picture_too() -> None:
    arrives, lost = (
        [
            path.get("d")
            for path in parsed(picture(Arrow(0.0, "a", "b", "x", Style.ACK, is_here))).iter(
                f"{SVG}path"
            )
        ][-1]
        for is_here in (True, False)
    )
    assert arrives != lost
    assert lost is not None
    assert "l10 10" in lost

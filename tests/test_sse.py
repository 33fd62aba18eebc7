from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate import sse

ENDS = ("\n", "\r", "\r\n")
line = st.sampled_from(
    ["data: x", "data:x", 'data: {"a":"b"}', "event: e", ": hello", "id: 1", "data", "", "é: ü"]
)
frame_lines = st.lists(line.filter(bool), min_size=1, max_size=4)


@st.composite
def streams(draw):
    """A stream as its frames, with one or mixed line ends, perhaps with a torn end."""
    choose = st.sampled_from(ENDS)
    frames = []
    for lines in draw(st.lists(frame_lines, max_size=5)):
        text = "".join(one + draw(choose) for one in lines)
        # A blank line of LF behind a CR would make one CRLF of the two: that is another text.
        blank = draw(st.sampled_from(["\r", "\r\n"]) if text.endswith("\r") else choose)
        frames.append((text + blank).encode())
    # The same between frames: the next begins with no line end, so only the torn rest may.
    return frames, draw(st.sampled_from([b"", b"data: torn", b"data: half\n"]))


def cut(data, places):
    edges = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def feed(pieces):
    cutter = sse.Cutter()
    frames = [frame for piece in pieces for frame in cutter.feed(piece)]
    return frames, cutter.end()


@settings(deadline=None, max_examples=300)
@given(streams(), st.data())
def test_frames_do_not_depend_on_how_the_bytes_were_cut(made, data):
    frames, rest = made
    stream = b"".join(frames) + rest
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    found, left = feed(cut(stream, places))
    if left and sse.is_complete(left):  # ended in a CR that could have been half of a CRLF
        found, left = [*found, left], b""
    assert found == frames
    assert left == rest


@settings(deadline=None, max_examples=300)
@given(st.text("\r\n:dat x", max_size=40), st.data())
def test_every_byte_comes_out_again_whatever_the_text(text, data):
    stream = text.encode()
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    frames, rest = feed(cut(stream, places))
    assert b"".join(frames) + rest == stream
    whole, whole_rest = feed([stream])
    assert (frames, rest) == (whole, whole_rest)
    assert feed([stream[at : at + 1] for at in range(len(stream))]) == (whole, whole_rest)


def test_one_crlf_is_one_line_end():
    """A pattern that could step back took CRLF for two line ends: every line became a frame."""
    stream = b"event: a\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n"
    assert feed([stream]) == ([b"event: a\r\ndata: 1\r\n\r\n", b"data: 2\r\n\r\n"], b"")


@pytest.mark.parametrize("at", range(4))
def test_a_byte_order_mark_is_dropped_even_in_pieces(at):
    stream = b"\xef\xbb\xbfdata: x\n\n"
    assert feed([stream[:at], stream[at:]]) == ([b"data: x\n\n"], b"")


def test_bytes_that_only_begin_like_a_mark_are_kept():
    assert feed([b"\xef", b"\xbbz\n\n"]) == ([b"\xef\xbbz\n\n"], b"")
    assert feed([b"\xef\xbb"]) == ([], b"\xef\xbb")


def test_text_split_inside_a_character_passes_unchanged():
    stream = "data: grüße\n\n".encode()
    assert feed([stream[:9], stream[9:]]) == ([stream], b"")


@pytest.mark.parametrize("size", [1000, sse.MAX_FRAME + 1])
def test_a_frame_without_end_is_given_up(size):
    with pytest.raises(sse.FrameTooLong):
        feed([b"x" * size] * (sse.MAX_FRAME // size + 2))


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb"),
        (b"data: a\rdata: b\n\n", b"a\nb"),
        (b"data: a\rdata: b\r\r", b"a\nb"),
        (b"data\n\n", b""),
        (b"data:\n\n", b""),
        (b": comment\n\n", None),
        (b"event: ping\n\n", None),
        (b"event: e\nid: 3\ndata: x\n\n", b"x"),
        (b"datax: 1\n\n", None),
    ],
)
def test_data_of_a_frame(frame, data):
    assert sse.data_of(frame) == data


@settings(deadline=None)
@given(frame_lines, st.sampled_from(ENDS))
def test_data_does_not_depend_on_line_ends(lines, end):
    with_lf = ("\n".join(lines) + "\n\n").encode()
    assert sse.data_of(end.join([*lines, "", ""]).encode()) == sse.data_of(with_lf)


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (b"data: x\n\n", "message"),
        (b"event: ping\ndata: x\n\n", "ping"),
        (b"event:ping\r\ndata: x\r\n\r\n", "ping"),
        (b"event:\n\n", "message"),
    ],
)
def test_event_of_a_frame(frame, event):
    assert sse.event_of(frame) == event


def test_frames_of_ours_are_read_back():
    made = sse.frame(b'{"a":1}', "delta")
    assert feed([made]) == ([made], b"")
    assert sse.data_of(made) == b'{"a":1}'
    assert sse.event_of(made) == "delta"


def test_a_comment_of_ours_has_no_data():
    made = sse.comment("keep-alive")
    assert feed([made]) == ([made], b"")
    assert sse.data_of(made) is None


def test_a_cutter_at_its_end_is_empty():
    cutter = sse.Cutter()
    cutter.feed(b"data: half")
    assert cutter.end() == b"data: half"
    assert cutter.end() == b""

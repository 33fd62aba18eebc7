import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.estimate import BASE, PICTURE, estimate_answer, estimate_tokens

BYTES = base64.b64encode(bytes(range(256)) * 800).decode()


def body(*parts):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": list(parts)}]}).encode()


def text(words):
    return {"type": "text", "text": words}


def picture(url=f"data:image/png;base64,{BYTES}"):
    return {"type": "image_url", "image_url": {"url": url}}


def sound(data=BYTES):
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def test_text_counts_by_its_bytes():
    said = body(text("Why is the sky blue? " * 1_000))
    assert estimate_tokens(said) == (len(said) + 1) // 2 + BASE
    assert estimate_tokens(b"") == BASE
    assert estimate_tokens(body(text("a"))) < 120


def test_pictures_do_not_count_by_their_bytes():
    one, two = estimate_tokens(body(picture())), estimate_tokens(body(picture(), text("and"), picture()))
    assert PICTURE < one < PICTURE + 200
    assert 2 * PICTURE < two < 2 * PICTURE + 300


def test_pictures_elsewhere_count_too():
    assert PICTURE < estimate_tokens(body(picture("https://example.net/a.png"))) < PICTURE + 200
    assert estimate_tokens(body(text("x " * 1_000), picture("https://example.net/a.png"))) > PICTURE


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BYTES}},
        {"type": "image", "source": {"data": BYTES, "type": "base64", "media_type": "image/jpeg"}},
    ],
)
def test_pictures_that_say_their_kind_beside_them(part):
    assert PICTURE < estimate_tokens(body(part)) < PICTURE + 300


def test_recordings_and_documents_have_measures_of_their_own():
    size = len(BYTES)
    assert estimate_tokens(body(sound())) < size / 60 + 300
    paper = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BYTES}"}}
    assert size / 4 < estimate_tokens(body(paper)) < size / 4 + 300
    pretty = json.dumps({"messages": [{"content": [sound()]}]}, indent=2).encode()
    assert estimate_tokens(pretty) < size / 60 + 400


def test_words_are_not_taken_for_a_picture():
    words = "look at ;base64, " + "all the words " * 2_000
    said = body(text(words), {"data": words})
    assert estimate_tokens(said) > len(said) // 2
    other = json.dumps({"data": "ü" * 5_000}, ensure_ascii=False).encode()
    assert estimate_tokens(other) > len(other) // 2


@given(st.lists(st.one_of(st.text().map(text), st.just(picture()), st.just(sound())), max_size=6))
def test_more_never_counts_less(parts):
    assert estimate_tokens(body(*parts)) <= estimate_tokens(body(*parts, text("more")))


@given(
    st.binary(max_size=3_000),
    st.sampled_from([b"", b'"data"', b";base64,", b'"data":"', b"data:image/;base64,"]),
)
def test_any_bytes_are_counted(raw, put_in):
    found = estimate_tokens(raw + put_in + raw)
    assert found >= BASE


def test_what_was_said_in_a_whole_answer_counts_by_its_bytes():
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": "twelve bytes", "tool_calls": [call]}
    assert estimate_answer(json.dumps({"choices": [{"message": message}]}).encode()) == 9
    assert estimate_answer(b'{"choices": [{"text": "good"}, {"text": "bad"}]}') == 4


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"data": []}', b'{"choices": [1]}', b'{"choices": 1}'])
def test_what_holds_no_words_has_no_tokens(said):
    assert estimate_answer(said) == 0

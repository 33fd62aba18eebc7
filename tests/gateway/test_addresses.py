"""Where a body names addresses: found in all forms that engines know, not in what is only talked of."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.errors import Refused
from fleetgate.gateway.addresses import CARRIERS, find, is_address, suspected

AT = "http://pics.example.net/a.png"
DATA = "data:image/png;base64,iVBORw0KGgo="
split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def looked(members):
    raw = members if isinstance(members, bytes) else json.dumps(members).encode()
    found = find(raw)
    if found.places:
        assert suspected(split(raw), raw[1:-1])
    return {place.path: place.fetchable for place in found.places}


def chat(*content, role="user"):
    return {"messages": [{"role": role, "content": list(content)}]}


def picture(address=AT, **members):
    return {"type": "image_url", "image_url": {"url": address, **members}}


AT_PICTURE = "messages[0].content[0].image_url.url"
PART = "messages[0].content[0]"
SOURCE = {"type": "url", "url": AT}


@pytest.mark.parametrize(
    ("members", "found"),
    [
        (chat(picture()), {AT_PICTURE: True}),
        (chat(picture(detail="low")), {AT_PICTURE: True}),
        (chat(picture("HTTPS://Pics.example.net/a")), {AT_PICTURE: True}),
        (chat(picture(" http://x.example/a")), {AT_PICTURE: True}),
        (chat({"type": "image_url", "image_url": AT}), {f"{PART}.image_url": True}),
        (chat({"type": "input_image", "image_url": AT}), {f"{PART}.image_url": True}),
        (chat({"image_url": AT}), {f"{PART}.image_url": True}),
        (chat(picture("ftp://x/a")), {AT_PICTURE: False}),
        (chat(picture("file:///etc/passwd")), {AT_PICTURE: False}),
        (chat(picture("/etc/secret.png")), {AT_PICTURE: False}),
        (chat(picture("//x/a.png")), {AT_PICTURE: False}),
        (chat(picture("\\\\host\\share\\a.png")), {AT_PICTURE: False}),
        (chat(picture("a.png")), {AT_PICTURE: False}),
        (chat({"type": "audio_url", "audio_url": {"url": AT}}), {f"{PART}.audio_url.url": True}),
        (chat({"type": "video_url", "video_url": {"url": AT}}), {f"{PART}.video_url.url": False}),
        (chat({"type": "input_file", "file_url": AT}), {f"{PART}.file_url": False}),
        (chat({"type": "file", "file": {"file_data": AT}}), {f"{PART}.file.file_data": False}),
        (chat({"type": "input_audio", "input_audio": {"data": AT}}), {f"{PART}.input_audio.data": False}),
        (chat({"Image_URL": {"URL": AT}}), {f"{PART}.Image_URL.URL": False}),
        (chat({"type": "image", "source": SOURCE}), {f"{PART}.source.url": False}),
        (
            chat({"type": "tool_result", "content": [{"type": "image", "source": SOURCE}]}),
            {f"{PART}.content[0].source.url": False},
        ),
        ({"messages": [{"role": "user", "images": [AT]}]}, {"messages[0].images[0]": False}),
        ({"image": AT}, {"image": False}),
        ({"image": [AT, DATA]}, {"image[0]": False}),
        ({"images": [{"image_url": AT}]}, {"images[0].image_url": False}),
        ({"file": AT}, {"file": False}),
        ({"input": [{"text": "x", "image": AT}]}, {"input[0].image": False}),
        (
            {"input": [{"content": [{"type": "input_image", "image_url": AT}]}]},
            {"input[0].content[0].image_url": True},
        ),
        ({"documents": [{"content": [picture()]}]}, {"documents[0].content[0].image_url.url": True}),
        ({"query": {"content": [picture()]}}, {"query.content[0].image_url.url": True}),
        ({"prompt": ["a", {"image": AT}]}, {"prompt[1].image": False}),
        ({"tools": [{"type": "mcp", "server_url": AT}]}, {"tools[0].server_url": False}),
        ({"mcp_servers": [SOURCE]}, {"mcp_servers[0].url": False}),
        (chat([picture()]), {f"{PART}[0].image_url.url": True}),
    ],
)
def test_what_an_engine_would_fetch_from(members, found):
    assert looked(members) == found


@pytest.mark.parametrize(
    "members",
    [
        {"messages": [{"role": "user", "content": f"see {AT} and file:///etc/passwd"}]},
        {"messages": [{"role": "user", "content": AT}]},
        chat({"type": "text", "text": AT}),
        chat(picture(DATA)),
        chat(picture("DATA:image/png;base64,AAAA")),
        chat(picture("iVBORw0KGgo=")),
        chat(picture("/9j/4AAQSkZJRg==")),
        chat(picture("")),
        chat({"type": "image_url", "image_url": None}),
        chat({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
        chat(
            {
                "type": "file",
                "file": {"filename": "a: b.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            }
        ),
        chat({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBOR"}}),
        chat({"type": "tool_use", "name": "f", "input": {"url": AT, "image_url": AT}}),
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"arguments": json.dumps({"url": AT})}}]}
            ]
        },
        {
            "tools": [
                {"type": "function", "function": {"parameters": {"properties": {"url": {"default": AT}}}}}
            ]
        },
        {"tools": [{"name": "f", "input_schema": {"properties": {"image": {"examples": [AT]}}}}]},
        {"metadata": {"image_url": AT}},
        {"documents": [AT, "file.txt"], "query": AT},
        {"documents": [{"text": "x", "url": AT, "source": AT}]},
        {"input": [AT], "prompt": AT},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$schema": AT}}}},
        {"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"]},
        {"user": AT, "stop": [AT], "model": AT},
        {},
    ],
)
def test_what_is_only_talked_about(members):
    assert looked(members) == {}


def test_names_with_escapes_hide_nothing():
    raw = b'{"messages":[{"content":[{"\\u0069mage_url":{"\\u0075rl":"\\u0068ttp:\\/\\/x.example\\/a"}}]}]}'
    assert looked(raw) == {AT_PICTURE: True}


def test_data_takes_the_place_and_all_else_stays():
    raw = (
        b'{"temperature":1.0,"tools":[ {"a" : 1e3} ],"messages":'
        + json.dumps(chat(picture(detail="low"))["messages"]).encode()
    )
    raw += b',"seed":12345678901234567890}'
    found = find(raw)
    found.places[0].put(DATA)
    encoded = b"{" + found.encode() + b"}"
    for kept in (b'"temperature":1.0', b'[ {"a" : 1e3} ]', b'"seed":12345678901234567890', b'"detail":"low"'):
        assert kept in encoded
    assert json.loads(encoded)["messages"] == chat(picture(DATA, detail="low"))["messages"]


def test_members_of_strings_are_put_too():
    found = find(json.dumps({"image": AT, "images": [AT], "x": 1}).encode())
    for place in found.places:
        place.put(DATA)
    assert json.loads(b"{" + found.encode() + b"}") == {"image": DATA, "images": [DATA], "x": 1}


def test_what_is_nested_deeply_is_looked_at_or_refused():
    inner = picture()
    for _ in range(300):
        inner = {"a": inner}
    assert len(looked({"messages": [inner]})) == 1
    raw = b'{"messages":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}"
    with pytest.raises(Refused) as caught:
        find(raw)
    assert (caught.value.status, caught.value.param) == (400, "messages")


@pytest.mark.parametrize("text", ["data:,x", "DATA:x", "  data:x", "AAAA", "", "low", "auto"])
def test_data_is_none(text):
    assert not is_address(text, strictly=True)


@pytest.mark.parametrize(
    "text", ["http://x", "a.png", "../a", "~/a", "C:\\a", "x:y", "\x00http://x", "\\\\h\\s"]
)
def test_everything_else_is_one_where_an_address_stands(text):
    assert is_address(text, strictly=True)


nested = st.recursive(
    st.sampled_from([AT, DATA, "x"]) | st.none() | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*sorted(CARRIERS), "content", "type", "text", "a"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "image", "tools", "x"]), nested, max_size=3))
def test_what_is_found_was_suspected_and_can_be_put(members):
    raw = json.dumps(members).encode()
    found = find(raw)
    assert not found.places or suspected(split(raw), raw[1:-1])
    for place in found.places:
        assert place.text == AT
        place.put(DATA)
    again = b"{" + found.encode() + b"}"
    assert find(again).places == []
    assert json.loads(again).keys() == members.keys()


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_the_quick_look_misses_no_carrier(name):
    for written in (name, name.upper(), name.replace("u", "\\u0075", 1)):
        raw = b'{"content":[{"%b" : "http://x"}]}' % written.encode()
        assert suspected(split(raw), raw[1:-1])
    raw = b'{"messages":[{"role":"user","content":"tell me of the %b of a house"}]}' % name.encode()
    assert not suspected(split(raw), raw[1:-1])


@pytest.mark.parametrize("kind", [[], {}, None, 1])
def test_a_type_that_is_none_hides_nothing(kind):
    found = looked(chat({"type": kind, "url": AT, "image_url": {"url": AT}}))
    assert "messages[0].content[0].image_url.url" in found

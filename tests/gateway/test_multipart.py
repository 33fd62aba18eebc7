"""Forms: the same result however the bytes are cut, and nothing that could be read in two ways."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.gateway.multipart import (
    MOST_HEAD,
    MOST_PARTS,
    Head,
    Malformed,
    Scanner,
    boundary_of,
)

B = b"xyz"


def part(head, content=b"", *, name=None):
    lines = head if head is not None else f'Content-Disposition: form-data; name="{name}"'.encode()
    return b"--" + B + b"\r\n" + lines + b"\r\n\r\n" + content + b"\r\n"


def form(*parts):
    return b"".join(parts) + b"--" + B + b"--\r\n"


def named(name, content=b""):
    return part(None, content, name=name)


def scan(*pieces, boundary=B):
    scanner = Scanner(boundary)
    found = []
    for piece in pieces:
        for one in scanner.feed(piece):
            if isinstance(one, Head):
                found.append((one, b""))
            else:
                head, content = found[-1]
                found[-1] = (head, content + one)
    scanner.finish()
    return found


def outcome(*pieces):
    try:
        return scan(*pieces)
    except Malformed:
        return "malformed"


FILE = part(
    b'Content-Disposition: form-data; name="file"; filename="a b.wav"\r\nContent-Type: audio/wav',
    b"RIFF\r\n--xy\r\n--\r\n\r\n",
)


def test_fields_and_files():
    assert scan(form(named("model", b"whisper-1"), FILE, named("n"))) == [
        (Head("model"), b"whisper-1"),
        (Head("file", "a b.wav", "audio/wav"), b"RIFF\r\n--xy\r\n--\r\n\r\n"),
        (Head("n"), b""),
    ]


@given(st.binary(max_size=60), st.lists(st.integers(0, 400), max_size=12))
def test_cutting_changes_nothing(content, cuts):
    whole = form(named("model", b"m"), FILE, named("file", content), named("end", b"\r"))
    edges = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    pieces = [whole[begin:end] for begin, end in itertools.pairwise(edges)]
    assert outcome(*pieces) == outcome(whole)


@given(
    st.lists(
        st.sampled_from([b"--xyz", b"\r\n", b"--", b"a", b": ", named("m", b"1"), b'"', b";"]), max_size=9
    )
)
def test_rubbish_is_the_same_rubbish_in_single_bytes(parts):
    whole = b"".join(parts)
    assert outcome(*[whole[at : at + 1] for at in range(len(whole))]) == outcome(whole)


@given(st.binary(max_size=200))
def test_contents_come_out_as_they_went_in(content):
    if b"\r\n--xyz" not in b"\r\n" + content + b"\r\n":
        assert scan(form(named("file", content))) == [(Head("file"), content)]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense",
        b"--xyz",
        b"--xyz\r\n",
        named("model"),  # no end
        b"preamble\r\n" + form(named("model")),
        b"\r\n" * 40 + form(named("model")),
        form(named("model")).replace(b"--xyz--", b"--xyzz--"),
        form(part(b"Content-Type: text/plain")),
        form(part(b"")),
        form(part(b"Content-Disposition: attachment; name=model")),
        form(part(b"Content-Disposition: form-data")),
        form(part(b'Content-Disposition: form-data; name="a"; name="model"')),
        form(
            part(b'Content-Disposition: form-data; name="model"\r\nContent-Disposition: form-data; name="a"')
        ),
        form(part(b'Content-Disposition: form-data; name="a"; creation-date="x"')),
        form(part(b"Content-Disposition: form-data; name*=utf-8''model")),
        form(part(b'Content-Disposition: form-data; name="mo\\del"')),
        form(part(b'Content-Disposition: form-data; name="model')),
        form(part(b'Content-Disposition: form-data;\r\n name="model"')),
        form(part(b'Content-Disposition: form-data; name="model\x00"')),
        form(part(b'Content-Disposition: form-data; name="model"\nX: y')),
        form(part(b'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64')),
        form(part(b'Content-Disposition: form-data; name="model"\r\nContent-Type: a\x80b')),
        form(part(b'Content-Disposition: form-data; name="model"\r\nX: ' + b"y" * MOST_HEAD)),
        form(*(named("model") for _ in range(MOST_PARTS + 1))),
        b"--xyz\r\n" + b"a" * (MOST_HEAD * 2),
        form(part(b"Content-Disposition: form-data; name=\"f\"; filename*=latin-1''a")),
    ],
)
def test_what_is_refused(raw):
    assert outcome(raw) == "malformed"
    assert outcome(*[raw[at : at + 7] for at in range(0, len(raw), 7)]) == "malformed"


def test_a_part_has_few_headers():
    lines = b"".join(b"\r\nX%d: y" % number for number in range(16))
    assert outcome(form(part(b'Content-Disposition: form-data; name="model"' + lines))) == "malformed"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b'filename="a.wav"', "a.wav"),
        (b"filename=a.wav", "a.wav"),
        (b'filename=""', ""),
        (b'filename="C:\\fakepath\\a.wav"', "a.wav"),
        (b'filename="a\\"b.wav"', 'a"b.wav'),
        ('filename="größe.wav"'.encode(), "größe.wav"),
        ('filename="größe.wav"'.encode("latin-1"), "größe.wav"),
        (b"filename*=utf-8''gr%C3%B6%C3%9Fe.wav", "größe.wav"),
        (b"filename=\"a.wav\"; filename*=utf-8''b.wav", "a.wav"),
        (b'filename="' + b"x" * 300 + b'.wav"', ("x" * 300 + ".wav")[-255:]),
    ],
)
def test_names_of_files(written, read):
    ((head, _),) = scan(form(part(b'Content-Disposition: form-data; name="file"; ' + written)))
    assert head.file == read
    # And what is written for it is read as the same.
    ((again, _),) = scan(b"--xyz\r\n" + head.encode() + b"\r\n--xyz--")
    assert again.file == read.replace('"', "%22")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("multipart/form-data; boundary=xyz", b"xyz"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b:c"', b"a b:c"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=" + "x" * 71, None),
        ('multipart/form-data; boundary="x\\\ny"', None),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ("multipart/mixed; boundary=a", None),
        ("application/json", None),
    ],
)
def test_boundaries(written, read):
    if read is None:
        with pytest.raises(Malformed):
            boundary_of(written)
    else:
        assert boundary_of(written) == read


def test_nothing_is_read_behind_the_end():
    scanner = Scanner(B)
    assert list(scanner.feed(form(named("n")) + b"whatever")) == [Head("n")]
    assert list(scanner.feed(b"--xyz\r\n" * 10)) == []
    scanner.finish()

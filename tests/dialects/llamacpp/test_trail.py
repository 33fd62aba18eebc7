"""From which ids another one goes on, whatever the engine kept back."""

from hypothesis import given
from hypothesis import strategies as st

from fleetgate.dialects.llamacpp.trail import Trail

PROMPT = [1, 2, 3]


def trail(*pieces):
    found = Trail(PROMPT)
    for piece in pieces:
        found.add(*piece)
    return found


def test_all_that_was_said():
    found = trail(("a", [10], 1), ("bc", [11], 2))
    assert found.characters == 3
    cut = found.cut()
    assert (cut.ids, cut.tokens, cut.again) == ([*PROMPT, 10, 11], 2, "")


def test_nothing_was_said():
    cut = trail().cut()
    assert (cut.ids, cut.tokens, cut.again) == (PROMPT, 0, "")


def test_what_is_kept_back_is_said_again():
    """Text that may become a stop word does not go out, though its ids do."""
    found = trail(("a", [10], 1), ("", [11], 2), ("", [12], 3))
    assert found.cut().ids == [*PROMPT, 10]
    assert found.cut().tokens == 1
    found.add("bcd", [13], 4)
    assert found.cut().ids == [*PROMPT, 10, 11, 12, 13]


def test_behind_a_gap_the_text_is_compared():
    found = trail(("a", [10], 1), ("é", [12], 3), ("b", [13], 4))
    (gap,) = found.gaps
    assert (gap.missing, gap.last, gap.text) == (1, (12,), "é")
    cut = found.cut()
    assert (cut.ids, cut.tokens, cut.again) == ([*PROMPT, 10], 1, "éb")


def test_a_gap_that_is_filled():
    found = trail(("a", [10], 1), ("é", [12], 3), ("b", [13], 4))
    cut = found.cut([[11, 12]])
    assert (cut.ids, cut.tokens, cut.again) == ([*PROMPT, 10, 11, 12, 13], 4, "")


def test_what_does_not_agree_fills_nothing():
    found = trail(("a", [10], 1), ("é", [12], 3), ("b", [13], 4))
    for wrong in ([12], [11, 99], [5, 11, 12], [], None):
        assert found.cut([wrong]).ids == [*PROMPT, 10]


def test_the_second_gap_stays():
    found = trail(("a", [10], 1), ("é", [12], 3), ("b", [13], 4), ("ü", [15], 6), ("c", [16], 7))
    cut = found.cut([[11, 12], None])
    assert (cut.ids, cut.tokens, cut.again) == ([*PROMPT, 10, 11, 12, 13], 4, "üc")


def test_an_engine_that_tells_no_ids_is_asked_from_the_start():
    found = trail(("a", [], 1), ("b", [], 2))
    cut = found.cut()
    assert (cut.ids, cut.tokens, cut.again) == (PROMPT, 0, "ab")


def test_an_engine_that_does_not_count():
    found = trail(("a", [10], None), ("", [11], None), ("b", [12], None))
    assert found.cut().tokens == 3


@st.composite
def answers(draw):
    """An answer as an engine streams it: per token its text; some texts go out late, some ids never do."""
    tokens = [(100 + i, draw(st.text("aé", max_size=3))) for i in range(draw(st.integers(0, 20)))]
    pieces, text = [], ""
    for made, (token, said) in enumerate(tokens, 1):
        text += said
        fate = draw(st.sampled_from(["out", "out", "held", "hidden"]))
        if fate == "hidden":
            continue
        if fate == "held" or not text:
            pieces.append(("", [token], made))
            continue
        pieces.append((text, [token], made))
        text = ""
    return tokens, pieces


@given(answers())
def test_what_comes_again_and_what_is_new_is_the_whole_answer(answer):
    """The ids stand for the text before the cut, `again` for the rest of what went out."""
    tokens, pieces = answer
    found = Trail(PROMPT)
    for piece in pieces:
        found.add(*piece)
    cut = found.cut()
    said = cut.ids[len(PROMPT) :]
    assert said == [token for token, _ in tokens[: len(said)]], "the ids are those of the answer's begin"
    assert cut.tokens == len(said)
    out = "".join(text for text, _, _ in pieces)
    assert "".join(text for _, text in tokens[: cut.tokens]) + cut.again == out
    assert found.characters == len(out)

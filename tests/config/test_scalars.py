import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.config.scalars import YAML_1_1, YAML_1_2


@pytest.mark.parametrize(
    ("word", "ours", "litellm"),
    [
        ("no", "no", False), ("on", "on", True), ("Yes", "Yes", True), ("y", "y", "y"),
        ("true", True, True), ("FALSE", False, False), ("null", None, None), ("~", None, None),
        ("", None, None),
        ("010", 10, 8), ("08", 8, "08"), ("0o17", 15, "0o17"), ("0x1F", 31, 31), ("0b11", "0b11", 3),
        ("12:30", "12:30", 750), ("1:2:3", "1:2:3", 3723), ("-1:30", "-1:30", -90),
        ("12:60", "12:60", "12:60"),
        ("1:30.5", "1:30.5", 90.5), ("1e-7", 1e-7, "1e-7"), ("1.0e-7", 1e-7, 1e-7), ("1e3", 1000.0, "1e3"),
        ("1.5", 1.5, 1.5), (".5", 0.5, 0.5), ("1.", 1.0, 1.0), ("1_000", "1_000", 1000), ("+1", 1, 1),
        ("-0", 0, 0), ("2024-01-01", "2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3", "1.2.3"),
        (".inf", float("inf"), float("inf")), ("-.INF", float("-inf"), float("-inf")),
        ("qwen2.5", "qwen2.5", "qwen2.5"),
        ("-", "-", "-"), (".", ".", "."), ("0x_", "0x_", "0x_"),
    ],
)  # fmt: skip
def test_words_by_both_rules(word, ours, litellm):
    for rules, value in ((YAML_1_2, ours), (YAML_1_1, litellm)):
        read = rules.read(word)
        assert (read, type(read)) == (value, type(value))


def test_not_a_number_is_a_float():
    assert YAML_1_2.read(".nan") != YAML_1_2.read(".nan")


def test_a_number_of_a_thousand_digits_stays_a_text():
    assert YAML_1_2.read("9" * 1000) == "9" * 1000


@given(st.text(alphabet="0123456789abcdefxo_+-.:eEinfNaA", max_size=12))
def test_every_word_has_a_value_under_both_rules(word):
    for rules in (YAML_1_1, YAML_1_2):
        assert isinstance(rules.read(word), str | int | float | bool | None)

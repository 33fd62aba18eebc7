import pytest

from fleetgate.keys.ring import (
    BLIND_AFTER,
    KNOWN_FOR,
    MOST_UNKNOWN,
    NOBODY,
    TRUSTED_FOR,
    UNKNOWN_FOR,
    Known,
    Ring,
    Unfamiliar,
)

SOMEBODY = Known("caller", usable=True)
OTHER = Known("caller")


@pytest.fixture
def ring():
    made = Ring()
    made.confirm(5, 0.0)
    return made


def followed(ring, until, epoch=5):
    ring.confirm(epoch, until)
    return until


def test_what_was_not_read_is_unfamiliar(ring):
    with pytest.raises(Unfamiliar) as caught:
        ring.find("a", 0.0)
    assert caught.value.key_id == "a"


def test_a_key_counts_for_a_minute(ring):
    ring.took("a", SOMEBODY, 5, 0.0)
    now = followed(ring, KNOWN_FOR)
    assert ring.find("a", now) is SOMEBODY
    with pytest.raises(Unfamiliar):
        ring.find("a", followed(ring, KNOWN_FOR + 0.1))


def test_an_unknown_key_counts_for_five_seconds(ring):
    ring.took("a", None, 5, 0.0)
    assert ring.find("a", followed(ring, UNKNOWN_FOR)) is NOBODY
    with pytest.raises(Unfamiliar):
        ring.find("a", followed(ring, UNKNOWN_FOR + 0.1))


def test_a_change_elsewhere_voids_everything(ring):
    ring.took("a", SOMEBODY, 5, 0.0)
    ring.confirm(6, 1.0)
    with pytest.raises(Unfamiliar):
        ring.find("a", 1.0)
    ring.took("a", OTHER, 6, 1.0)
    assert ring.find("a", 1.0) is OTHER


def test_a_change_here_is_in_effect_at_once_and_voids_nothing_else(ring):
    ring.took("a", SOMEBODY, 5, 0.0)
    ring.took("b", SOMEBODY, 5, 0.0)
    ring.changed("a", OTHER, 6, 0.5)
    assert (ring.find("a", 0.5), ring.find("b", 0.5)) == (OTHER, SOMEBODY)
    ring.confirm(6, 1.0)
    assert (ring.find("a", 1.0), ring.find("b", 1.0)) == (OTHER, SOMEBODY)


def test_a_change_here_after_one_elsewhere_voids_what_was_read_before(ring):
    ring.took("b", SOMEBODY, 5, 0.0)
    ring.changed("a", OTHER, 7, 0.5)  # somebody else made 6
    with pytest.raises(Unfamiliar):
        ring.find("b", 0.5)
    assert ring.find("a", 0.5) is OTHER


def test_a_reading_from_before_a_change_comes_too_late(ring):
    ring.changed("a", OTHER, 6, 0.5)
    ring.took("a", SOMEBODY, 5, 0.6)
    assert ring.find("a", 0.6) is OTHER
    ring.confirm(8, 1.0)
    ring.took("b", SOMEBODY, 6, 1.1)
    with pytest.raises(Unfamiliar):
        ring.find("b", 1.1)


def test_without_the_counter_known_keys_count_for_a_quarter_of_an_hour(ring):
    ring.took("a", SOMEBODY, 5, 0.0)
    assert not ring.blind(BLIND_AFTER)
    assert ring.blind(BLIND_AFTER + 0.1)
    assert ring.find("a", TRUSTED_FOR) is SOMEBODY
    with pytest.raises(Unfamiliar):
        ring.find("a", TRUSTED_FOR + 0.1)


def test_without_the_counter_unknown_keys_are_not_remembered_longer(ring):
    ring.took("a", None, 5, 0.0)
    ring.fail()
    with pytest.raises(Unfamiliar):
        ring.find("a", UNKNOWN_FOR + 0.1)


def test_a_failure_blinds_until_the_next_reading(ring):
    ring.fail()
    assert ring.blind(0.0)
    ring.confirm(5, 0.1)
    assert not ring.blind(0.1)


def test_unknown_keys_do_not_fill_memory(ring):
    ring.took("good", SOMEBODY, 5, 0.0)
    for number in range(MOST_UNKNOWN * 2 + 10):
        ring.took(f"bad{number}", None, 5, 0.0)
    assert len(ring) <= MOST_UNKNOWN + 1
    assert ring.find("good", 0.0) is SOMEBODY

"""What is remembered of messages: bounded, and no host pushes out what another's are."""

from hypothesis import given
from hypothesis import strategies as st

from cpns.shares.remembered import Remembered


def memory(total: int) -> Remembered:
    return Remembered(total, lambda key: key[0])


def test_a_flood_pushes_out_its_own() -> None:
    kept = memory(100)
    for number in range(10):
        kept["honest", number] = number
    for number in range(10_000):
        kept["flood", number] = None
    assert len(kept) == 100
    assert [kept["honest", number] for number in range(10)] == list(range(10))
    assert ("flood", 9_999) in kept
    assert ("flood", 9_900) not in kept


def test_a_flood_from_many_hosts_leaves_each_other_its_share() -> None:
    kept = memory(1000)
    for number in range(3):
        kept["honest", number] = number
    for number in range(20_000):
        kept[f"flood-{number % 200}", number] = None
    assert len(kept) == 1000
    assert all(("honest", number) in kept for number in range(3))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.booleans()), max_size=200))
def test_it_is_a_bounded_dict(moves: list[tuple[int, int, bool]]) -> None:
    kept = memory(8)
    plain: dict[tuple[int, int], int] = {}
    for number, (host, key, forget) in enumerate(moves):
        if forget:
            assert kept.pop((host, key)) == plain.pop((host, key), None)
        else:
            kept[host, key] = plain[host, key] = number
        for gone in [one for one in plain if one not in kept]:
            share = sum(one[0] == gone[0] for one in plain)
            assert share * len({one[0] for one in plain}) > 8, "who had no more than its share lost nothing"
            del plain[gone]
        assert dict(kept) == plain
        assert len(kept) <= 8

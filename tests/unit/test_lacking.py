"""Who lacks what of a Group Key: by the list of an epoch and by what each member was told."""

from hypothesis import given
from hypothesis import strategies as st

from cpns.ids import EntityId
from cpns.protocol.group_keying.lacking import Lack, Told, after, lack, lacking

ANN, BEN, CAT, DAN, EVE = (EntityId(name) for name in ("ann", "ben", "cat", "dan", "eve"))
NUMBERS = st.integers(0, 3)
ANY = st.builds(Told, setup=st.none(), tree=NUMBERS, epoch=NUMBERS, failed=NUMBERS)


def test_each_lacks_what_it_was_not_told() -> None:
    told = {
        ANN: Told(tree=2, epoch=7),
        BEN: Told(tree=2, epoch=6),
        CAT: Told(tree=1, epoch=6),
        DAN: Told(epoch=6, failed=7),
    }
    listed = (ANN, BEN, CAT, DAN, EVE)
    assert lacking(listed, 7, 2, told) == {BEN: Lack.BROADCAST, CAT: Lack.GKDK, DAN: Lack.KEY, EVE: Lack.GKDK}
    assert lacking(listed, 7, None, told) == dict.fromkeys((BEN, CAT, DAN, EVE), Lack.KEY)
    assert lacking((ANN, EVE), 8, 2, told) == {ANN: Lack.BROADCAST, EVE: Lack.GKDK}


@given(told=ANY, epoch=st.integers(1, 3), tree=st.integers(1, 3))
def test_who_takes_all_has_the_key_after_two_steps(told: Told, epoch: int, tree: int) -> None:
    for _ in range(2):
        lacks = lack(epoch, tree, told)
        if lacks is not None:
            told = after(told, lacks, epoch, tree, took=True)
    assert lack(epoch, tree, told) is None


@given(told=ANY, epoch=st.integers(1, 3), tree=st.integers(1, 3))
def test_who_takes_nothing_is_left_with_the_key_alone(told: Told, epoch: int, tree: int) -> None:
    """And is given its GKDK before the next broadcast: it may have lost that."""
    lacks = lack(epoch, tree, told)
    if lacks is None:
        return
    told = after(told, lacks, epoch, tree, took=False)
    assert lack(epoch, tree, told) is Lack.KEY
    assert after(told, Lack.KEY, epoch, tree, took=False) == told
    if lacks is not Lack.KEY:
        assert lack(epoch + 1, tree, told) is Lack.GKDK


@given(told=ANY, epoch=st.integers(1, 3), took=st.booleans())
def test_the_newest_key_is_never_forgotten(told: Told, epoch: int, took: bool) -> None:
    for lacks in Lack:
        assert after(told, lacks, epoch, 1, took=took).epoch >= told.epoch

"""Which of the PN GWs that answered a search, or were named, is tried next."""

from typing import cast

from cpns.ids import EntityId
from cpns.pne.candidates import MAX_ADDRESSES, MAX_CANDIDATES, MAX_OF_HOST, Candidates, Named
from cpns.transport.discovery import Found
from cpns.transport.endpoint import Link


def at(host: str, port: int = 1, name: str = "gw") -> Found:
    return Found(EntityId(name), host, port, False)


def order(one: Candidates) -> list[tuple[str, int]]:
    return [(found.host, found.port) for found in one.in_order()]


def test_who_answers_first_is_tried_first_and_after_it_failed_last() -> None:
    one = Candidates()
    for host in ("evil", "home", "shed"):
        one.heard(at(host))
    assert order(one) == [("evil", 1), ("home", 1), ("shed", 1)]
    one.take(one.in_order()[0])
    one.heard(at("evil"))  # says so again while it is tried
    assert order(one) == [("home", 1), ("shed", 1)]
    one.failed()
    one.heard(at("evil", 2, "another"))
    assert order(one) == [("home", 1), ("shed", 1), ("evil", 2)]


def test_a_host_is_remembered_whatever_it_calls_itself_until_it_does() -> None:
    one = Candidates()
    for number in range(3):
        one.heard(at("evil", number, f"made-up-{number}"))
        one.take(one.in_order()[0])
        one.failed()
    assert one.failures("evil") == 3
    one.heard(at("evil", 9))
    one.take(one.in_order()[0])
    one.did()
    assert one.failures("evil") == 0


def test_one_host_has_few_places_and_all_are_bounded() -> None:
    one = Candidates()
    for port in range(100):
        one.heard(at("evil", port))
    assert len(order(one)) == MAX_OF_HOST
    one.take(one.in_order()[0])
    one.failed()
    for number in range(2 * MAX_CANDIDATES):
        one.heard(at(f"host-{number}"))
    assert len(order(one)) == MAX_CANDIDATES
    assert all(host != "evil" for host, _ in order(one))  # it failed: it gives way
    one.failed()  # nobody is tried
    assert one.failures("host-1") == 0


WAYS = [("10.0.0.1", 1), ("shed", 2)]


def tried(one: Named, names: dict[str, list[str]]) -> str:
    """Take the next step; return which address is tried."""
    return str(one.next([cast(Link, address) for address in names[one.turn(WAYS)[0]]]))


def test_each_address_of_a_name_is_tried_and_then_the_next_gateway() -> None:
    one, names = Named(), {"10.0.0.1": ["10.0.0.1"], "shed": ["::1", "127.0.0.1"]}
    seen = [(tried(one, names), one.failed(2)) for _ in range(6)]
    assert seen == 2 * [("10.0.0.1", True), ("::1", True), ("127.0.0.1", False)]


def test_the_address_that_did_is_tried_again_before_the_others_of_its_name() -> None:
    own = ["::1", "127.0.0.1", "127.0.0.2"]
    one, names = Named(), {"10.0.0.1": own, "shed": own}
    assert (tried(one, names), one.failed(1)) == ("::1", True)
    assert tried(one, names) == "127.0.0.1"
    one.did()
    assert not one.failed(1)  # it was lost
    assert [(tried(one, names), one.failed(1)) for _ in range(3)] == [
        ("127.0.0.1", True),
        ("::1", True),
        ("127.0.0.2", False),
    ]


def test_a_name_may_stand_for_other_addresses_at_each_attempt() -> None:
    one, names = Named(), {"10.0.0.1": ["old"], "shed": ["shed"]}
    assert tried(one, names) == "old"
    one.did()
    one.failed(1)
    assert [tried(one, {"10.0.0.1": ["new"], "shed": ["shed"]}), one.failed(2)] == ["shed", False]
    assert tried(one, {"10.0.0.1": ["new"], "shed": ["shed"]}) == "new"


def test_a_name_without_address_gives_its_turn_to_the_next() -> None:
    one, names = Named(), {"10.0.0.1": ["10.0.0.1"], "shed": ["shed"]}
    assert one.turn(WAYS) == WAYS[0]
    assert one.failed(2)
    assert tried(one, names) == "shed"


def test_a_round_ends_where_it_began() -> None:
    one, names = Named(), {"10.0.0.1": ["10.0.0.1"], "shed": ["shed"]}
    assert (tried(one, names), one.failed(2), tried(one, names)) == ("10.0.0.1", True, "shed")
    one.did()
    assert (one.failed(2), tried(one, names), one.failed(2), tried(one, names)) == (True, "10.0.0.1", False, "shed")


def test_one_that_was_tried_out_of_turn_and_did_has_the_turn() -> None:
    one, names = Named(), {"10.0.0.1": ["10.0.0.1"], "shed": ["shed"]}
    assert tried(one, names) == "10.0.0.1"
    one.did()
    one.led(1, cast(Link, "shed"))
    one.did()
    assert one.turn(WAYS) == WAYS[1]
    assert (one.failed(2), tried(one, names), one.failed(2)) == (True, "10.0.0.1", False)


def test_a_search_has_no_address_left() -> None:
    assert not Named().failed(0)


def test_a_name_with_many_addresses_is_bounded() -> None:
    one, names = Named(), {"10.0.0.1": [f"10.0.1.{number}" for number in range(300)]}
    rounds = [(tried(one, names), one.failed(1)) for _ in range(MAX_ADDRESSES)]
    assert [more for _, more in rounds] == [True] * (MAX_ADDRESSES - 1) + [False]
    assert len(set(rounds)) == MAX_ADDRESSES

"""Which of the PN GWs that answered a search is tried next."""

from cpns.ids import EntityId
from cpns.pne.candidates import MAX_CANDIDATES, MAX_OF_HOST, Candidates
from cpns.transport.discovery import Found


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

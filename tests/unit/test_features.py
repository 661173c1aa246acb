"""The features of the server: each folder is one, and is told what happens."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from cpns import server
from cpns.domain.actor import SERVER
from cpns.domain.event import Event
from cpns.ids import EntityId
from cpns.server.feature import Desk, Feature, Features
from cpns.server.features import FEATURES

FOLDERS = sorted(path.parent.name for path in Path(next(iter(server.__path__))).glob("*/__init__.py"))
EVENT = Event(1.0, "rung", SERVER, "watch", {})


def test_each_folder_is_a_feature() -> None:
    """But that of the peers, which all of them know."""
    assert sorted(one.__module__.rpartition(".")[2] for one in FEATURES) == [one for one in FOLDERS if one != "peers"]


@pytest.mark.parametrize("folder", [one for one in FOLDERS if one != "peers"])
def test_a_folder_has_one_feature(folder: str) -> None:
    module = import_module(f"cpns.server.{folder}")
    own = [one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == module.__name__]
    assert [one for one in own if issubclass(one, Feature)] == [one for one in FEATURES if one in own]


class Told(Feature):
    """Keeps what it is told."""

    def __init__(self, *, follows: bool) -> None:
        self.got: list[object] = []
        self._follows = follows

    def follows(self) -> bool:
        return self._follows

    def happened(self, event: Event) -> None:
        self.got.append(event)

    def heard(self, pne: EntityId) -> None:
        self.got.append(pne)


class Other(Told):
    """Another kind."""


async def test_what_happens_is_said_to_all_and_what_happened_to_those_that_follow() -> None:
    one, other = Told(follows=True), Other(follows=False)
    features = Features((other, one))
    features.heard(EntityId("watch"))
    features.happened(EVENT)
    assert (one.got, other.got) == (["watch", EVENT], ["watch"])
    assert features.of(Other) is other


async def test_a_feature_has_to_do_nothing() -> None:
    """What it does not say, nobody is asked; and it hears of all that there is without doing anything."""
    plain = Feature(cast(Any, None))
    features = Features((plain,))
    for name in ("gateway_came", "gateway_gone", "heard", "says_it_is_there"):
        getattr(features, name)(EntityId("watch"))
    features.admitted(cast(Any, None), {})
    features.happened(EVENT)
    await features.left((), EntityId("watch"), None, cast(Any, None))
    await features.left_groups(())
    for act in (plain.load, plain.retry, plain.close):
        await act()
    await plain.sweep(ends=True)
    assert [*plain.of_uplink(), *plain.of_gateway(), *plain.of_pne(), *plain.resources()] == []


def test_of_a_server_that_does_not_run_nothing_runs() -> None:
    assert Desk(cast(Any, None), cast(Any, None), cast(Any, None), None).running(Feature) is None

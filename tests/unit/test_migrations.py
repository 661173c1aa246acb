"""A store of each earlier revision becomes what a new one is, whichever database it is on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import cpns.store
from cpns.store.server_store import ServerStore
from tests.support.stores import Location, make_store_of, shape_of


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", "cpns.store:migrations")
    return sorted(one.revision for one in ScriptDirectory.from_config(config).walk_revisions())


ALL = revisions()


def test_the_revisions_are_one_chain() -> None:
    files = Path(cpns.store.__file__).parent / "migrations" / "versions"
    assert ALL == [f"{number:04}" for number in range(1, len(ALL) + 1)]
    assert sorted(path.name[1:5] for path in files.glob("r*.py")) == ALL


@pytest.mark.parametrize("revision", ALL[:-1])
async def test_an_older_store_is_as_a_new_one(new_place: Callable[[], Location], revision: str) -> None:
    older, newer = new_place(), new_place()
    make_store_of(revision, older, [])
    found = []
    for place in (older, newer):
        store = ServerStore.open(place)
        found.append(await store.database.run(shape_of, write=False))
        await store.close()
    assert found[0] == found[1]

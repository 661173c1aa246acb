"""Lists in pages: put together in their order, and never without an end."""

from dataclasses import dataclass

import pytest

from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.service import pages
from cpns.service.pages import all_pages


@dataclass
class Some:
    names: list[str]
    more: bool | None = None


def names(page: Some) -> list[str]:
    return page.names


async def read(*told: Some) -> tuple[list[str], list[EntityId | None]]:
    """Return the entries of a list with the pages *told*, the last again and again, and what was asked for."""
    asked: list[EntityId | None] = []

    async def ask(after: EntityId | None) -> Some:
        asked.append(after)
        return told[min(len(asked), len(told)) - 1]

    found = await all_pages(ask, names)
    return [name for page in found for name in page.names], asked


async def test_each_page_goes_on_after_the_last_entry() -> None:
    found, asked = await read(Some(["a", "b"], more=True), Some(["c"], more=True), Some(["d"]))
    assert found == ["a", "b", "c", "d"]
    assert asked == [None, "b", "c"]
    assert await read(Some([])) == ([], [None])
    assert await read(Some(["a"], more=True), Some([])) == (["a"], [None, "a"])


@pytest.mark.parametrize(
    "told",
    [
        [Some([], more=True)],
        [Some(["a"], more=True)],  # the same for ever
        [Some(["b", "a"])],
        [Some(["a", "a"])],
        [Some(["a", "c"], more=True), Some(["b", "d"], more=True)],
        [Some(["a"], more=True), Some([], more=True)],
    ],
    ids=["empty", "the same", "backwards", "twice", "before the page before", "empty in the end"],
)
async def test_a_list_that_goes_back_is_refused(told: list[Some]) -> None:
    with pytest.raises(Refused, match="list_goes_back") as refused:
        await read(*told)
    assert refused.value.result is Result.BAD_REQUEST


@pytest.mark.parametrize(("bound", "of_page"), [("MAX_PAGES", 1), ("MAX_ENTRIES", 3)])
async def test_a_list_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, bound: str, of_page: int) -> None:
    monkeypatch.setattr(pages, bound, 12)
    count = 0

    async def ask(after: EntityId | None) -> Some:
        nonlocal count
        count += 1
        return Some([f"{count:04}-{one}" for one in range(of_page)], more=True)

    with pytest.raises(Refused, match="list_without_end"):
        await all_pages(ask, names)
    assert count == 12 // of_page + 1


async def test_a_list_as_long_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 2)
    monkeypatch.setattr(pages, "MAX_ENTRIES", 3)
    assert (await read(Some(["a", "b"], more=True), Some(["c"])))[0] == ["a", "b", "c"]

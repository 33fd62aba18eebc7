"""Generated pages are what the source says; who changes a setting or a failure runs `make docs`."""

from __future__ import annotations

import pytest
from scripts import docs

PAGES = docs.pages()


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_the_page_is_up_to_date(file: docs.Path) -> None:
    assert file.read_text(encoding="utf-8") == PAGES[file], "run `make docs`"

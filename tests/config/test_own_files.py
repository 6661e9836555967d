"""Files of the user's own: how they are loaded, and what of them a fingerprint sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from synthgen.config.own_files import check_own, forget_own, load_own, public_own, split_own
from synthgen.config.own_source import fingerprint_named, fingerprint_own
from synthgen.config.registry import Registry
from synthgen.errors import ConfigError

MINE = '''"""Mine."""
import helper
from words import SHORT, LONG

LIMIT = 3


class Base:
    """The base."""


class Stage(Base):
    text = """one

two"""

    def prepare(self):
        return [SHORT, LIMIT, helper.say(), grow()]


def grow():
    return 1  # one


def unused():
    return LONG
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file with a class, beside two that it imports from."""
    (tmp_path / "helper.py").write_text("def say():\n    return 'a'\n")
    (tmp_path / "words.py").write_text("SHORT = 's'\nLONG = 'l'\n")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def hash_now(mine: Path) -> str:
    forget_own()
    made = fingerprint_own(load_own(f"{mine}:Stage", "scorers.x.type")())
    assert made is not None
    return made


EDITS: dict[str, tuple[str, Callable[[str], str], bool]] = {
    "a number that it names": ("mine.py", lambda text: text.replace("LIMIT = 3", "LIMIT = 4"), True),
    "a function that it calls": ("mine.py", lambda text: text.replace("return 1", "return 2"), True),
    "its base": ("mine.py", lambda text: text.replace("The base", "A base"), True),
    "a blank line of a text": ("mine.py", lambda text: text.replace("one\n\ntwo", "one\n\n\ntwo"), True),
    "a module that it imports": ("helper.py", lambda text: text.replace("'a'", "'b'"), True),
    "a name that it imports": ("words.py", lambda text: text.replace("'s'", "'t'"), True),
    "a statement that may do anything": ("mine.py", lambda text: text + "\nsetattr(Base, 'x', 1)\n", True),
    "a comment": ("mine.py", lambda text: text.replace("# one", "# two"), False),
    "a comment's line and a blank one": ("mine.py", lambda text: text.replace("LIMIT", "\n# few\n\nLIMIT", 1), False),
    "another function": ("mine.py", lambda text: text.replace("return LONG", "return LONG + 'x'"), False),
    "another name of the same file": ("words.py", lambda text: text.replace("'l'", "'m'"), False),
    "what runs as a program": ("mine.py", lambda text: text + "\nif __name__ == '__main__':\n    Stage()\n", False),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_fingerprint_sees_what_the_class_stands_on(mine: Path, edit: str) -> None:
    before = hash_now(mine)
    name, change, counts = EDITS[edit]
    path = mine.with_name(name)
    text = change(path.read_text())
    assert text != path.read_text()
    path.write_text(text)
    assert (hash_now(mine) != before) is counts


def test_a_version_takes_the_place_of_the_source(mine: Path) -> None:
    versioned = MINE.replace("class Stage(Base):", "class Stage(Base):\n    version = '1'")
    mine.write_text(versioned)
    before = hash_now(mine)
    mine.write_text(versioned.replace("LIMIT = 3", "LIMIT = 4"))
    assert hash_now(mine) == before
    mine.write_text(versioned.replace("version = '1'", "version = '2'"))
    assert hash_now(mine) != before


def test_what_is_not_the_users_own_has_no_hash(mine: Path) -> None:
    load_own(f"{mine}:Stage", "scorers.x.type")
    assert fingerprint_own(Path()) is None
    assert fingerprint_own(Registry("none", {})) is None


def test_a_changed_helper_is_run_anew(mine: Path) -> None:
    assert load_own(f"{mine}:Stage", "x")().prepare() == ["s", 3, "a", 1]
    mine.with_name("helper.py").write_text("def say():\n    return 'bb'\n")
    assert load_own(f"{mine}:Stage", "x")().prepare() == ["s", 3, "a", 1]  # a run sees one text from end to end
    forget_own()
    assert load_own(f"{mine}:Stage", "x")().prepare() == ["s", 3, "bb", 1]


def test_a_named_object_stands_on_its_class(mine: Path) -> None:
    mine.write_text(MINE + "\n\nTHING = Stage()\n")
    forget_own()
    name = f"{mine}:THING"
    before = fingerprint_named(name, load_own(name, "judge.format"))
    mine.write_text(mine.read_text().replace("LIMIT = 3", "LIMIT = 4"))
    forget_own()
    assert fingerprint_named(name, load_own(name, "judge.format")) != before


def test_names_of_files() -> None:
    assert split_own("a/b.py:c") == (Path("a/b.py"), "c")
    assert split_own("python:a/b.py:c") == (Path("a/b.py"), "c")
    assert split_own("best_worst") is None
    assert split_own("a.py:1x") is None
    assert public_own("/home/me/b.py:c") == "b.py:c"
    assert public_own("best_worst") == "best_worst"


def test_what_cannot_be_loaded_is_named_in_one_line(mine: Path) -> None:
    with pytest.raises(ConfigError, match=r"^pairs\.policy=\./no\.py:f: there is no file no\.py; give the path"):
        check_own("./no.py:f", "pairs.policy")
    with pytest.raises(ConfigError, match=r"mine\.py has no other; it has .*Stage, grow"):
        load_own(f"{mine}:other", "pairs.policy")
    mine.write_text("x = 1\ny = 1 / 0\n")
    forget_own()
    with pytest.raises(ConfigError, match=r"mine\.py:2 cannot be run: ZeroDivisionError: division by zero"):
        load_own(f"{mine}:x", "pairs.policy")

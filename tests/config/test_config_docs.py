from __future__ import annotations

import re

from omegaconf import OmegaConf

from synthgen.config.compose import compose_tree
from synthgen.config.docs import GROUPS, PAGE, main, make_page
from synthgen.config.resources import project_path


def documented_keys() -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \| \S", make_page().partition("## The command")[2], re.MULTILINE))


def test_page_is_up_to_date() -> None:
    assert main(["--check"]) == 0, (
        "docs/configuration.md is older than the configuration: python -m synthgen.config.docs"
    )
    assert PAGE.read_text(encoding="utf-8") == make_page()


def test_page_explains_every_key() -> None:
    unexplained = [line for line in make_page().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert unexplained == []


def test_page_lists_every_key_of_a_composed_configuration() -> None:
    tree = OmegaConf.to_container(compose_tree(["experiment=demo"]), resolve=False)
    free = ("engine_args", "architecture", "logit_bias", "runtime_env")

    def leaves(value: object, path: str) -> set[str]:
        if isinstance(value, dict) and path.rpartition(".")[2] not in free:
            return {leaf for key, item in value.items() for leaf in leaves(item, f"{path}.{key}" if path else str(key))}
        return {path}

    found = leaves(tree, "")
    named = {re.sub(r"^(.+\.)?model\.", "<model>.", key) for key in found}
    named = {key.replace("generators.main.", "generators.<name>.") for key in named} - {"judge.aspect"}
    assert named <= documented_keys()


def test_page_lists_every_group() -> None:
    page = make_page()
    for group in GROUPS:
        for path in (project_path("conf") / group).glob("*.yaml"):
            assert f"`{path.stem}`" in page

"""Reading prompts: any source of rows in, tables of distinct conversations out.

Knows nothing of engines and of Ray.
"""

from synthgen.prompts.columns import RULES
from synthgen.prompts.rows import BadRow
from synthgen.prompts.source import PromptSource, PromptStats

__all__ = ["RULES", "BadRow", "PromptSource", "PromptStats"]

PUBLIC = ("completions", "fetch", "files", "locate", "messages", "rows", "sizes", "source", "unusable")
IMPORTS = ("config", "models")

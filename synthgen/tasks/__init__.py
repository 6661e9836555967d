"""distilabel's tasks without its pipeline: a prompt's columns in, a conversation out; a text in, columns out.

Knows nothing of Ray.
"""

from synthgen.tasks.inputs import MissingInputError, list_columns, select_inputs
from synthgen.tasks.load import LoadedTask, hash_task, load_task
from synthgen.tasks.outputs import parse_output
from synthgen.tasks.render import RenderedInput, render_input

__all__ = [
    "LoadedTask",
    "MissingInputError",
    "RenderedInput",
    "hash_task",
    "list_columns",
    "load_task",
    "parse_output",
    "render_input",
    "select_inputs",
]

PUBLIC = ("stub",)
IMPORTS: tuple[str, ...] = ()

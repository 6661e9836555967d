"""Verifiers: code that checks a completion and gives it a number, or says why it has none. No model, no Ray.

A kind of verifier is one file. `kinds` has their registry and what the configuration must satisfy; `worker` is the
process in which they run, so that what hangs or dies takes nothing with it (synthgen.engines.code starts it).
"""

PUBLIC = ("cases", "kinds", "settings")
IMPORTS = ("config",)

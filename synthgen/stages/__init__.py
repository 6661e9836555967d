"""Stages: a pure transformation of one unit, prompts to completions or completions to judgements.

Knows nothing of Ray and of files. `base.LLMStage` says what a stage is.
"""

PUBLIC = ("base", "generate", "given", "history", "judge", "scorers", "task")
IMPORTS = ("config", "prompts", "tasks", "judge", "verifiers", "pairs", "trust")

"""Lua scripts, read without being run: which commands a body sends, and whether their keys are declared.

Knows: the syntax of Redis' Lua (parsed by tree-sitter) and where a value comes from (``KEYS``, a literal, anything
else). Refuses to know: what a script does with the data, and which branches are taken.
"""

from proxy.report.lua.reading import Call, ScriptReading, read_script
from proxy.report.lua.values import KeyUse, Origin

__all__ = ["Call", "KeyUse", "Origin", "ScriptReading", "read_script"]

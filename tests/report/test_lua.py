"""What reading a script tells: commands, lines, where keys come from, and when nothing can be told."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.capture.format import Flag
from proxy.report.lua import Call, Origin, read_script
from proxy.report.lua.syntax import MOST_BYTES
from proxy.report.render_text import render_text
from proxy.report.rules.scripts import ScriptFact
from proxy.report.run import run
from proxy.report.scripts import script_facts, script_lines
from tests.report.world import Rows, command


def shown(call: Call) -> str:
    """``3 GET literal:a declared:KEYS``, with what is unknown behind it."""
    words = {Origin.DECLARED: "declared", Origin.LITERAL: "literal", Origin.DERIVED: "derived"}
    keys = [f"{words.get(use.origin, 'computed')}:{use.text.decode('latin-1')}" for use in call.keys]
    name = "?" if call.command is None else call.command.decode()
    return " ".join([str(call.line), name, *keys, *([f"({call.unknown})"] if call.unknown else [])])


COMPUTED_NAME = "(the command's name is computed)"
COMPUTED_OPTION = "(an argument that may name a key is computed)"

# (what happens, body, calls)
CALLS = [
    ("a declared key", "return redis.call('GET', KEYS[1])", ["1 GET declared:KEYS"]),
    ("pcall, and server", "redis.pcall('get', KEYS[1])\nserver.call('DEL', KEYS[2])",
     ["1 GET declared:KEYS", "2 DEL declared:KEYS"]),
    ("a literal", "redis.call('SET', 'a', 1)", ["1 SET literal:a"]),
    ("a literal, with escapes", r"""redis.call("GET", "a\"\65\n")""", ['1 GET literal:a"A\n']),
    ("long brackets", "redis.call([[GET]], [==[a]]b]==])", ["1 GET literal:a]]b"]),
    ("bytes that are no UTF-8", b"redis.call('GET', '\xff\xc3')".decode("latin-1"), ["1 GET literal:\xff\xc3"]),
    ("an argument", "redis.call('GET', ARGV[1])", ["1 GET computed:ARGV[1]"]),
    ("made of a declared key", "redis.call('GET', KEYS[1] .. ':x')", ["1 GET derived:KEYS[1] .. ':x'"]),
    ("made of an argument", "redis.call('GET', 'q:' .. ARGV[1])", ["1 GET computed:'q:' .. ARGV[1]"]),
    ("made of literals", "local p = 'q:' redis.call('GET', p .. 'a')", ["1 GET literal:q:a"]),
    ("format", "redis.call('GET', string.format('%s:x', KEYS[1]))",
     ["1 GET derived:string.format('%s:x', KEYS[1])"]),
    ("a reply", "local k = redis.call('GET', KEYS[1])\nredis.call('DEL', k)",
     ["1 GET declared:KEYS", "2 DEL computed:redis.call('GET', KEYS[1])"]),
    ("a local that is a key", "local k = KEYS[1]\nredis.call('GET', k)", ["2 GET declared:KEYS"]),
    ("two locals at once", "local k, v = KEYS[1], ARGV[1]\nredis.call('SET', k, v)", ["2 SET declared:KEYS"]),
    ("unpacked into locals", "local a, b = unpack(KEYS)\nredis.call('DEL', a, b)", ["2 DEL declared:KEYS"]),
    ("a local of an inner scope", "local k = KEYS[1]\ndo local k = 'x' end\nredis.call('GET', k)",
     ["3 GET declared:KEYS"]),
    ("a local that is two things", "local k = KEYS[1]\nif ARGV[1] then k = 'x' end\nredis.call('GET', k)",
     ["3 GET declared:KEYS literal:x"]),
    ("either of two", "redis.call('GET', ARGV[1] == '1' and KEYS[1] or KEYS[2])", ["1 GET declared:KEYS"]),
    ("a local that grows", "local k = KEYS[1]\nwhile 1 do k = k .. 'x' end\nredis.call('GET', k)",
     ["3 GET computed:k .. 'x' declared:KEYS"]),
    ("an alias", "local call = redis.call\ncall('GET', KEYS[1])", ["2 GET declared:KEYS"]),
    ("an alias of the table", "local r = redis\nr.call('GET', 'a')", ["2 GET literal:a"]),
    ("by index", "redis['call']('GET', 'a')", ["1 GET literal:a"]),
    ("protected", "pcall(redis.call, 'GET', 'a')", ["1 GET literal:a"]),
    ("a loop over keys", "for i, k in ipairs(KEYS) do redis.call('GET', k) end", ["1 GET declared:KEYS"]),
    ("a loop by number", "for i = 1, #KEYS do redis.call('GET', KEYS[i]) end", ["1 GET declared:KEYS"]),
    ("a loop over a reply", "for _, k in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('GET', k) end",
     ["1 SMEMBERS declared:KEYS", "1 GET computed:ipairs(redis.call('SMEMBERS', KEYS[1]))"]),
    ("all keys", "redis.call('DEL', unpack(KEYS))", ["1 DEL declared:KEYS"]),
    ("all arguments as keys", "redis.call('DEL', unpack(ARGV))", ["1 DEL computed:ARGV"]),
    ("all arguments as values", "redis.call('SADD', KEYS[1], unpack(ARGV))", ["1 SADD declared:KEYS"]),
    ("counted keys", "redis.call('ZUNIONSTORE', KEYS[1], #KEYS, unpack(KEYS))", ["1 ZUNIONSTORE declared:KEYS"]),
    ("counted by a number", "redis.call('ZINTER', 2, KEYS[1], 'b')", ["1 ZINTER declared:KEYS literal:b"]),
    ("counted by an argument", "redis.call('ZINTER', ARGV[1], KEYS[1])",
     ["1 ZINTER (its arguments do not fit its key specification)"]),
    ("a table of keys", "local t = {}\nfor i = 1, #KEYS do t[#t + 1] = KEYS[i] end\nredis.call('DEL', unpack(t))",
     ["3 DEL declared:KEYS"]),
    ("a table with something else", "local t = {KEYS[1]}\ntable.insert(t, 'x')\nredis.call('DEL', unpack(t))",
     ["3 DEL declared:KEYS literal:x"]),
    ("locals for builtins", "local insert, unpack, t = table.insert, table.unpack or unpack, {KEYS[1]}\n"
     "insert(t, 'x') redis.call('DEL', unpack(t))", ["2 DEL declared:KEYS literal:x"]),
    ("a builtin's name for something else",
     "local unpack = function(t) return 'x' end\nredis.call('DEL', unpack(KEYS))", ["2 DEL computed:unpack(KEYS)"]),
    ("a function of its own", "local function get(k) return redis.call('GET', k) end\nget(KEYS[1])",
     ["1 GET declared:KEYS"]),
    ("a function called with both", "local get = function(k) return redis.call('GET', k) end\nget(KEYS[1]) get('x')",
     ["1 GET declared:KEYS literal:x"]),
    ("a function that is handed on", "local function get(k) return redis.call('GET', k) end\nmap(get)",
     ["1 GET computed:k"]),
    ("streams", "redis.call('XADD', KEYS[1], '*', 'f', ARGV[1])", ["1 XADD declared:KEYS"]),
    ("read streams", "redis.call('XREAD', 'STREAMS', KEYS[1], ARGV[1])", [f"1 XREAD {COMPUTED_OPTION}"]),
    ("sort with a literal store", "redis.call('SORT', KEYS[1], 'STORE', 'x')", ["1 SORT declared:KEYS literal:x"]),
    ("sort with something", "redis.call('SORT', KEYS[1], ARGV[1], 'x')", [f"1 SORT declared:KEYS {COMPUTED_OPTION}"]),
    ("a computed command", "redis.call(ARGV[1], KEYS[1])", [f"1 ? {COMPUTED_NAME}"]),
    ("an unknown command", "redis.call('FT.SEARCH', KEYS[1])",
     ["1 FT.SEARCH (the command is not in the command table)"]),
    ("subcommands", "redis.call('OBJECT', 'ENCODING', 'a')", ["1 OBJECT ENCODING literal:a"]),
    ("no keys", "redis.call('TIME') return redis.sha1hex('a')", ["1 TIME"]),
    ("only in a comment", "-- redis.call('GET', 'a')\nreturn [[redis.call('GET', 'b')]]", []),
    ("KEYS is something else", "KEYS = {'x'}\nredis.call('GET', KEYS[1])", ["2 GET literal:x"]),
    ("KEYS is added to", "KEYS[2] = 'x'\nredis.call('GET', KEYS[1])", ["2 GET computed:KEYS[1]"]),
    ("a library", "#!lua name=l\nredis.register_function('f', function(keys, args)\n"
     "  return redis.call('GET', keys[1]) end)", ["3 GET declared:KEYS"]),
    ("a library's named function", "#!lua name=l\nlocal function g(keys, args) return redis.call('GET', args[1]) end\n"
     "redis.register_function{function_name='g', callback=g}", ["2 GET computed:args[1]"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "calls"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_a_reading_names_each_command_its_line_and_where_its_keys_come_from(body: str, calls: list[str]) -> None:
    reading = read_script(body.encode("latin-1"))
    assert (reading.unread, [shown(call) for call in reading.calls]) == ("", calls)


F = ScriptFact
FACTS = [
    ("nothing", "return 1", F.NO_KEYS),
    ("harmless", "redis.log(redis.LOG_NOTICE, 'x') redis.call('TIME') return redis.sha1hex(ARGV[1])", F.NO_KEYS),
    ("harmless by an alias", "local c = redis.call\nreturn c('PING')", F.NO_KEYS),
    ("a command of one node", "return redis.call('DBSIZE')", F(0)),
    ("declared", "return redis.call('GET', KEYS[1])", F(0)),
    ("undeclared", "return redis.call('GET', 'a')", F.UNDECLARED),
    ("handed on", "f(redis.call)", F.HIDDEN),
    ("handed on by a table", "local t = {redis.call}\nt[1]('GET', 'a')", F.HIDDEN),
    ("the table handed on", "f(redis)", F.HIDDEN),
    ("indexed by something", "redis[ARGV[1]]('GET', 'a')", F.HIDDEN),
    ("an alias that changes", "local c = redis.call\nc = print\nc('GET', 'a')", F.HIDDEN),
    ("loadstring", "return loadstring(ARGV[1])()", F.HIDDEN),
    ("the globals", "return _G['re' .. 'dis'].call('GET', 'a')", F.HIDDEN),
    ("the environment", "return getfenv(1).redis", F.HIDDEN),
    ("computed command", "redis.call(ARGV[1])", F.HIDDEN),
    ("no Lua", "return (", F.HIDDEN),
    ("another engine", "#!js\nreturn 1", F.HIDDEN | F.SHEBANG),
    ("a shebang", "#!lua\nreturn redis.call('GET', 'a')", F.SHEBANG | F.UNDECLARED),
    ("no cluster", "#!lua flags=no-writes,no-cluster\nreturn 1", F.SHEBANG | F.NO_CLUSTER | F.NO_KEYS),
    ("cross slot", "#!lua flags=allow-cross-slot-keys\nreturn redis.call('GET', 'a')",
     F.SHEBANG | F.CROSS_SLOT | F.UNDECLARED),
    ("no flag in a comment", "-- #!lua flags=no-cluster\nreturn 1", F.NO_KEYS),
]  # fmt: skip


@pytest.mark.parametrize(("body", "facts"), [case[1:] for case in FACTS], ids=[case[0] for case in FACTS])
def test_what_is_not_certain_of_a_body_is_no_fact(body: str, facts: ScriptFact) -> None:
    assert script_facts(body.encode()) == facts


HOSTILE = [
    ("too large", b"-" * (MOST_BYTES + 1), "bytes; only bodies of up to"),
    ("parentheses", b"x = " + b"(" * 60_000 + b"1" + b")" * 60_000, "nested too deeply"),
    ("a long sum", b"x = " + b"1 + " * 30_000 + b"1", "nested too deeply"),
    ("unended long strings", b"[[" * 60_000, "parsing it takes too long"),
    ("a literal that doubles", b"local a='x'" + b" a = a .. a" * 9000 + b" redis.call('GET', a)", ""),
    ("a chain that doubles", b"".join(b" local a%d = a%d .. a%d" % (n + 1, n, n) for n in range(2000)), ""),
    ("bytes", bytes(range(256)) * 20, "no Lua"),
    ("too many calls", b"redis.call('PING') " * 3000, "3,000 calls"),
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("body", "why"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_body_ends_as_a_reading_with_its_reason(body: bytes, why: str) -> None:
    reading = read_script(body)
    assert why in reading.unread
    assert bool(why) == bool(reading.unread)


WORDS = "redis . call ( ) 'GET' KEYS [ 1 ] local k = function end if then for in do , .. ARGV { } # return unpack"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS.split(" ")), max_size=25))
def test_any_words_end_as_a_reading(words: list[str]) -> None:
    reading = read_script(" ".join(words).encode())
    assert reading.unread or not reading.calls or all(call.line == 1 for call in reading.calls)


def test_the_table_of_scripts_names_the_flagged_lines_and_begins_with_them() -> None:
    bodies = {
        hashlib.sha1(body).hexdigest().encode(): body
        for body in (
            b"return redis.call('GET', KEYS[1])",
            b"redis.call('GET', KEYS[1])\nredis.call('SET', 'a', 1)\nredis.call('GET', KEYS[1] .. 'x')",
            b"return (",
        )
    }
    first, second, third = script_lines(bodies, {})
    assert (first.lines, first.untold) == ((2, 3), ())
    assert [[use.text for use in call.undeclared] for call in first.flagged] == [[b"a"], [b"KEYS[1] .. 'x'"]]
    assert (second.lines, second.untold) == ((), ("line 1 is no Lua that the parser knows",))
    assert (third.lines, third.untold) == ((), ())
    assert {line.sha for line in (first, second, third)} == set(bodies)


def test_the_section_on_scripts_says_what_each_line_touches_and_how_often_the_script_is_called() -> None:
    body = b"redis.call('GET', KEYS[1])\nredis.call('SET', 'a' .. ARGV[1], 1)"
    sha = hashlib.sha1(body).hexdigest()
    row = command("EVALSHA k", flags=Flag.SCRIPT, script=sha)
    report = run(Rows([row, row], scripts={sha.encode(): body}))
    assert [(line.count, line.lines) for line in report.scripts] == [(2, (2,))]
    text = render_text(report)
    assert "SET 'a' .. ARGV[1] (computed)" in text
    assert sha[:12] in text


def test_scripts_that_declare_all_have_a_sentence_and_no_table() -> None:
    body = b"return redis.call('GET', KEYS[1])"
    text = render_text(run(Rows([command("GET a")], scripts={hashlib.sha1(body).hexdigest().encode(): body})))
    assert "every key that they touch is declared" in text

# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which arguments of a command are keys: the command table as plain C, and the key finder over it.

Knows: how to look a command up by its bytes, Redis's key specifications, and the few commands whose specifications
don't tell (``traits.Finder``). Refuses to know: hash slots, sessions, and what a caller does with a key.

"I don't know" is an answer: a WHY_ number, the same as ``UnknownWhy`` in the capture format. Arguments may be cut or
missing (a value of 512 MB is not kept to look at it); whatever decides and is not there makes the answer "unknown".
Numbers are digit-checked and bounded by the argument count before any arithmetic.
"""
# Over 300 lines: one finder for each way that Redis finds keys, all over the same structs.

from dataclasses import dataclass

from protocol.commands import table

from libc.limits cimport INT_MAX
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

# Values of KeySpec.begin, KeySpec.find and Spec.finder (traits.Finder).
cdef enum:
    BEGIN_INDEX = 0
    BEGIN_KEYWORD = 1
    BEGIN_UNKNOWN = 2
    FIND_RANGE = 0
    FIND_KEYNUM = 1
    FIND_UNKNOWN = 2
    FINDER_SPECS = 0
    FINDER_SORT = 1
    FINDER_MIGRATE = 2
    FINDER_GEORADIUS = 3
    FINDER_XREAD = 4
    FINDER_FIRST = 5

# What a step of the finder answers besides WHY_ numbers: the specification does not fit these arguments.
cdef enum:
    DOES_NOT_FIT = -1
    NOT_FOUND = -1
    CANNOT_TELL_CUT = -2
    CANNOT_TELL_MISSING = -3

cdef unsigned char[256] UPPER
cdef int _i
for _i in range(256):
    UPPER[_i] = <unsigned char>(_i - 32 if 97 <= _i <= 122 else _i)


# ---- words and numbers


cdef bint is_word(const Arg *arg, const char *word, Py_ssize_t length) noexcept nogil:
    """True if the argument equals the upper-case word, in any case. A cut argument is longer than any word."""
    cdef Py_ssize_t i
    if arg.length != length or arg.kept < length:
        return False
    for i in range(length):
        if UPPER[<unsigned char>arg.ptr[i]] != <unsigned char>word[i]:
            return False
    return True


cdef inline bint _word_unsure(const Arg *arg) noexcept nogil:
    """True if the argument is cut so short that it could be any word."""
    return arg.kept < arg.length and arg.length < MAX_KEYWORD



cdef long _number(const Arg *arg) noexcept nogil:
    """A decimal number as Redis reads one (no sign, no leading zero), at most INT_MAX; NOT_FOUND; CANNOT_TELL_CUT."""
    cdef Py_ssize_t i
    cdef long value = 0
    cdef char c
    if arg.length < 1 or arg.length > 10:
        return NOT_FOUND
    if arg.kept < arg.length:
        return CANNOT_TELL_CUT
    if arg.ptr[0] == c'0' and arg.length > 1:
        return NOT_FOUND
    for i in range(arg.length):
        c = arg.ptr[i]
        if c < c'0' or c > c'9':
            return NOT_FOUND
        value = value * 10 + (c - c'0')
    return value if value <= INT_MAX else NOT_FOUND


# ---- keys


cdef struct Found:
    int *out
    Py_ssize_t cap
    Py_ssize_t count
    bint beyond  # a key lies at nkept or behind


cdef inline void _emit(Found *found, Py_ssize_t first, Py_ssize_t last, Py_ssize_t step, Py_ssize_t nkept) noexcept nogil:
    """Note the keys at first, first + step, … up to last. 1 <= first <= last, step >= 1."""
    cdef Py_ssize_t count = (last - first) // step + 1
    cdef Py_ssize_t room = found.cap - found.count
    cdef Py_ssize_t i
    if room > count:
        room = count
    for i in range(room):
        found.out[found.count + i] = <int>(first + i * step)
    found.count += count
    if first + (count - 1) * step >= nkept:
        found.beyond = True


cdef Py_ssize_t _keyword(const KeySpec *ks, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil:
    """Index of the keyword's argument, or NOT_FOUND, CANNOT_TELL_…."""
    cdef Py_ssize_t i = ks.start if ks.start > 0 else argc + ks.start
    cdef Py_ssize_t step = 1 if ks.start > 0 else -1
    while 1 <= i < argc:
        if i >= nkept:
            return CANNOT_TELL_MISSING
        if is_word(&argv[i], ks.keyword, ks.keyword_length):
            return i
        if _word_unsure(&argv[i]):
            return CANNOT_TELL_CUT
        i += step
    return NOT_FOUND


cdef int _why(Py_ssize_t answer) noexcept nogil:
    return WHY_ARGUMENT_CUT if answer == CANNOT_TELL_CUT else WHY_TOO_MANY_ARGUMENTS


cdef inline Py_ssize_t _range_end(const KeySpec *ks, Py_ssize_t first, Py_ssize_t argc) noexcept nogil:
    if ks.last >= 0:
        return first + ks.last
    if ks.limit == 0:
        return argc + ks.last
    return first + (argc - first) // ks.limit + ks.last


cdef int _apply(const KeySpec *ks, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, Found *found) noexcept nogil:
    """One key specification: 0, DOES_NOT_FIT or a WHY_ number."""
    cdef Py_ssize_t first = ks.start, last, at
    cdef long count
    if ks.begin == BEGIN_KEYWORD:
        at = _keyword(ks, argv, argc, nkept)
        if at == NOT_FOUND:
            return DOES_NOT_FIT
        if at < 0:
            return _why(at)
        first = at + 1
    elif ks.begin != BEGIN_INDEX:
        return DOES_NOT_FIT
    if ks.find == FIND_RANGE:
        last = _range_end(ks, first, argc)
    elif ks.find == FIND_KEYNUM:
        at = first + ks.last
        if at >= argc:
            return DOES_NOT_FIT
        if at >= nkept:
            return WHY_TOO_MANY_ARGUMENTS
        count = _number(&argv[at])
        if count == CANNOT_TELL_CUT:
            return WHY_ARGUMENT_CUT
        if count < 1 or count > argc:
            return DOES_NOT_FIT
        first += ks.first
        last = first + (count - 1) * ks.step
    else:
        return DOES_NOT_FIT
    if first < 1 or last >= argc or last < first:
        return DOES_NOT_FIT
    _emit(found, first, last, ks.step, nkept)
    return DOES_NOT_FIT if ks.incomplete else 0


cdef inline bint _is_empty_rest(const KeySpec *ks, Py_ssize_t argc) noexcept nogil:
    """True if "all the rest" has nothing left. Redis takes ``PFMERGE dest``, though COMMAND GETKEYS refuses it."""
    return ks.begin == BEGIN_INDEX and ks.find == FIND_RANGE and ks.last == -1 and ks.start == argc


cdef int _by_specs(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, Found *found) noexcept nogil:
    cdef int i, rc
    for i in range(spec.specs):
        if i > 0 and _is_empty_rest(&spec.spec[i], argc):
            continue
        rc = _apply(&spec.spec[i], argv, argc, nkept, found)
        if rc != 0:
            return rc
    return 0


cdef int _sort(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, Found *found) noexcept nogil:
    """SORT key [BY p] [LIMIT o n] [GET p …] [STORE dest]: the key and the last STORE's, as Redis counts them."""
    cdef Py_ssize_t i = 2, store = 0
    _emit(found, 1, 1, 1, nkept)
    while i < argc:
        if i >= nkept:
            return WHY_TOO_MANY_ARGUMENTS
        if is_word(&argv[i], b"LIMIT", 5):
            i += 2
        elif is_word(&argv[i], b"GET", 3) or is_word(&argv[i], b"BY", 2):
            i += 1
        elif is_word(&argv[i], b"STORE", 5) and i + 1 < argc:
            store = i + 1
        elif _word_unsure(&argv[i]):
            return WHY_ARGUMENT_CUT
        i += 1
    if store:
        _emit(found, store, store, 1, nkept)
    return 0


cdef int _migrate(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, Found *found) noexcept nogil:
    """MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH p | AUTH2 u p] [KEYS key …]."""
    cdef Py_ssize_t i = 6
    while i < argc:
        if i >= nkept:
            return WHY_TOO_MANY_ARGUMENTS
        if is_word(&argv[i], b"KEYS", 4) and i + 1 < argc:
            if argv[3].length > 0:
                return DOES_NOT_FIT
            _emit(found, i + 1, argc - 1, 1, nkept)
            return 0
        if is_word(&argv[i], b"AUTH", 4):
            i += 1
        elif is_word(&argv[i], b"AUTH2", 5):
            i += 2
        elif _word_unsure(&argv[i]):
            return WHY_ARGUMENT_CUT
        i += 1
    _emit(found, 3, 3, 1, nkept)
    return 0


cdef int _georadius(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, Found *found) noexcept nogil:
    """GEORADIUS[BYMEMBER] key … [STORE key | STOREDIST key]: the key and the last store's."""
    cdef Py_ssize_t i = 5, store = 0
    _emit(found, 1, 1, 1, nkept)
    while i < argc:
        if i >= nkept:
            return WHY_TOO_MANY_ARGUMENTS
        if (is_word(&argv[i], b"STORE", 5) or is_word(&argv[i], b"STOREDIST", 9)) and i + 1 < argc:
            store = i + 1
            i += 1
        elif _word_unsure(&argv[i]):
            return WHY_ARGUMENT_CUT
        i += 1
    if store:
        _emit(found, store, store, 1, nkept)
    return 0


cdef int _xread_option(const Arg *arg) noexcept nogil:
    """How many arguments the option takes; -1: STREAMS; -2: not an option of XREAD; 100: BLOCK, which takes one."""
    if is_word(arg, b"STREAMS", 7):
        return -1
    if is_word(arg, b"BLOCK", 5):
        return 100
    if is_word(arg, b"COUNT", 5):
        return 1
    if is_word(arg, b"GROUP", 5):
        return 2
    if is_word(arg, b"NOACK", 5):
        return 0
    return -2


cdef int _xread(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, Found *found) noexcept nogil:
    """XREAD(GROUP) options STREAMS key … id …: the first half behind STREAMS."""
    cdef Py_ssize_t i = 1
    cdef int option
    while i < argc:
        if i >= nkept:
            return WHY_TOO_MANY_ARGUMENTS
        option = _xread_option(&argv[i])
        if option == -1:
            if i + 1 >= argc or (argc - i - 1) % 2:
                return DOES_NOT_FIT
            _emit(found, i + 1, i + (argc - i - 1) // 2, 1, nkept)
            return 0
        if option == -2:
            return WHY_ARGUMENT_CUT if _word_unsure(&argv[i]) else DOES_NOT_FIT
        i += 2 if option == 100 else 1 + option
    return DOES_NOT_FIT


cdef int _special(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, Found *found) noexcept nogil:
    """The commands whose specifications alone don't tell, read as Redis reads them to redirect in a cluster."""
    if spec.finder == FINDER_SORT:
        return _sort(spec, argv, argc, nkept, found)
    if spec.finder == FINDER_MIGRATE:
        return _migrate(spec, argv, argc, nkept, found)
    if spec.finder == FINDER_GEORADIUS:
        return _georadius(spec, argv, argc, nkept, found)
    if spec.finder == FINDER_XREAD:
        return _xread(spec, argv, argc, nkept, found)
    _emit(found, 1, 1, 1, nkept)  # FINDER_FIRST
    return 0


cdef bint _none_wanted(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil:
    """True if arguments that don't fit simply name no key: EVAL with a key count of 0, SUNSUBSCRIBE alone."""
    cdef Py_ssize_t at = spec.spec[0].start + spec.spec[0].last
    if spec.keys_optional:
        return 0 < at < nkept and _number(&argv[at]) == 0
    return spec.flags & TRAIT_SHARD_CHANNEL != 0 and argc == 1


cdef int find_keys(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, int *out, Py_ssize_t cap,
                   Py_ssize_t *nkeys) noexcept nogil:
    """Which arguments are keys; see the .pxd."""
    cdef Found found
    cdef int rc
    nkeys[0] = 0
    if spec.specs == 0:
        return WHY_NOTHING
    if argc > INT_MAX:
        return WHY_TOO_MANY_ARGUMENTS
    if (spec.arity > 0 and argc != spec.arity) or argc < -spec.arity:
        return WHY_BAD_ARGUMENTS
    found.out = out
    found.cap = cap
    found.count = 0
    found.beyond = False
    if spec.finder == FINDER_SPECS:
        rc = _by_specs(spec, argv, argc, nkept, &found)
    else:
        rc = _special(spec, argv, argc, nkept, &found)
    if rc == 0:
        nkeys[0] = found.count
        return WHY_TOO_MANY_ARGUMENTS if found.beyond else WHY_NOTHING
    if rc != DOES_NOT_FIT:
        return rc
    if _none_wanted(spec, argv, argc, nkept):
        return WHY_NOTHING
    return _why_unfit(spec)


cdef int _why_unfit(const Spec *spec) noexcept nogil:
    """The server itself doesn't know (an incomplete or unknown specification), or the arguments are wrong."""
    cdef int i
    if spec.finder == FINDER_SPECS:
        for i in range(spec.specs):
            if spec.spec[i].incomplete or spec.spec[i].begin == BEGIN_UNKNOWN or spec.spec[i].find == FIND_UNKNOWN:
                return WHY_NO_KEY_SPEC
    return WHY_BAD_ARGUMENTS


# ---- the other questions


cdef int replies_due(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil:
    """REPLIES_…, with REPLCONF ACK and GETACK looked at: Redis answers neither."""
    cdef Py_ssize_t i
    if spec.kind == KIND_REPLCONF and argc % 2:
        for i in range(1, nkept, 2):
            if is_word(&argv[i], b"ACK", 3) or is_word(&argv[i], b"GETACK", 6):
                return REPLIES_NONE
    return spec.replies


cdef bint may_block(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil:
    """True if the command may wait in Redis."""
    cdef Py_ssize_t i = 1
    cdef int option
    if spec.flags & TRAIT_BLOCKING:
        return True
    if not spec.flags & TRAIT_MAYBE_BLOCKING:
        return False
    while i < argc:
        if i >= nkept:
            return True
        option = _xread_option(&argv[i])
        if option < 0:
            return False
        if option == 100:
            return True
        i += 1 + option
    return False


cdef bint _contains(const Arg *arg, const char *word, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(arg.kept - length + 1):
        j = 0
        while j < length and UPPER[<unsigned char>arg.ptr[i + j]] == <unsigned char>word[j]:
            j += 1
        if j == length:
            return True
    return False


cdef bint _secret_word(const Spec *spec, const Arg *arg) noexcept nogil:
    if spec.kind == KIND_CONFIG_SET:  # requirepass, masterauth, primaryauth, tls-key-file-pass, …
        return _contains(arg, b"PASS", 4) or _contains(arg, b"AUTH", 4)
    return is_word(arg, b"AUTH", 4) or is_word(arg, b"AUTH2", 5)


cdef bint has_secret(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil:
    """True if the arguments hold a secret, or may: what can't be looked at counts as one."""
    cdef Py_ssize_t i
    if spec.flags & TRAIT_SECRET:
        return True
    if not spec.flags & TRAIT_MAYBE_SECRET:
        return False
    for i in range(1, nkept):
        if spec.kind == KIND_MIGRATE and i >= 6 and is_word(&argv[i], b"KEYS", 4):
            return False
        if _secret_word(spec, &argv[i]) or _word_unsure(&argv[i]):
            return True
    return nkept < argc


cdef bint has_pattern(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil:
    """True if SORT or SORT_RO names keys by pattern: BY with a ``*``, or GET (7.0.15 refuses even ``GET #``)."""
    cdef Py_ssize_t i = 2
    if spec.kind != KIND_SORT:
        return False
    while i < argc:
        if i >= nkept:
            return True
        if is_word(&argv[i], b"LIMIT", 5):
            i += 2
        elif is_word(&argv[i], b"STORE", 5):
            i += 1
        elif is_word(&argv[i], b"GET", 3) and i + 1 < argc:
            return True
        elif is_word(&argv[i], b"BY", 2) and i + 1 < argc:
            i += 1
            if i >= nkept or argv[i].kept < argv[i].length or _contains(&argv[i], b"*", 1):
                return True
        i += 1
    return False


cdef long _database_at(const Arg *argv, Py_ssize_t i, Py_ssize_t nkept) noexcept nogil:
    cdef long number
    if i >= nkept:
        return -1
    number = _number(&argv[i])
    return number if number >= 0 else -1


cdef long database_named(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil:
    """The database that SELECT, MOVE, SWAPDB (the larger) or COPY … DB names; -1: none, or no number."""
    cdef Py_ssize_t i
    if spec.kind == KIND_SELECT:
        return _database_at(argv, 1, nkept)
    if spec.kind == KIND_MOVE:
        return _database_at(argv, 2, nkept)
    if spec.kind == KIND_SWAPDB:
        return max(_database_at(argv, 1, nkept), _database_at(argv, 2, nkept))
    if spec.kind == KIND_COPY:
        for i in range(3, nkept):
            if is_word(&argv[i], b"DB", 2):
                return _database_at(argv, i + 1, nkept)
    return -1


# ---- the table

cdef uint32_t HASH_START = <uint32_t>2166136261  # FNV-1a


cdef class CommandTable:
    """The command table as plain C. ``names[spec.id]`` is a command's name."""

    def __cinit__(self, commands):
        """``commands``: the specs of ``protocol.commands.Table.commands``, by name."""
        cdef unsigned int size = 4
        self.names = sorted(commands)
        while size < 4 * len(self.names):
            size *= 2
        self.mask = size - 1
        self.specs = <Spec *>calloc(len(self.names) or 1, sizeof(Spec))
        self.slots = <int *>malloc(size * sizeof(int))
        if self.specs == NULL or self.slots == NULL:
            raise MemoryError
        for i in range(size):
            self.slots[i] = -1
        for i, name in enumerate(self.names):
            _fill_spec(&self.specs[i], i, commands[name])
            self._insert(i)

    def __dealloc__(self):
        free(self.specs)
        free(self.slots)

    cdef int _insert(self, int i) except -1:
        cdef Spec *spec = &self.specs[i]
        cdef unsigned int slot = _hash(HASH_START, spec.name, spec.name_length) & self.mask
        while self.slots[slot] >= 0:
            slot = (slot + 1) & self.mask
        self.slots[slot] = i
        return 0

    cdef const Spec *_get(self, const char *name, int length, unsigned int hashed) noexcept nogil:
        cdef unsigned int slot = hashed & self.mask
        cdef const Spec *spec
        while self.slots[slot] >= 0:
            spec = &self.specs[self.slots[slot]]
            if spec.name_length == length and memcmp(spec.name, name, <size_t>length) == 0:
                return spec
            slot = (slot + 1) & self.mask
        return NULL

    cdef const Spec *lookup(self, const Arg *argv, Py_ssize_t argc) noexcept nogil:
        """The spec of the command that ``argv`` names; see the .pxd."""
        cdef char name[MAX_NAME + 1]
        cdef unsigned int hashed = HASH_START
        cdef Py_ssize_t length, more
        cdef const Spec *spec
        if argc < 1:
            return NULL
        length = argv[0].length
        if length > MAX_NAME or argv[0].kept < length:
            return NULL
        hashed = _upper_hash(hashed, argv[0].ptr, length, name)
        spec = self._get(name, <int>length, hashed)
        if spec == NULL or spec.subcommand:
            return NULL
        if argc == 1 or not spec.container:
            return spec
        more = argv[1].length
        if length + 1 + more > MAX_NAME or argv[1].kept < more:
            return NULL
        name[length] = c' '
        hashed = _hash(hashed, b" ", 1)
        hashed = _upper_hash(hashed, argv[1].ptr, more, name + length + 1)
        return self._get(name, <int>(length + 1 + more), hashed)


cdef inline unsigned int _mix(unsigned int hashed, unsigned char c) noexcept nogil:
    return (hashed ^ c) * <uint32_t>16777619


cdef unsigned int _hash(unsigned int hashed, const char *name, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(length):
        hashed = _mix(hashed, <unsigned char>name[i])
    return hashed


cdef inline unsigned int _upper_hash(unsigned int hashed, const char *word, Py_ssize_t length, char *upper) noexcept nogil:
    cdef Py_ssize_t i
    cdef unsigned char c
    for i in range(length):
        c = UPPER[<unsigned char>word[i]]
        upper[i] = <char>c
        hashed = _mix(hashed, c)
    return hashed


cdef int _fill_spec(Spec *spec, int index, object command) except -1:
    name = command.name.encode()
    if len(name) > MAX_NAME or len(command.key_specs) > MAX_KEY_SPECS:
        raise ValueError(f"{command.name}: name or key specifications too long for the compiled table")
    spec.id = index
    spec.kind = command.kind
    spec.flags = command.traits
    spec.replies = command.replies
    spec.arity = command.arity
    spec.container = command.container
    spec.subcommand = b" " in name
    spec.keys_optional = "no_mandatory_keys" in command.flags
    spec.finder = command.finder
    spec.specs = len(command.key_specs)
    spec.name_length = len(name)
    memcpy(spec.name, <const char *>name, <size_t>len(name))
    for i, key_spec in enumerate(command.key_specs):
        _fill_key_spec(&spec.spec[i], command.name, key_spec)
    return 0


cdef int _fill_key_spec(KeySpec *ks, str name, object key_spec) except -1:
    keyword = key_spec.keyword.encode()
    if len(keyword) >= MAX_KEYWORD or key_spec.step < 1 or key_spec.limit < 0:
        raise ValueError(f"{name}: key specification out of range")
    ks.begin = {"index": BEGIN_INDEX, "keyword": BEGIN_KEYWORD}.get(key_spec.begin, BEGIN_UNKNOWN)
    ks.find = {"range": FIND_RANGE, "keynum": FIND_KEYNUM}.get(key_spec.find, FIND_UNKNOWN)
    ks.start = key_spec.start
    ks.keyword_length = len(keyword)
    memcpy(ks.keyword, <const char *>keyword, <size_t>len(keyword))
    ks.last = key_spec.last
    ks.first = key_spec.first
    ks.step = key_spec.step
    ks.limit = key_spec.limit
    ks.incomplete = "incomplete" in key_spec.flags
    return 0


cdef CommandTable _default = None


cdef CommandTable default_table():
    """The table that ships with shunt, compiled once."""
    global _default
    if _default is None:
        _default = CommandTable(table().commands)
    return _default


# ---- for tools and tests


@dataclass(frozen=True)
class Keys:
    """The keys are known: their argument indexes. ``shard_channels``: they are channels, no keys."""

    indexes: tuple
    shard_channels: bool = False


@dataclass(frozen=True)
class Unknown:
    """The keys can't be told: ``why`` is an ``UnknownWhy`` number."""

    why: int


cdef class _Arguments:
    """A list of bytes as an array of Arg, for as long as this object lives."""

    cdef Arg *argv
    cdef Py_ssize_t argc
    cdef list held

    def __cinit__(self, args, cut=None):
        self.held = [bytes(arg) for arg in args]
        self.argc = len(self.held)
        self.argv = <Arg *>calloc(self.argc or 1, sizeof(Arg))
        if self.argv == NULL:
            raise MemoryError
        for i, arg in enumerate(self.held):
            self.argv[i].ptr = <const char *><bytes>arg
            self.argv[i].length = len(arg)
            self.argv[i].kept = len(arg) if cut is None else min(cut, len(arg))

    def __dealloc__(self):
        free(self.argv)


def find(args, *, kept=None, cut=None):
    """Which of ``args`` (bytes, the command's name first) are keys: ``Keys`` or ``Unknown``.

    Only the first ``kept`` arguments, and of each only ``cut`` bytes, are looked at: as if the rest had not been kept.
    """
    cdef _Arguments arguments = _Arguments(args, cut)
    cdef Py_ssize_t available = arguments.argc if kept is None else min(<Py_ssize_t>kept, arguments.argc)
    cdef const Spec *spec = default_table().lookup(arguments.argv, min(available, 2))
    cdef Py_ssize_t nkeys
    cdef int *out
    cdef int rc
    if spec == NULL:
        return Unknown(WHY_NOT_IN_TABLE)
    out = <int *>malloc((arguments.argc + 1) * sizeof(int))
    if out == NULL:
        raise MemoryError
    try:
        rc = find_keys(spec, arguments.argv, arguments.argc, available, out, arguments.argc, &nkeys)
        if rc:
            return Unknown(rc)
        return Keys(tuple([out[i] for i in range(nkeys)]), bool(spec.flags & TRAIT_SHARD_CHANNEL))
    finally:
        free(out)


def lookup_name(args):
    """The ``CommandSpec`` of the command that ``args`` names, or None."""
    cdef _Arguments arguments = _Arguments(args)
    cdef const Spec *spec = default_table().lookup(arguments.argv, arguments.argc)
    return None if spec == NULL else table().commands[default_table().names[spec.id]]


def ask(args, *, kept=None, cut=None):
    """The answers of the other questions, by name, or None when the command is not in the table."""
    cdef _Arguments arguments = _Arguments(args, cut)
    cdef Py_ssize_t argc = arguments.argc
    cdef Py_ssize_t available = argc if kept is None else min(<Py_ssize_t>kept, argc)
    cdef const Spec *spec = default_table().lookup(arguments.argv, min(available, 2))
    if spec == NULL:
        return None
    return {
        "replies_due": replies_due(spec, arguments.argv, argc, available),
        "may_block": may_block(spec, arguments.argv, argc, available),
        "has_secret": has_secret(spec, arguments.argv, argc, available),
        "has_pattern": has_pattern(spec, arguments.argv, argc, available),
        "database_named": database_named(spec, arguments.argv, argc, available),
    }


def look_up_repeatedly(args, Py_ssize_t rounds):
    """Look the command up and find its keys ``rounds`` times, for measuring; returns the number of keys found."""
    cdef _Arguments arguments = _Arguments(args)
    cdef CommandTable commands = default_table()
    cdef const Spec *spec
    cdef int[64] out
    cdef Py_ssize_t nkeys = 0, total = 0, i
    with nogil:
        for i in range(rounds):
            spec = commands.lookup(arguments.argv, arguments.argc)
            if spec != NULL:
                find_keys(spec, arguments.argv, arguments.argc, arguments.argc, &out[0], 64, &nkeys)
                total += nkeys
    return total

# Table of contents of ``protocol.keyspecs`` for compiled callers. The numbers below equal ``commands.Kind``,
# ``commands.Trait``, ``commands.Replies`` and ``capture.format.UnknownWhy``; a test keeps them equal.

cdef enum:  # commands.Kind: what the session must know of a command
    KIND_PLAIN = 0
    KIND_HELLO = 1
    KIND_AUTH = 2
    KIND_SELECT = 3
    KIND_RESET = 4
    KIND_QUIT = 5
    KIND_MULTI = 6
    KIND_EXEC = 7
    KIND_DISCARD = 8
    KIND_WATCH = 9
    KIND_UNWATCH = 10
    KIND_SUBSCRIBE = 11
    KIND_PSUBSCRIBE = 12
    KIND_SSUBSCRIBE = 13
    KIND_UNSUBSCRIBE = 14
    KIND_PUNSUBSCRIBE = 15
    KIND_SUNSUBSCRIBE = 16
    KIND_MONITOR = 17
    KIND_SYNC = 18
    KIND_CLIENT_REPLY = 19
    KIND_CLIENT_SETNAME = 20
    KIND_CLIENT_TRACKING = 21
    KIND_SHUTDOWN = 22
    KIND_EVAL = 23
    KIND_EVALSHA = 24
    KIND_FCALL = 25
    KIND_SCRIPT_LOAD = 26
    KIND_REPLCONF = 27
    KIND_SWAPDB = 28
    KIND_MOVE = 29
    KIND_COPY = 30
    KIND_SORT = 31
    KIND_XREAD = 32
    KIND_ACL_SETUSER = 33
    KIND_CONFIG_SET = 34
    KIND_MIGRATE = 35
    KIND_CLIENT_ID = 36
    KIND_CLIENT_CACHING = 37
    KIND_CLIENT_KILL = 38
    KIND_FUNCTION_LOAD = 39
    KIND_PING = 40

cdef enum:  # commands.Trait: the bits of Spec.flags
    TRAIT_WRITE = 1
    TRAIT_READONLY = 2
    TRAIT_BLOCKING = 4
    TRAIT_MAYBE_BLOCKING = 8
    TRAIT_SCRIPT = 16
    TRAIT_POP = 32
    TRAIT_SERVED_FIRST = 64
    TRAIT_SECRET = 128
    TRAIT_MAYBE_SECRET = 256
    TRAIT_NODE_LOCAL = 512
    TRAIT_PUBSUB = 1024
    TRAIT_ADMIN = 2048
    TRAIT_NOSCRIPT = 4096
    TRAIT_NO_MULTI = 8192
    TRAIT_SHARD_CHANNEL = 16384

cdef enum:  # commands.Replies
    REPLIES_ONE = 0
    REPLIES_NONE = 1
    REPLIES_PER_CHANNEL = 2
    REPLIES_STREAM = 3
    REPLIES_RAW = 4
    REPLIES_AT_MOST_ONE = 5

cdef enum:  # capture.format.UnknownWhy
    WHY_NOTHING = 0
    WHY_NOT_IN_TABLE = 1
    WHY_NO_KEY_SPEC = 2
    WHY_BAD_ARGUMENTS = 3
    WHY_TOO_MANY_ARGUMENTS = 4
    WHY_ARGUMENT_CUT = 5

cdef enum:
    MAX_KEY_SPECS = 4
    MAX_NAME = 63
    MAX_KEYWORD = 24

cdef struct Arg:
    const char *ptr  # first byte kept
    Py_ssize_t length  # whole length of the argument
    Py_ssize_t kept  # bytes available at ptr (== length unless cut)

cdef struct KeySpec:
    int begin  # 0: at index `start`; 1: behind `keyword`, searched from `start`; 2: unknown
    int start
    char keyword[MAX_KEYWORD]  # upper case
    int keyword_length
    int find  # 0: range; 1: a key count; 2: unknown
    int last  # range: lastkey; key count: keynumidx
    int first  # key count: firstkey
    int step
    int limit
    bint incomplete

cdef struct Spec:  # one command or subcommand; lives as long as its CommandTable
    int id  # index into CommandTable.names
    int kind
    unsigned int flags  # TRAIT_…
    int replies  # REPLIES_…
    int arity  # as in Redis: counts the name; negative: at least
    bint container  # has subcommands: this is the bare word ("CLIENT" alone)
    bint subcommand
    bint keys_optional  # a key count of 0 is allowed: EVAL
    int finder  # which special finder, 0: the key specs alone
    int specs
    KeySpec spec[MAX_KEY_SPECS]
    char name[MAX_NAME + 1]  # upper case, "CLIENT SETNAME"; ends with a zero byte
    int name_length

cdef class CommandTable:
    cdef readonly list names  # index -> "CLIENT SETNAME"
    cdef Spec *specs
    cdef int *slots
    cdef unsigned int mask
    # The command's or subcommand's spec, by name in any case. NULL: not in the table (an unknown subcommand of a
    # container too). argc: arguments available; two are looked at, at most.
    cdef int _insert(self, int i) except -1
    cdef const Spec *_get(self, const char *name, int length, unsigned int hashed) noexcept nogil
    cdef const Spec *lookup(self, const Arg *argv, Py_ssize_t argc) noexcept nogil

# Which arguments are keys. argc: arguments that the client sent; nkept <= argc: entries of argv available.
# out gets the indexes of the first min(nkeys, cap) keys; nkeys their exact number. Returns WHY_…: 0, or why the keys
# can't be told. Then nkeys is 0 and out is empty, with one exception: WHY_TOO_MANY_ARGUMENTS with nkeys > 0 means that
# where they are is known, but some lie at nkept or behind (out has such indexes too: compare before reading argv).
# With TRAIT_SHARD_CHANNEL the "keys" are shard channels: they decide the slot and are no keys.
cdef int find_keys(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept, int *out, Py_ssize_t cap,
                   Py_ssize_t *nkeys) noexcept nogil

# The questions that need more than the spec. "Maybe" answers with the cautious side where arguments are missing.
# REPLIES_…, with REPLCONF ACK and GETACK looked at (CLIENT REPLY is the session's business).
cdef int replies_due(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil
# True if the command may wait in Redis: BRPOP always, XREAD with BLOCK.
cdef bint may_block(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil
# True if the arguments hold a secret: AUTH; HELLO … AUTH; CONFIG SET of a password; MIGRATE … AUTH.
cdef bint has_secret(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil
# True if SORT names keys by pattern (BY with a *, GET): a cluster refuses it.
cdef bint has_pattern(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil
# The database that SELECT n, MOVE key n, COPY … DB n name; -1: none or no number. SWAPDB: the larger one.
cdef long database_named(const Spec *spec, const Arg *argv, Py_ssize_t argc, Py_ssize_t nkept) noexcept nogil
# True if the argument equals the upper-case word, in any case.
cdef bint is_word(const Arg *arg, const char *word, Py_ssize_t length) noexcept nogil

cdef CommandTable default_table()

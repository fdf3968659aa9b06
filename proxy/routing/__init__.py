"""Where commands go, and when they wait: pure machines and nouns, without sockets, clocks or files."""

"""Where time and bytes are spent needlessly: the studies of costs as one.

Knows: which studies these are, and what rules are told of them. Refuses to know: how each finds what it finds.
"""

from __future__ import annotations

import pyarrow as pa

from proxy.report.costs import Costs
from proxy.report.document import Overview
from proxy.report.rules.costs import CostFacts, HotKey, judge_costs
from proxy.report.studies.chatter import Chatter
from proxy.report.studies.costs import CostSites
from proxy.report.studies.patterns import Patterns
from proxy.report.study import Database, Study

#: Lines of the report; all tables say what they leave out.
MOST_PATTERNS = 500
MOST_SLOW = 200
HOT_KEYS = 20
#: Busiest keys, as ``studies.traffic`` counted them.
_HOT = f"SELECT key, sum(n)::BIGINT AS n FROM keys GROUP BY key ORDER BY n DESC, key LIMIT {HOT_KEYS}"


class Spending(Study):
    """Patterns, sites and chatter, and what the rules say of them."""

    def __init__(self, db: Database, patterns: Patterns, slow_ns: int) -> None:
        super().__init__(db)
        self._slow_ns = slow_ns
        self._patterns = patterns
        self._sites = CostSites(db, patterns, slow_ns)
        self._chatter = Chatter(db, patterns)

    def take(self, exchanges: pa.Table) -> None:
        self._sites.take(exchanges)
        self._chatter.take(exchanges)

    def costs(self, overview: Overview) -> Costs:
        """What is slow and costly, and what to do."""
        slow = self._sites.slow(overview.first_ts, overview.last_ts)
        facts = CostFacts((*self._sites.sites(), *self._chatter.sites()), self._hot(overview))
        return Costs(
            slow_ns=self._slow_ns,
            slow_count=sum(line.count for line in slow),
            slow=slow[:MOST_SLOW],
            patterns=self._patterns.lines()[:MOST_PATTERNS],
            advice=judge_costs(facts),
            uncounted=self._patterns.uncounted,
            looked_at=self._chatter.looked_at,
        )

    def _hot(self, overview: Overview) -> tuple[HotKey, ...]:
        seconds = max(1.0, (overview.last_ts - overview.first_ts) / 1e9)
        commands = max(1, overview.commands)
        return tuple(HotKey(key, n, n / commands, n / seconds) for key, n in self._db.rows(_HOT))

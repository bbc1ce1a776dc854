import sys, pytest
sys.path.insert(0, "/work/wt/machine/tests/execution")
from hypothesis import settings, HealthCheck
from hypothesis.stateful import run_state_machine_as_test
import test_execution_machine as m
import collections
def test_soak(mei_settings):
    stats = collections.Counter()
    class Executor(m.Executor):
        def look_at(self, event, facts):
            for f in facts: 
                stats[type(f).__name__] += 1
                if isinstance(f, m.Decided):
                    for o in f.orders: stats["order " + o.intent.purpose] += 1
            stats[type(event).__name__] += 1
            super().look_at(event, facts)
        def crash(self):
            stats["crash"] += 1
            super().crash()
        def teardown(self):
            super().teardown()
            for o in self.lane.state.orders.values(): stats["end " + o.state] += 1
            stats["foreign"] += bool(self.lane.state.foreign)
    machine = type("Executor", (Executor,), {"mei_settings": mei_settings})
    import os
    run_state_machine_as_test(machine, settings=settings(max_examples=int(os.environ["N"]), stateful_step_count=int(os.environ["S"]), derandomize=False, database=None, deadline=None, suppress_health_check=list(HealthCheck)))
    print(sorted(stats.items()))

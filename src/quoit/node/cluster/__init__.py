"""Floor 5: what all nodes know of the cluster: its nodes, where shards belong, jobs and settings.

The truth is one record in the *meta* shard, a replicated group like any other whose only slot lies behind
those of the ring (state.py). It is changed by named changes (changes.py), which are run by the meta
shard's leader as commands are and whose effects are agreed on. Every node keeps a copy (meta.py) and works
from it when the meta shard is away. Whoever leads the meta shard runs the rebalancer.

Members and slots of a shard are agreed on in the shard's own log; what stands here is where they shall be.
"""

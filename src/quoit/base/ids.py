"""Names for the numbers that identify things. Aliases, not NewTypes: they cost nothing at run time.

NodeId   a node of the cluster, 1..n, given at cluster creation (0 is "no node")
ShardId  a shard, 0..S-1
Slot     0..16383, CRC16 of a key's hash tag
Term     Raft's term (Multi-Paxos: the ballot's number), from 0 up
Index    position in a shard's log, from 1 up (0 is "before the first entry")
"""

from typing import TypeAlias

__all__ = ["Index", "NodeId", "ShardId", "Slot", "Term"]

NodeId: TypeAlias = int
ShardId: TypeAlias = int
Slot: TypeAlias = int
Term: TypeAlias = int
Index: TypeAlias = int

"""Floor 2: Multi-Paxos as a pure value machine; `paxos.Paxos` implements `quorum.agreement.Agreement`.

Owns: one shard's instances in memory, elections (phase 1), replication (phase 2), leases, proofs for
reads, transfer, reconfiguration and who needs a snapshot. Follows Lamport, *The Part-Time Parliament*
(section 3, the multi-decree protocol) and *Paxos Made Simple* (section 3); Chandra, Griesemer and Redstone,
*Paxos Made Live* (sections 5.1 on damaged disks, 5.2 on master leases, 5.5 on snapshots); Howard, Malkhi
and Spiegelman, *Flexible Paxos* (quorums that need only meet across the two phases).

Instances are accepted in any order, and applied in order. Promises: at most one value is chosen per
instance, under loss, duplication, delay and crashes that forget what was not synced; and, for the state
machine above, that what a leader proposed on top of its earlier proposals takes effect only if those
did (values.py), which Multi-Paxos by itself does not promise.

Reconfiguration is an entry behind which its leader proposes nothing until it is applied
(members.py). See docs/explanation/raft-paxos-write-all.md for a comparison with Raft.
"""

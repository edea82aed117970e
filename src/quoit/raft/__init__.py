"""Floor 2: Raft as a pure value machine; `raft.Raft` implements `quorum.agreement.Agreement`.

Owns: one shard's log in memory, elections, replication, leases, proofs for reads, transfer and who
needs a snapshot. Promises figure 3 of the Raft paper, also when messages are lost, doubled or years
late, when a crash forgets what was not synced, and, for a replica that knows it lost synced data,
that it is not counted before a current leader has made it whole. See raft.py for papers and
deviations; tests/golden/raft/scripts are readable transcripts.
"""

"""Checkers: each looks at one promise, and each can say no. faults.md section 4 is their law.

linearizable  every key behaves as one string that clients change one at a time
durability    acknowledged writes are in every replica's data at the end
election      at most one leader per term and shard; a new leader holds all that was committed
log_matching  entries with the same index and term are the same, and so is everything before them
replicas      equal data at equal applied index; nobody applies another entry at an index
"""

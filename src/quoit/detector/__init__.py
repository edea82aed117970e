"""Failure detection: which nodes are live, suspect, unreachable, dead, as one node sees it. A pure
value machine, which node/liveness.py runs. Times are microseconds of the node's own clock
(`Clock.now_us`), never compared with another node's.

What to call (`Detector`, one per node):

  constructor          `incarnation` must be higher than in all earlier lives of this node and > 0 (for
                       example wall_ms at the start, or a counter in the data directory).
  heard(peer, now)     for every frame from a peer, whatever is in it: frames are the heartbeats. On a link
                       with traffic the detector sends nothing.
  step(peer, m, now)   for every detector message in a frame (Ping, PingRequest, PingAck, tags 120 to 122
                       for the frame's list of other messages). Includes `heard`.
  connection(...)      when the connection to a peer was made or lost. A loss begins a suspicion at
                       once, without waiting for silence.
  synced(latency)      after each sync of the log, and at ticks with the age of one that is under way.
  tick(now)            every `tick_us`, best after the frames that had arrived.
  add_peer, remove_peer  as nodes join and leave.
  messages(), events() at the end of each turn. Messages are small and may be lost; send them as urgent
                       frames, so that bulk data does not make a peer look dead.

What comes out (`Event`):

  SUSPECT      silent for too long. Nothing to do; a leader may prefer others.
  UNREACHABLE  neither this node nor its helpers reach it. Not dead: send clients elsewhere, move no data.
  LIVE         heard again.
  DEAD         unreachable for `dead_after_us`. This is one node's view: who acts on it (the
               leader of a shard) does so through the log, where the members are agreed on, and
               tells the other nodes, which call `mark_dead`. After a restart of this node call
               `mark_dead` for those that the cluster holds for dead: the detector keeps nothing on disk.
  RETURNED     a dead peer was heard. It stays DEAD here until its replicas were brought up to date or
               retired: then call `readmit` (or `remove_peer`). Until then give it no replica and
               count none of its answers as those of a member. Its earlier data never counts again.
  RESTARTED    it has a new incarnation: it began another life.

Invariants: DEAD is left only through `readmit` or `remove_peer`; UNREACHABLE comes only after SUSPECT and
`rounds` rounds of probes without an answer; DEAD only after UNREACHABLE (or `mark_dead`) and never
while this node is isolated (in touch with no majority of the nodes it knows).
"""

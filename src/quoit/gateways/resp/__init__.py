"""The Redis protocol: clients' bytes in, commands to the node, replies in order out.

gateway.py      what all connections of a node share; makes connections
connection.py   one connection: the hot path, reply slots, backpressure
transaction.py  MULTI's queue and what EXEC does with it
splice.py       takes an encoded array of replies apart
slot_keys.py    the keys of one slot, by a chain of SCANs
own.py          declares commands that the gateway answers itself; commands/ holds them

Clients that know no cluster never see a redirection: the node forwards what another one leads.
Clients that ask for the map (CLUSTER SLOTS, SHARDS, NODES) save that hop.
"""

"""The watch: keeps the machine as the desired file says, for months.

`watch.py` is the loop: whatever happens only wakes it; it looks, plans, guards, and lets lanes
carry the plan's parts out. `following.py` knows what is wanted, `pulses.py` which servers are
wedged, `lanes.py` and `turn.py` how many things go on at once without being in anybody's way.
"""

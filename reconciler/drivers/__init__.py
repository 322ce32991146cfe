"""The drivers: one outside thing each, behind the Protocols of `base`.

They translate foreign errors into ours at their edge. They decide nothing.
"""
